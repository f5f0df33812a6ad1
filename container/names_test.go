package container

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNames: of what a killed restore has noted goes just what it has made, and what
// it has removed comes back.
func TestNames(t *testing.T) {
	s, dir := NewStore(t.TempDir()), t.TempDir()
	c := &Container{store: s, dir: filepath.Join(s.dir, "a")}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) { check(os.WriteFile(at(name), []byte(text), 0o600)) }
	put(t, c.dir, lockFile)
	n, err := s.NoteNames("a")
	check(err)
	for name, mode := range map[string]uint32{"dir": unix.S_IFDIR, "full": unix.S_IFDIR, "ghost": unix.S_IFREG, "written": unix.S_IFREG, "socket": unix.S_IFSOCK,
		"other": unix.S_IFSOCK, "never": unix.S_IFREG} {
		check(n.Making(at(name), mode))
	}
	check(n.Removing(at("stale"), unix.S_IFSOCK|0o640, uint32(os.Getuid()), uint32(os.Getgid())))
	check(n.Removing(at("kept"), unix.S_IFSOCK|0o600, 0, 0))
	check(n.Removing(at("replaced"), unix.S_IFSOCK|0o640, uint32(os.Getuid()), uint32(os.Getgid())))
	_, err = n.f.WriteString(`{"path":"` + dir) // it was killed over this one
	check(err)
	check(n.Close())
	check(os.Mkdir(at("dir"), 0o700))
	check(os.Mkdir(at("full"), 0o700))
	write("full/file", "")
	write("ghost", "")
	write("written", "by somebody else")
	check(unix.Mknod(at("socket"), unix.S_IFSOCK|0o600, 0))
	write("other", "")
	write("kept", "")
	check(unix.Mknod(at("replaced"), unix.S_IFSOCK|0o600, 0))
	if swept, err := s.Sweep("a"); err != nil || !swept {
		t.Errorf("swept: %v, %v", swept, err)
	}
	ents, err := os.ReadDir(dir)
	check(err)
	var left []string
	for _, e := range ents {
		left = append(left, e.Name())
	}
	if got := strings.Join(left, " "); got != "full kept other replaced stale written" {
		t.Errorf("left: %s", got)
	}
	for _, name := range []string{"stale", "replaced"} {
		if st, err := os.Lstat(at(name)); err != nil || st.Mode() != os.ModeSocket|0o640 {
			t.Errorf("%s is %v (%v)", name, st, err)
		}
	}
	if _, err := os.Lstat(c.dir); !os.IsNotExist(err) {
		t.Errorf("its directory is left (%v)", err)
	}
	if swept, err := s.Sweep("a"); err != nil || swept {
		t.Errorf("swept once more: %v, %v", swept, err)
	}
}

// TestOldNames: a file that has a noted name much later is another's.
func TestOldNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (Name{Path: path, Mode: unix.S_IFREG, At: time.Now().Add(-time.Minute)}).undo(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}
