package regfile_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/kind/regfile"
)

func open(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o640)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { f.Close() })
	return f
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data.bin")
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

func seek(t *testing.T, f *os.File, to int64) {
	t.Helper()
	if _, err := f.Seek(to, io.SeekStart); err != nil {
		t.Fatal(err)
	}
}

func flags(t *testing.T, f *os.File) int {
	t.Helper()
	n, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func link(t *testing.T, f *os.File) string {
	t.Helper()
	l, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func all(t *testing.T, f *os.File) string {
	t.Helper()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func stat(t *testing.T, f *os.File) (st unix.Stat_t) {
	t.Helper()
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st
}

func TestPositionAndFlags(t *testing.T) {
	path := file(t, "0123456789")
	for _, f := range []int{
		unix.O_RDONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_APPEND, unix.O_RDWR | unix.O_CREAT | unix.O_SYNC,
		unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOATIME, unix.O_RDONLY | unix.O_DIRECT,
		unix.O_RDWR | unix.O_ASYNC,
	} {
		in := open(t, path, f)
		seek(t, in, 4)
		out := kindtest.File(t, regfile.Kind, in)[0]
		if flags(t, out) != flags(t, in) {
			t.Errorf("flags %#o, want %#o", flags(t, out), flags(t, in))
		}
		if at, err := out.Seek(0, io.SeekCurrent); err != nil || at != 4 {
			t.Errorf("flags %#o: position %d (%v), want 4", f, at, err)
		}
		seek(t, out, 0)
		if at, err := in.Seek(0, io.SeekCurrent); err != nil || at != 4 {
			t.Errorf("flags %#o: the restored description shares the old one's position", f)
		}
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	for i := range 300 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := open(t, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	buf := make([]byte, 4096)
	// A signal, as Go's runtime has for its own threads, ends a call after any name
	// (filldir64() in fs/readdir.c): after "..", too.
	for read := 0; read < len(buf)/2; {
		n, err := unix.Getdents(int(in.Fd()), buf)
		if err != nil {
			t.Fatal(err)
		}
		read += n
	}
	out := kindtest.File(t, regfile.Kind, in)[0]
	want, err1 := in.Readdirnames(-1)
	got, err2 := out.Readdirnames(-1)
	if err1 != nil || err2 != nil || len(got) == 0 || len(got) > 299 || !slices.Equal(got, want) {
		t.Errorf("the rest is %d names, want %d (%v, %v)", len(got), len(want), err1, err2)
	}
}

func TestDevices(t *testing.T) {
	var in []*os.File
	paths := []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}
	if unix.Access("/dev/console", unix.W_OK) == nil { // root's
		paths = append(paths, "/dev/console")
	}
	for _, p := range paths {
		in = append(in, open(t, p, unix.O_RDWR|unix.O_NOCTTY))
	}
	for i, f := range kindtest.File(t, regfile.Kind, in...) {
		if stat(t, f).Rdev != stat(t, in[i]).Rdev {
			t.Errorf("%s became device %#x", paths[i], stat(t, f).Rdev)
		}
	}
	err := kindtest.Refused(t, regfile.Kind, open(t, "/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK))
	if !errors.Is(err, failure.ErrUnsupported) || !strings.Contains(err.Error(), "/dev/kmsg is a character device (1:11)") {
		t.Error(err)
	}
}

func TestPathDescriptors(t *testing.T) {
	path := file(t, "x")
	sym := path + ".link"
	if err := os.Symlink(path, sym); err != nil {
		t.Fatal(err)
	}
	fifo := path + ".fifo"
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	in := []*os.File{
		open(t, path, unix.O_PATH), open(t, filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY),
		open(t, sym, unix.O_PATH|unix.O_NOFOLLOW), open(t, fifo, unix.O_PATH),
	}
	for i, f := range kindtest.File(t, regfile.Kind, in...) {
		if link(t, f) != link(t, in[i]) || flags(t, f) != flags(t, in[i]) {
			t.Errorf("%s %#o, want %s %#o", link(t, f), flags(t, f), link(t, in[i]), flags(t, in[i]))
		}
	}
}

func TestProcFile(t *testing.T) {
	in := open(t, "/proc/self/status", unix.O_RDONLY)
	b := make([]byte, 6)
	if _, err := io.ReadFull(in, b); err != nil {
		t.Fatal(err)
	}
	out := kindtest.File(t, regfile.Kind, in)[0]
	if link(t, out) != fmt.Sprintf("/proc/%d/status", os.Getpid()) {
		t.Errorf("restored as %s", link(t, out))
	}
	if s := all(t, out); !strings.Contains(s, fmt.Sprintf("\nPid:\t%d\n", os.Getpid())) || strings.HasPrefix(s, "Name:") {
		t.Errorf("read on: %q", s)
	}
}

func TestChangedSinceTheDump(t *testing.T) {
	tests := []struct {
		name   string
		flags  int
		change func(path string) error
		allow  bool
		want   string // "" : restored
		hint   string
	}{
		{"grown", unix.O_RDWR, func(p string) error { return os.Truncate(p, 8192) }, false,
			"PATH changed since the dump: 4096 bytes then, 8192 now",
			"put the old file back, or accept the new one with --allow-changed PATH"},
		{"grown and allowed", unix.O_RDWR, func(p string) error { return os.Truncate(p, 8192) }, true, "", ""},
		{"only appended to", unix.O_WRONLY | unix.O_APPEND, func(p string) error { return os.Truncate(p, 8192) }, false, "", ""},
		{"rewritten, same size", unix.O_RDONLY, func(p string) error { return os.Chtimes(p, time.Time{}, time.Unix(1, 0)) }, false, "", ""},
		{"gone", unix.O_RDONLY, os.Remove, false, "PATH is gone since the dump: it was a file of 4096 bytes", "put it back"},
		{"gone and allowed", unix.O_RDONLY, os.Remove, true, "PATH is gone since the dump: it was a file of 4096 bytes", "put it back"},
		{"now a directory", unix.O_RDONLY, func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }, false,
			"PATH was a file when it was saved, and is a directory now", "put the old file back"},
		{"now a FIFO", unix.O_RDONLY, func(p string) error { return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o700)) }, true,
			"PATH was a file when it was saved, and is a FIFO now", "put the old file back"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := file(t, strings.Repeat("x", 4096))
			b := kindtest.New(t, regfile.Kind)
			b.OnRestore = func(r *kind.Restore) { r.AllowChanged = func(p string) bool { return tt.allow && p == path } }
			saved := b.Dump(open(t, path, tt.flags))
			if err := tt.change(path); err != nil {
				t.Fatal(err)
			}
			if tt.want == "" {
				b.Restore(saved)
				return
			}
			_, _, err := b.TryRestore(saved)
			if err == nil {
				t.Fatal("restored, but should have failed")
			}
			if got := strings.ReplaceAll(err.Error(), path, "PATH"); got != tt.want {
				t.Errorf("error %q, want %q", got, tt.want)
			}
			if got := strings.ReplaceAll(strings.Join(failure.Hints(err), "; "), path, "PATH"); got != tt.hint {
				t.Errorf("hint %q, want %q", got, tt.hint)
			}
		})
	}
}

func TestLog(t *testing.T) {
	old, fresh := file(t, "what was written before"), file(t, "new: ")
	b := kindtest.New(t, regfile.Kind)
	saved := b.Dump(open(t, old, unix.O_WRONLY|unix.O_APPEND), open(t, old, unix.O_RDWR))
	if err := os.Remove(old); err != nil {
		t.Fatal(err)
	}
	log := open(t, fresh, unix.O_WRONLY|unix.O_APPEND)
	b.OnRestore = func(r *kind.Restore) {
		r.LogFile = log
		for id := range r.Entries {
			r.Manifest.LogFiles = append(r.Manifest.LogFiles, id)
		}
	}
	got := b.Restore(saved)
	for i, s := range []string{"2", "1"} { // the second stands where the log ended, and stays there
		if _, err := got[1-i].WriteString(s); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := os.ReadFile(fresh); err != nil || string(s) != "new: 21" {
		t.Errorf("the new log holds %q (%v)", s, err)
	}
}

// glibc's sem_open(3) and shm_open(3).
func TestOtherName(t *testing.T) {
	path := file(t, "contents")
	in := open(t, path, unix.O_RDWR|unix.O_NOFOLLOW)
	if err := errors.Join(os.Link(path, path+"2"), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	got := kindtest.File(t, regfile.Kind, in)[0]
	if name := link(t, got); name != path+"2" {
		t.Errorf("restored as %s, want %s2", name, path)
	}
	if err := os.Remove(path + "2"); err != nil {
		t.Fatal(err)
	}
	if s := all(t, kindtest.File(t, regfile.Kind, in)[0]); s != "contents" {
		t.Errorf("deleted, opened with O_NOFOLLOW: read %q", s)
	}
}

// A socket's file is found by no other name: none but the one it was bound by
// leads to the socket.
func TestRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	if err := unix.Mknod(path, unix.S_IFSOCK|0o600, 0); err != nil {
		t.Fatal(err)
	}
	linked := open(t, path, unix.O_PATH)
	if err := errors.Join(os.Link(path, path+"2"), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	err := kindtest.Refused(t, regfile.Kind, linked)
	if !errors.Is(err, failure.ErrUnsupported) || !strings.Contains(err.Error(), "still has a name, which was not found") || len(failure.Hints(err)) == 0 {
		t.Errorf("%v, hints %q", err, failure.Hints(err))
	}
}
