package pipe_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/eventfd"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fown"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/kind/pipe"
)

func pair(t *testing.T, flags int) (r, w *os.File) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|flags); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(p[0]), "r"), os.NewFile(uintptr(p[1]), "w")
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func write(t *testing.T, w *os.File, s string) {
	t.Helper()
	if _, err := unix.Write(int(w.Fd()), []byte(s)); err != nil {
		t.Fatal(err)
	}
}

// drain reads without blocking until nothing is left, room bytes at a time.
func drain(t *testing.T, f *os.File, room int) (out []string) {
	t.Helper()
	if err := unix.SetNonblock(int(f.Fd()), true); err != nil {
		t.Fatal(err)
	}
	for {
		b := make([]byte, room)
		n, err := unix.Read(int(f.Fd()), b)
		if errors.Is(err, unix.EAGAIN) {
			return append(out, "more to come")
		}
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return append(out, "end")
		}
		out = append(out, string(b[:n]))
	}
}

func equal(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("got %q, want %q", got, want)
		}
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

func TestContentsAndEnds(t *testing.T) {
	r, w := pair(t, 0)
	write(t, w, "hello ")
	write(t, w, "world")
	got := kindtest.File(t, pipe.Kind, r, w)
	if flags(t, got[0]) != flags(t, r) || flags(t, got[1]) != flags(t, w) {
		t.Errorf("flags %#o %#o, want %#o %#o", flags(t, got[0]), flags(t, got[1]), flags(t, r), flags(t, w))
	}
	write(t, got[1], "!")
	equal(t, drain(t, got[0], 100), []string{"hello world!", "more to come"})
	got[1].Close()
	equal(t, drain(t, got[0], 100), []string{"end"})
	equal(t, drain(t, r, 100), []string{"hello world", "more to come"})
}

func TestFullAndGrown(t *testing.T) {
	r, w := pair(t, unix.O_NONBLOCK)
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 256<<10); err != nil {
		t.Fatal(err)
	}
	all := bytes.Repeat([]byte("0123456789abcdef"), 256<<10/16)
	if n, err := unix.Write(int(w.Fd()), all); err != nil || n != len(all) {
		t.Fatal(n, err)
	}
	got := kindtest.File(t, pipe.Kind, r, w)
	if n, err := unix.FcntlInt(got[0].Fd(), unix.F_GETPIPE_SZ, 0); err != nil || n != 256<<10 {
		t.Errorf("capacity %d (%v), want %d", n, err, 256<<10)
	}
	if _, err := unix.Write(int(got[1].Fd()), []byte("x")); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("a full pipe took more: %v", err)
	}
	got[1].Close()
	equal(t, drain(t, got[0], len(all)), []string{string(all), "end"})
}

func TestPackets(t *testing.T) {
	for _, packets := range [][]string{{"ab", "c", "defg"}, {"abc"}, {"a"}} {
		r, w := pair(t, unix.O_DIRECT)
		var want []string
		for _, p := range packets {
			write(t, w, p)
			want = append(want, p[:1])
		}
		got := kindtest.File(t, pipe.Kind, r, w)
		if flags(t, got[1])&unix.O_DIRECT == 0 {
			t.Error("O_DIRECT lost")
		}
		write(t, got[1], "new")
		// Reading one byte of a packet loses its rest.
		equal(t, drain(t, got[0], 1), append(want, "n", "more to come"))
	}
}

func TestPacketsOfAWriterThatIsGone(t *testing.T) {
	r, w := pair(t, unix.O_DIRECT)
	write(t, w, "one packet")
	w.Close()
	got := kindtest.File(t, pipe.Kind, r)
	equal(t, drain(t, got[0], 3), []string{"one", "end"})
}

func TestMixedIsRefused(t *testing.T) {
	r, w := pair(t, unix.O_DIRECT)
	write(t, w, "packet")
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETFL, 0); err != nil {
		t.Fatal(err)
	}
	write(t, w, "stream")
	if err := kindtest.Refused(t, pipe.Kind, r, w); !errors.Is(err, failure.ErrUnsupported) {
		t.Error(err)
	}
}

func TestOneEndClosed(t *testing.T) {
	r, w := pair(t, 0)
	write(t, w, "rest")
	w.Close()
	equal(t, drain(t, kindtest.File(t, pipe.Kind, r)[0], 10), []string{"rest", "end"})

	r, w = pair(t, 0)
	write(t, w, "nobody reads this, but a reader might come")
	r.Close()
	got := kindtest.File(t, pipe.Kind, w)[0]
	p := []unix.PollFd{{Fd: int32(got.Fd()), Events: unix.POLLOUT}}
	if _, err := unix.Poll(p, 0); err != nil || p[0].Revents&unix.POLLERR == 0 {
		t.Errorf("events %#x (%v): the reader came back", p[0].Revents, err)
	}
}

func TestOtherEndOutsideIsRefused(t *testing.T) {
	r, w := pair(t, 0)
	for _, f := range []*os.File{r, w} {
		err := kindtest.Refused(t, pipe.Kind, f)
		if !errors.Is(err, failure.ErrUnsupported) || len(failure.Hints(err)) == 0 {
			t.Errorf("%v, hints %q", err, failure.Hints(err))
		}
	}
}

func TestSeveralDescriptions(t *testing.T) {
	r, w := pair(t, 0)
	both, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", r.Fd()), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer both.Close()
	if err := unix.Fchown(int(r.Fd()), 1000, 1001); err != nil {
		t.Fatal(err)
	}
	got := kindtest.File(t, pipe.Kind, r, w, both)
	if err := unix.SetNonblock(int(got[0].Fd()), true); err != nil {
		t.Fatal(err)
	}
	if flags(t, got[2])&unix.O_NONBLOCK != 0 {
		t.Error("the description opened anew shares the flags of the first")
	}
	if flags(t, got[2]) != flags(t, both) {
		t.Errorf("flags %#o, want %#o", flags(t, got[2]), flags(t, both))
	}
	write(t, got[2], "x")
	equal(t, drain(t, got[0], 10), []string{"x", "more to come"})
	var st unix.Stat_t
	if err := unix.Fstat(int(got[1].Fd()), &st); err != nil || st.Uid != 1000 || st.Gid != 1001 {
		t.Errorf("owner %d:%d (%v), want 1000:1001", st.Uid, st.Gid, err)
	}
}

// carrier stands for a socket on whose way a descriptor is: it adds the file
// to the dump, closes it at once, and wants it back in the second pass.
func carrier(t *testing.T, f *os.File, got **os.File) func() kind.File {
	return func() kind.File {
		return kind.File{
			Name: "carrier", Type: fdinfo.FdTypes_EVENTFD,
			Owns: func(d *kind.Desc) bool { return d.Link == "anon_inode:[eventfd]" },
			Dump: func(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
				fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
				if err != nil {
					return nil, err
				}
				g := os.NewFile(uintptr(fd), "queued")
				defer g.Close()
				id, err := d.AddFile(desc.Proc, g, "pipe:[1]")
				return &fdinfo.FileEntry{Efd: &eventfd.EventfdFileEntry{Id: proto.Uint32(desc.ID),
					Flags: proto.Uint32(0), Fown: &fown.FownEntry{Uid: proto.Uint32(0), Euid: proto.Uint32(0), Signum: proto.Uint32(0),
						PidType: proto.Uint32(0), Pid: proto.Uint32(0)}, Counter: proto.Uint64(uint64(id))}}, err
			},
			Restore: func(*kind.Restore, *fdinfo.FileEntry) (*os.File, error) {
				fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
				return os.NewFile(uintptr(fd), "carrier"), err
			},
			Link: func(r *kind.Restore, e *fdinfo.FileEntry, _ *os.File) (err error) {
				*got, err = r.File(uint32(e.GetEfd().GetCounter()))
				return err
			},
		}
	}
}

func TestEndOnItsWayInASocket(t *testing.T) {
	r, w := pair(t, 0)
	write(t, w, "queued")
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	socket := os.NewFile(uintptr(fd), "carrier")
	defer socket.Close()
	for _, way := range [][2]*os.File{{r, w}, {w, r}} {
		held, queued := way[0], way[1]
		var arrived *os.File
		b := kindtest.New(t, pipe.Kind, carrier(t, queued, &arrived))
		// The held end alone would be refused: a socket with a queue is what
		// makes Refuse leave the question to Finish.
		a, z := socketWithQueue(t)
		b.Kinds = append(b.Kinds, func() kind.File { return ignore(a) })
		got := b.Restore(b.Dump(held, socket, a))
		reader, writer := got[0], arrived
		if held == w {
			reader, writer = arrived, got[0]
		}
		write(t, writer, "!")
		equal(t, drain(t, reader, 100), []string{"queued!", "more to come"})
		writer.Close()
		equal(t, drain(t, reader, 100), []string{"end"})
		z.Close()
	}
}

func socketWithQueue(t *testing.T) (a, z *os.File) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, z = os.NewFile(uintptr(p[0]), "a"), os.NewFile(uintptr(p[1]), "z")
	t.Cleanup(func() { a.Close(); z.Close() })
	write(t, z, "x")
	return a, z
}

// ignore is a kind that owns sockets and keeps nothing.
func ignore(f *os.File) kind.File {
	return kind.File{
		Name: "socket", Type: fdinfo.FdTypes_UNIXSK,
		Owns: func(d *kind.Desc) bool { return d.Stat.Mode&unix.S_IFMT == unix.S_IFSOCK },
		Dump: func(*kind.Dump, *kind.Desc) (*fdinfo.FileEntry, error) { return &fdinfo.FileEntry{}, nil },
		Restore: func(*kind.Restore, *fdinfo.FileEntry) (*os.File, error) {
			fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
			return os.NewFile(uintptr(fd), "socket"), err
		},
	}
}
