package fanotify

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

func newGroup(t *testing.T, flags, events uint) *os.File {
	t.Helper()
	fd, err := unix.FanotifyInit(flags|unix.FAN_NONBLOCK, events)
	must(t, err)
	f := os.NewFile(uintptr(fd), "fanotify")
	t.Cleanup(func() { f.Close() })
	return f
}

func addMark(t *testing.T, f *os.File, flags uint, mask uint64, path string) {
	t.Helper()
	must(t, unix.FanotifyMark(int(f.Fd()), unix.FAN_MARK_ADD|flags, mask, unix.AT_FDCWD, path))
}

func shown(t *testing.T, f *os.File) *group {
	t.Helper()
	self, err := procfs.Open(os.Getpid())
	must(t, err)
	defer self.Close()
	info, err := self.FDInfo(int(f.Fd()))
	must(t, err)
	g, err := parse(info.Lines)
	must(t, err)
	return g
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.Symlink("file", filepath.Join(dir, "link")))
	f := newGroup(t, unix.FAN_CLASS_NOTIF|unix.FAN_UNLIMITED_MARKS|unix.FAN_UNLIMITED_QUEUE, unix.O_RDWR|unix.O_CLOEXEC)
	addMark(t, f, unix.FAN_MARK_ONLYDIR, unix.FAN_CLOSE_WRITE|unix.FAN_EVENT_ON_CHILD, dir)
	addMark(t, f, 0, unix.FAN_MODIFY, file)
	addMark(t, f, ignored|survives, unix.FAN_CLOSE_WRITE, file)
	addMark(t, f, unix.FAN_MARK_DONT_FOLLOW, unix.FAN_MODIFY, filepath.Join(dir, "link"))
	addMark(t, f, unix.FAN_MARK_MOUNT, unix.FAN_CLOSE_WRITE, "/dev/shm")
	addMark(t, f, unix.FAN_MARK_FILESYSTEM, unix.FAN_MODIFY, "/dev/shm")

	got := kindtest.File(t, Kind, f)[0]
	if d := cmp.Diff(shown(t, f), shown(t, got), cmp.AllowUnexported(group{}, mark{})); d != "" {
		t.Errorf("the group (-before +after):\n%s", d)
	}
	if n := events(t, got); n != 0 {
		t.Errorf("%d bytes of events right after the restore", n)
	}
	must(t, os.WriteFile(filepath.Join(dir, "new"), nil, 0o600))
	if n := events(t, got); n == 0 {
		t.Error("no event of a new file")
	}
}

// events is how many bytes of events wait.
func events(t *testing.T, f *os.File) int {
	t.Helper()
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCINQ)
	must(t, err)
	must(t, drain(int(f.Fd())))
	return n
}

func TestIgnore(t *testing.T) {
	if !kindtest.Since(t, "6.0") {
		return
	}
	dir := t.TempDir()
	f := newGroup(t, unix.FAN_REPORT_DFID_NAME, 0)
	addMark(t, f, evictable, unix.FAN_CREATE|unix.FAN_ONDIR, dir)
	other := newGroup(t, unix.FAN_REPORT_FID, 0)
	addMark(t, other, ignore|survives, unix.FAN_OPEN|unix.FAN_ONDIR, dir)
	got := kindtest.File(t, Kind, f, other)
	for i, f := range []*os.File{f, other} {
		if d := cmp.Diff(shown(t, f), shown(t, got[i]), cmp.AllowUnexported(group{}, mark{})); d != "" {
			t.Errorf("the group (-before +after):\n%s", d)
		}
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	asked := newGroup(t, unix.FAN_CLASS_CONTENT, 0)
	addMark(t, asked, 0, unix.FAN_OPEN_EXEC_PERM, dir) // nobody runs anything there, and has to wait
	waiting := newGroup(t, unix.FAN_CLASS_NOTIF, 0)
	addMark(t, waiting, 0, unix.FAN_OPEN|unix.FAN_ONDIR, dir)
	d, err := os.Open(dir)
	must(t, err)
	defer d.Close()
	for _, tt := range []struct {
		f    *os.File
		want string
	}{
		{asked, "a fanotify group that is asked for permission"},
		{waiting, "events wait to be read"},
	} {
		err := kindtest.Refused(t, Kind, tt.f)
		if !errors.Is(err, failure.ErrUnsupported) || !strings.Contains(err.Error(), tt.want) || len(failure.Hints(err)) != 1 {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}

func TestParse(t *testing.T) {
	got, err := parse([]string{
		"fanotify flags:3 event-flags:8000",
		"fanotify mnt_id:1e mflags:0 mask:40000008 ignored_mask:0",
		"fanotify sdev:1b mflags:0 mask:8 ignored_mask:0",
		"fanotify ino:1 sdev:6 mflags:440 mask:0 ignored_mask:40000020 fhandle-bytes:4 fhandle-type:1 f_handle:431802a4",
	})
	want := &group{flags: 3, eventFlags: 0x8000, marks: []mark{
		{flags: 0x440, ignored: 0x40000020, file: watched.File{Ino: 1, Dev: 6, Type: 1, Handle: []byte{0x43, 0x18, 0x02, 0xa4}}},
		{sort: onMount, mask: 0x40000008, mount: 30},
		{sort: onFilesystem, mask: 8, dev: 27},
	}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(group{}, mark{})); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	_, err = parse([]string{"fanotify mnt_ns:4 mflags:0 mask:8 ignored_mask:0"})
	if !errors.Is(err, failure.ErrUnsupported) || !strings.Contains(err.Error(), `a mark of sort "mnt_ns"`) {
		t.Errorf("an unknown mark: %v", err)
	}
}
