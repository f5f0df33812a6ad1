package regfile_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/kind/kindtest"
	"ckpt/kind/regfile"
)

func empty(t *testing.T, dir string, but ...string) {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != len(but) {
		t.Errorf("%s holds %v (%v), want %q", dir, names, err, but)
	}
}

// Two descriptions of a deleted sparse file: one file again, holes kept.
func TestDeleted(t *testing.T) {
	path := file(t, "")
	in := open(t, path, unix.O_RDWR)
	const size = 8 << 20
	if err := in.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 1 << 20, size - 3} {
		if _, err := in.WriteAt([]byte("abc"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(path, time.Unix(11, 0), time.Unix(12, 34567)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fchown(int(in.Fd()), 1000, 1001); err != nil {
		t.Fatal(err)
	}
	attributes := map[string]string{"user.empty": "", "user.test": "value\x00", "trusted.test": "secret"}
	for name, value := range attributes {
		if err := unix.Fsetxattr(int(in.Fd()), name, []byte(value), 0); err != nil {
			t.Fatalf("set %s: %v", name, err)
		}
	}
	reader := open(t, path, unix.O_RDONLY)
	seek(t, reader, 1<<20)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	b := kindtest.New(t, regfile.Kind)
	saved := b.Dump(in, reader)
	if st, err := os.Stat(filepath.Join(saved.Dir, "ghost-file-1.img")); err != nil || st.Size() > size/2 {
		t.Errorf("holes were written: %d bytes (%v)", st.Size(), err)
	}
	got := b.Restore(saved)
	for i, f := range []*os.File{in, reader} {
		old, st := stat(t, f), stat(t, got[i])
		if st.Size != size || st.Mode != old.Mode || st.Uid != old.Uid || st.Gid != old.Gid || st.Nlink != 0 || st.Mtim != old.Mtim {
			t.Errorf("restored as %+v, want %+v", st, old)
		}
		if st.Blocks > old.Blocks {
			t.Errorf("%d blocks, want %d", st.Blocks, old.Blocks)
		}
		if link(t, got[i]) != link(t, f) {
			t.Errorf("link %q, want %q", link(t, got[i]), link(t, f))
		}
	}
	for name, want := range attributes {
		value := make([]byte, 16)
		if n, err := unix.Fgetxattr(int(got[1].Fd()), name, value); err != nil || string(value[:n]) != want {
			t.Errorf("%s is %q (%v), want %q", name, value[:max(n, 0)], err, want)
		}
	}
	buf := make([]byte, 4)
	if _, err := unix.Read(int(got[1].Fd()), buf); err != nil || string(buf) != "abc\x00" {
		t.Errorf("read %q, %v", buf, err)
	}
	if _, err := got[0].WriteAt([]byte("shared"), 5000); err != nil {
		t.Fatal(err)
	}
	buf = make([]byte, 6)
	if _, err := got[1].ReadAt(buf, 5000); err != nil || string(buf) != "shared" {
		t.Errorf("the two descriptions are of two files: %q, %v", buf, err)
	}
	if _, err := in.ReadAt(buf, 5000); err != nil || string(buf) == "shared" {
		t.Errorf("the old file changed: %q, %v", buf, err)
	}
	empty(t, filepath.Dir(path))
}

func TestReplaced(t *testing.T) {
	path := file(t, "old")
	in := open(t, path, unix.O_RDONLY)
	if err := os.WriteFile(path+".new", []byte("brand new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if s := all(t, kindtest.File(t, regfile.Kind, in)[0]); s != "old" {
		t.Errorf("read %q", s)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "brand new" {
		t.Errorf("the new file holds %q, %v", b, err)
	}
	empty(t, filepath.Dir(path), "data.bin")
}

func TestDeletedWithItsDirectory(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "a", "b")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := []*os.File{open(t, filepath.Join(dir, "f"), unix.O_RDONLY), open(t, dir, unix.O_RDONLY|unix.O_DIRECTORY)}
	if err := os.RemoveAll(filepath.Join(base, "a")); err != nil {
		t.Fatal(err)
	}
	got := kindtest.File(t, regfile.Kind, in...)
	if s := all(t, got[0]); s != "text" {
		t.Errorf("read %q", s)
	}
	if st := stat(t, got[1]); st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Nlink != 0 {
		t.Errorf("the deleted directory became mode %#o with %d links", st.Mode, st.Nlink)
	}
	if n, err := got[1].Readdirnames(-1); !errors.Is(err, unix.ENOENT) || len(n) != 0 { // as in any deleted directory
		t.Errorf("it holds %v, %v", n, err)
	}
	empty(t, base)
}

// A file made with O_TMPFILE can still be given a name.
func TestTmpfile(t *testing.T) {
	dir := t.TempDir()
	in := open(t, dir, unix.O_TMPFILE|unix.O_RDWR)
	if _, err := in.WriteString("draft"); err != nil {
		t.Fatal(err)
	}
	got := in
	for range 2 { // the second dump is of what the first restore made
		got = kindtest.File(t, regfile.Kind, got)[0]
	}
	if flags(t, got) != flags(t, in) {
		t.Errorf("flags %#o, want %#o", flags(t, got), flags(t, in))
	}
	if _, err := got.WriteString(" done"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "final")
	if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", got.Fd()), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "draft done" {
		t.Errorf("it holds %q, %v", b, err)
	}
}

func TestNameThatLooksDeleted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x (deleted)")
	if err := os.WriteFile(path, []byte("here"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := kindtest.File(t, regfile.Kind, open(t, path, unix.O_RDONLY))[0]
	if link(t, got) != path || strings.HasSuffix(link(t, got), "(deleted) (deleted)") {
		t.Errorf("restored as %s", link(t, got))
	}
}
