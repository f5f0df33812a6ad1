package inotify

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind/kindtest"
	"ckpt/kind/watched"
	"ckpt/procfs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newInotify(t *testing.T) *os.File {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	must(t, err)
	f := os.NewFile(uintptr(fd), "inotify")
	t.Cleanup(func() { f.Close() })
	return f
}

func watchIt(t *testing.T, f *os.File, path string, mask uint32) int {
	t.Helper()
	wd, err := unix.InotifyAddWatch(int(f.Fd()), path, mask)
	must(t, err)
	return wd
}

func shown(t *testing.T, f *os.File) []watch {
	t.Helper()
	self, err := procfs.Open(os.Getpid())
	must(t, err)
	defer self.Close()
	info, err := self.FDInfo(int(f.Fd()))
	must(t, err)
	ws, err := parse(info.Lines)
	must(t, err)
	return ws
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	f := newInotify(t)
	for i := range 20 { // numbers above 9, with gaps
		path := filepath.Join(dir, strings.Repeat("d", i+1))
		must(t, os.Mkdir(path, 0o700))
		mask := uint32(unix.IN_CREATE)
		if i == 3 {
			mask |= unix.IN_ONESHOT | unix.IN_EXCL_UNLINK
		}
		wd := watchIt(t, f, path, mask)
		if i%3 == 1 {
			_, err := unix.InotifyRmWatch(int(f.Fd()), uint32(wd))
			must(t, err)
		}
	}
	must(t, os.Symlink("nowhere", filepath.Join(dir, "link")))
	watchIt(t, f, filepath.Join(dir, "link"), unix.IN_DELETE_SELF|unix.IN_DONT_FOLLOW)
	must(t, drain(int(f.Fd())))

	got := kindtest.File(t, Kind, f)[0]
	if d := cmp.Diff(shown(t, f), shown(t, got), cmp.AllowUnexported(watch{})); d != "" {
		t.Errorf("watches (-before +after):\n%s", d)
	}
	buf := make([]byte, 4096)
	if n, err := unix.Read(int(got.Fd()), buf); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("%d bytes of events right after the restore, %v", n, err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "ddd", "new"), nil, 0o600))
	n, err := unix.Read(int(got.Fd()), buf)
	if err != nil || n < unix.SizeofInotifyEvent || buf[0] != 3 {
		t.Errorf("event of watch %d (%d bytes, %v), want watch 3", buf[0], n, err)
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	pending := newInotify(t)
	watchIt(t, pending, dir, unix.IN_CREATE)
	must(t, os.WriteFile(filepath.Join(dir, "new"), nil, 0o600))
	gone := newInotify(t)
	watchIt(t, gone, filepath.Join(dir, "new"), unix.IN_MODIFY)
	held, err := os.Open(filepath.Join(dir, "new"))
	must(t, err)
	defer held.Close()
	must(t, os.Remove(filepath.Join(dir, "new")))
	for _, tt := range []struct {
		f    *os.File
		want string
	}{
		{pending, "events wait to be read"},
		{gone, "watch 1 is of a file that has been deleted, and that no process has open"},
	} {
		err := kindtest.Refused(t, Kind, tt.f)
		if !errors.Is(err, failure.ErrUnsupported) || !strings.Contains(err.Error(), tt.want) || len(failure.Hints(err)) != 1 {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}

func TestMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, nil, 0o600))
	f := newInotify(t)
	watchIt(t, f, path, unix.IN_MODIFY)
	b := kindtest.New(t, Kind)
	saved := b.Dump(f)
	must(t, os.Remove(path))
	_, _, err := b.TryRestore(saved)
	if err == nil || !strings.Contains(err.Error(), "watch 1 of "+path+": it is missing") || len(failure.Hints(err)) != 1 {
		t.Errorf("got %v", err)
	}
}

func TestParse(t *testing.T) {
	got, err := parse([]string{"inotify wd:1f ino:9841c8 sdev:fe00000 mask:4000002 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:c84198006a33eb9c"})
	want := []watch{{wd: 31, mask: 0x4000002, File: watched.File{
		What: "watch 31", Ino: 0x9841c8, Dev: 254 << 20, Type: 1, Handle: []byte{0xc8, 0x41, 0x98, 0, 0x6a, 0x33, 0xeb, 0x9c},
	}}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(watch{})); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	for _, l := range []string{"inotify wd:x", "inotify wd:1 ino:1 sdev:1 mask:1 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:c841"} {
		if _, err := parse([]string{l}); err == nil {
			t.Errorf("%q: no error", l)
		}
	}
	if h := got[0].Entry(""); len(h.GetHandle()) != 16 || h.GetHandle()[0] != 0x9ceb336a009841c8 || h.GetBytes() != 8 {
		t.Errorf("entry %v", h)
	}
}
