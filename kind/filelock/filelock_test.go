package filelock_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	filelock "github.com/checkpoint-restore/go-criu/v7/crit/images/file-lock"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	kindlock "ckpt/kind/filelock"
	"ckpt/kind/kindtest"
	"ckpt/procfs"
)

func open(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func fcntl(t *testing.T, f *os.File, cmd int, typ int16, start, length int64) unix.Flock_t {
	t.Helper()
	l := unix.Flock_t{Type: typ, Start: start, Len: length}
	if err := unix.FcntlFlock(f.Fd(), cmd, &l); err != nil {
		t.Fatal(err)
	}
	return l
}

func entry(flag, typ uint32, fd int, start, length int64) *filelock.FileLockEntry {
	return &filelock.FileLockEntry{Flag: proto.Uint32(flag), Type: proto.Uint32(typ), Pid: proto.Int32(int32(kindtest.VPID)),
		Fd: proto.Int32(int32(fd)), Start: proto.Int64(start), Len: proto.Int64(length)}
}

func TestObserve(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	reader, writer, other := open(t, path, os.O_RDONLY), open(t, path, os.O_RDWR), open(t, path+"2", os.O_RDONLY)
	fcntl(t, writer, unix.F_SETLK, unix.F_WRLCK, 10, 5)
	fcntl(t, reader, unix.F_SETLK, unix.F_RDLCK, 100, 0)
	fcntl(t, writer, unix.F_OFD_SETLK, unix.F_WRLCK, 50, 1)
	if err := unix.Flock(int(other.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	b := kindtest.New(t)
	saved, err := b.Observe(kindlock.Kind(), reader, writer, other)
	if err != nil {
		t.Fatal(err)
	}
	var got []*filelock.FileLockEntry
	err = image.Each(saved.Open(t), image.FileLocks, "", func(e *filelock.FileLockEntry, _ func(int) ([]byte, error)) error {
		got = append(got, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, func(a, b *filelock.FileLockEntry) int { return int(a.GetStart() - b.GetStart()) })
	want := []*filelock.FileLockEntry{
		entry(2, unix.F_RDLCK, int(other.Fd()), 0, 0),
		entry(1, unix.F_WRLCK, int(writer.Fd()), 10, 5), // not by the reader's descriptor
		entry(4, unix.F_WRLCK, int(writer.Fd()), 50, 1),
		entry(1, unix.F_RDLCK, int(reader.Fd()), 100, 0),
	}
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Errorf("locks (-want +got):\n%s", d)
	}
}

// Saving must not break a lease: what takes an opened file is refused.
func TestLeaseInTheWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leased")
	f := open(t, path, os.O_RDWR)
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Fatal(err)
	}
	b := kindtest.New(t)
	if _, err := b.Observe(kindlock.Kind(), f); err != nil {
		t.Errorf("a lease as such: %v", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	desc := &kind.Desc{Stat: st, Link: path, Info: &procfs.FDInfo{Lines: []string{"lock:\t1: LEASE  BREAKING  UNLCK 1 fe:00:1 0 EOF"}}}
	holder := &kind.Proc{Fds: []kind.Descriptor{{FD: 3, Desc: desc}}}
	mapper := &kind.Proc{Maps: []procfs.Map{{Start: 0x1000, End: 0x2000, Path: path, Dev: st.Dev, Ino: st.Ino}}}
	d := &kind.Dump{Procs: []*kind.Proc{holder, mapper}}
	k := kindlock.Kind()
	if err := k.Observe(d, holder); err != nil {
		t.Errorf("who has the lease maps nothing: %v", err)
	}
	inTheWay(t, k.Observe(d, mapper), path+" at 0x1000 is mapped")

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, err := b.Observe(kindlock.Kind(), f)
	inTheWay(t, err, "break by reading the file")
	if typ, err := unix.FcntlInt(f.Fd(), unix.F_GETLEASE, 0); typ != unix.F_WRLCK || err != nil {
		t.Errorf("the lease is %d by now, %v", typ, err)
	}
}

func inTheWay(t *testing.T, err error, words string) {
	t.Helper()
	if !errors.Is(err, failure.ErrUnsupported) || !strings.Contains(err.Error(), words) || len(failure.Hints(err)) != 1 {
		t.Errorf("%v, hints %q; want %q", err, failure.Hints(err), words)
	}
}

func TestRestore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	mine := open(t, path, os.O_RDWR)
	b := kindtest.New(t)
	saved := b.Write(func(out *image.Writer) error {
		for _, e := range []*filelock.FileLockEntry{
			entry(1, unix.F_WRLCK, 3, 10, 5), entry(1, unix.F_RDLCK, 3, 100, 0),
			entry(4, unix.F_WRLCK, 3, 50, 1), entry(2, unix.F_WRLCK, 3, 0, 0),
		} {
			if err := out.Add(image.FileLocks, "", e); err != nil {
				return err
			}
		}
		return nil
	})
	theirs, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := b.Child(saved, kindtest.VPID, theirs)
	theirs.Close() // the child's descriptor alone holds flock and OFD locks
	c.Target.Fds = holds(3)
	if err := kindlock.Kind().Restore(c.R, c.Target); err != nil {
		t.Fatal(err)
	}
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		ask        int16
		at         int64
		want       int16
		start, len int64
		pid        int32
	}{
		{unix.F_RDLCK, 12, unix.F_WRLCK, 10, 5, int32(c.Target.Host)},
		{unix.F_RDLCK, 15, unix.F_UNLCK, 15, 1, 0},
		{unix.F_WRLCK, 5000, unix.F_RDLCK, 100, 0, int32(c.Target.Host)},
		{unix.F_RDLCK, 5000, unix.F_UNLCK, 5000, 1, 0},
		{unix.F_RDLCK, 50, unix.F_WRLCK, 50, 1, -1},
	} {
		got := fcntl(t, mine, unix.F_GETLK, tt.ask, tt.at, 1)
		if got.Type != tt.want || got.Start != tt.start || got.Len != tt.len || got.Type != unix.F_UNLCK && got.Pid != tt.pid {
			t.Errorf("lock at %d: %+v, want %+v", tt.at, got, tt)
		}
	}
	if err := unix.Flock(int(mine.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("flock: %v, want it taken", err)
	}
}

// holds are the descriptors of a process that has fd alone.
func holds(fd uint32) []*fdinfo.FdinfoEntry {
	return []*fdinfo.FdinfoEntry{{Id: proto.Uint32(1), Fd: proto.Uint32(fd)}}
}

// A lock on a descriptor that the process does not have, or beyond the end of all
// files, is damage.
func TestDamaged(t *testing.T) {
	for what, e := range map[string]*filelock.FileLockEntry{
		"fd 4":    entry(1, unix.F_WRLCK, 4, 0, 0),
		"from -1": entry(1, unix.F_WRLCK, 3, -1, 0),
		"of -1":   entry(1, unix.F_WRLCK, 3, 0, -1),
		"too far": entry(1, unix.F_WRLCK, 3, 1<<62, 1<<62),
	} {
		b := kindtest.New(t)
		saved := b.Write(func(out *image.Writer) error { return out.Add(image.FileLocks, "", e) })
		c := b.Child(saved, kindtest.VPID, open(t, filepath.Join(t.TempDir(), "lock"), os.O_RDWR))
		c.Target.Fds = holds(3)
		if err := kindlock.Kind().Restore(c.R, c.Target); !errors.Is(err, failure.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A lock that somebody else has taken meanwhile fails the restore and says so.
func TestTakenMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f := open(t, path, os.O_RDWR)
	fcntl(t, f, unix.F_SETLK, unix.F_WRLCK, 0, 0)
	b := kindtest.New(t)
	saved := b.Write(func(out *image.Writer) error { return out.Add(image.FileLocks, "", entry(1, unix.F_WRLCK, 3, 0, 0)) })
	c := b.Child(saved, kindtest.VPID, f)
	c.Target.Fds = holds(3)
	if err := kindlock.Kind().Restore(c.R, c.Target); err != nil {
		t.Fatal(err)
	}
	err := c.Run()
	if err == nil {
		t.Fatal("the lock was taken twice")
	}
	// Who holds it is not seen: of the child's descriptors the image says nothing.
	if want := "fd 3: its lock (fcntl, for writing) is held by another program"; !strings.Contains(err.Error(), want) || len(failure.Hints(err)) == 0 {
		t.Errorf("%v, want %q and a hint", err, want)
	}
}
