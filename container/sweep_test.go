package container

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// put makes a directory with files, empty ones.
func put(t *testing.T, dir string, names ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func files(t *testing.T, dir string) (n int) {
	t.Helper()
	ents, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return len(ents)
}

// What a supervisor has left that was killed goes, at whatever it was killed; what is
// somebody's stays whole, also where some files of it are called as ckpt's.
func TestSweep(t *testing.T) {
	for _, c := range []struct {
		what  string
		files []string
		swept bool
	}{
		{"the directory alone", nil, true},
		{"before the log was named", []string{lockFile, makingFile, newLog}, true},
		{"after the image was noted, over the record", []string{lockFile, makingFile, logFile, imagesFile, newPrefix + "1"}, true},
		{"another's, with a log", []string{logFile, "main.c"}, false},
		{"another's, with a log alone", []string{logFile}, false},
		{"another's, with a lock", []string{lockFile, logFile, "main.c"}, false},
	} {
		s := NewStore(t.TempDir())
		dir := filepath.Join(s.Dir(), "a")
		put(t, dir, c.files...)
		swept, err := s.Sweep("a")
		if swept != c.swept || err != nil {
			t.Errorf("%s: swept %v (%v)", c.what, swept, err)
		}
		if n := files(t, dir); !c.swept && n != len(c.files) {
			t.Errorf("%s: %d of %d files are left", c.what, n, len(c.files))
		}
		if _, err := os.Lstat(dir); c.swept != errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the directory: %v", c.what, err)
		}
	}
}

// A container that is being made is not swept away.
func TestSweepOfAClaim(t *testing.T) {
	s := NewStore(t.TempDir())
	cl, err := s.claim("a", true)
	if err != nil {
		t.Fatal(err)
	}
	if swept, err := s.Sweep("a"); swept || err != nil {
		t.Fatalf("swept %v (%v)", swept, err)
	}
	if err := cl.undo(); err != nil {
		t.Fatal(err)
	}
}

// A claim that fails in what a killed one has left leaves nothing either, however far
// it has come.
func TestUndoAfterAKilledClaim(t *testing.T) {
	for _, committed := range []bool{false, true} {
		s := NewStore(t.TempDir())
		dir := filepath.Join(s.Dir(), "a")
		put(t, dir, lockFile, makingFile, logFile)
		cl, err := s.claim("a", true)
		if err != nil {
			t.Fatal(err)
		}
		if committed {
			if err := cl.commit(Record{Name: "a", Init: os.Getpid()}); err != nil {
				t.Fatal(err)
			}
		}
		if err := cl.undo(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("committed %v: %d files are left (%v)", committed, files(t, dir), err)
		}
	}
}

// Whoever asks for a lock of a container just when it is forgotten leaves nothing.
func TestForgetWhileOthersLook(t *testing.T) {
	s := NewStore(t.TempDir())
	dir := filepath.Join(s.Dir(), "a")
	put(t, filepath.Join(s.Dir(), ".gone-a"), logFile) // a removal that was killed
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		c := &Container{store: s, dir: dir}
		for {
			select {
			case <-stop:
				return
			default:
			}
			if f, err := c.notDumping(); err == nil {
				f.Close()
			}
		}
	}()
	for i := range 300 {
		put(t, dir, lockFile, makingFile, logFile)
		c := &Container{store: s, dir: dir}
		if err := s.locked(c.forget); err != nil {
			t.Fatal(i, err)
		}
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Fatal(i, "it is left", err)
		}
	}
	close(stop)
	<-done
	if n := files(t, s.Dir()); n != 1 { // .lock
		t.Errorf("%d files are left", n)
	}
}
