package fifo_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind/fifo"
	"ckpt/kind/kindtest"
)

func mkfifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "queue")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { f.Close() })
	return f
}

func write(t *testing.T, f *os.File, s string) {
	t.Helper()
	if _, err := unix.Write(int(f.Fd()), []byte(s)); err != nil {
		t.Fatal(err)
	}
}

// read gives what is there without waiting: "" at the end of the input.
func read(t *testing.T, f *os.File) (string, error) {
	t.Helper()
	if err := unix.SetNonblock(int(f.Fd()), true); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := unix.Read(int(f.Fd()), b)
	return string(b[:max(n, 0)]), err
}

func events(t *testing.T, f *os.File) int16 {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}
	if _, err := unix.Poll(p, 0); err != nil {
		t.Fatal(err)
	}
	return p[0].Revents
}

func TestBothEnds(t *testing.T) {
	path := mkfifo(t)
	both := open(t, path, unix.O_RDWR)
	w := open(t, path, unix.O_WRONLY)
	write(t, w, "queued")
	b := kindtest.New(t, fifo.Kind)
	saved := b.Dump(both, w)
	// The container is gone, and with it what was in the FIFO.
	both.Close()
	w.Close()
	got := b.Restore(saved)
	write(t, got[1], " and more")
	if s, err := read(t, got[0]); err != nil || s != "queued and more" {
		t.Errorf("read %q, %v", s, err)
	}
	// The restored FIFO is the one that has the name.
	write(t, open(t, path, unix.O_WRONLY|unix.O_NONBLOCK), "from outside")
	if s, err := read(t, got[0]); err != nil || s != "from outside" {
		t.Errorf("read %q, %v", s, err)
	}
}

func TestReaderAlone(t *testing.T) {
	path := mkfifo(t)
	r := open(t, path, unix.O_RDONLY|unix.O_NONBLOCK)
	fresh := kindtest.File(t, fifo.Kind, r)[0]
	if e := events(t, fresh); e != 0 {
		t.Errorf("a reader that saw no writer: events %#x, want none", e)
	}
	fresh.Close()
	w := open(t, path, unix.O_WRONLY)
	write(t, w, "last words")
	w.Close()
	b := kindtest.New(t, fifo.Kind)
	saved := b.Dump(r)
	r.Close()
	got := b.Restore(saved)[0]
	if e := events(t, got); e != unix.POLLIN|unix.POLLHUP {
		t.Errorf("a reader whose writer went: events %#x, want %#x", e, unix.POLLIN|unix.POLLHUP)
	}
	if s, err := read(t, got); err != nil || s != "last words" {
		t.Errorf("read %q, %v", s, err)
	}
	if s, err := read(t, got); err != nil || s != "" {
		t.Errorf("read %q, %v; want the end", s, err)
	}
}

func TestWriterAlone(t *testing.T) {
	path := mkfifo(t)
	r := open(t, path, unix.O_RDONLY|unix.O_NONBLOCK)
	w := open(t, path, unix.O_WRONLY)
	write(t, w, "for the next reader")
	r.Close()
	b := kindtest.New(t, fifo.Kind)
	saved := b.Dump(w)
	w.Close()
	b.Restore(saved)
	if s, err := read(t, open(t, path, unix.O_RDONLY|unix.O_NONBLOCK)); err != nil || s != "for the next reader" {
		t.Errorf("read %q, %v", s, err)
	}
}

func TestDeleted(t *testing.T) {
	path := mkfifo(t)
	f := open(t, path, unix.O_RDWR)
	w := open(t, path, unix.O_WRONLY)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, f, "tokens")
	got := kindtest.File(t, fifo.Kind, f, w)
	write(t, got[1], "!")
	if s, err := read(t, got[0]); err != nil || s != "tokens!" {
		t.Errorf("read %q, %v", s, err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRefused(t *testing.T) {
	path := mkfifo(t)
	r := open(t, path, unix.O_RDONLY|unix.O_NONBLOCK)
	w := open(t, path, unix.O_WRONLY)
	for _, f := range []*os.File{r, w} {
		if err := kindtest.Refused(t, fifo.Kind, f); !errors.Is(err, failure.ErrUnsupported) || len(failure.Hints(err)) == 0 {
			t.Errorf("the other end is outside: %v", err)
		}
	}
}

// It is the FIFO that its other name leads to.
func TestOtherName(t *testing.T) {
	path := mkfifo(t)
	f := open(t, path, unix.O_RDWR)
	if err := errors.Join(os.Link(path, path+"2"), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	other := open(t, path+"2", unix.O_RDWR)
	want, got := new(unix.Stat_t), new(unix.Stat_t)
	restored := kindtest.File(t, fifo.Kind, f)[0]
	if err := errors.Join(unix.Fstat(int(other.Fd()), want), unix.Fstat(int(restored.Fd()), got)); err != nil || got.Ino != want.Ino {
		t.Errorf("inode %d (%v), want %d", got.Ino, err, want.Ino)
	}
}

func TestInUseAtRestore(t *testing.T) {
	path := mkfifo(t)
	f := open(t, path, unix.O_RDWR)
	write(t, f, "mine")
	b := kindtest.New(t, fifo.Kind)
	saved := b.Dump(f)
	if _, _, err := b.TryRestore(saved); err == nil || !strings.Contains(err.Error(), "is in use: it holds 4 bytes") {
		t.Error(err)
	}
}

func TestGoneAtRestore(t *testing.T) {
	path := mkfifo(t)
	f := open(t, path, unix.O_RDWR)
	b := kindtest.New(t, fifo.Kind)
	saved := b.Dump(f)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, _, err := b.TryRestore(saved)
	if err == nil || err.Error() != path+" is gone: it was a FIFO" {
		t.Error(err)
	}
}
