package epoll

import (
	cmp2 "cmp"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/eventpoll"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/eventfd"
	"ckpt/kind/kindtest"
	"ckpt/kind/signalfd"
	"ckpt/procfs"
	"ckpt/tracee"
)

func newEpoll(t *testing.T) *os.File {
	t.Helper()
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, fd)
}

func newEvent(t *testing.T, n uint) *os.File {
	t.Helper()
	fd, err := unix.Eventfd(n, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, fd)
}

func file(t *testing.T, fd int) *os.File {
	f := os.NewFile(uintptr(fd), "test")
	t.Cleanup(func() { f.Close() })
	return f
}

func dup(t *testing.T, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, fd)
}

func watchIt(t *testing.T, ep, f *os.File, events uint32, data uint64) {
	t.Helper()
	if err := unix.EpollCtl(int(ep.Fd()), unix.EPOLL_CTL_ADD, int(f.Fd()), event(events, data)); err != nil {
		t.Fatal(err)
	}
}

// watches are number, events and data of every watch, as fdinfo shows them.
func watches(t *testing.T, ep *os.File) (out []watch) {
	t.Helper()
	self, err := procfs.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	info, err := self.FDInfo(int(ep.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	ws, err := parse(info.Lines)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range ws {
		out = append(out, watch{tfd: w.tfd, events: w.events, data: w.data})
	}
	slices.SortFunc(out, func(a, b watch) int { return cmp2.Compare(a.data, b.data) }) // the kernel orders by address
	return out
}

func same(t *testing.T, before, after []watch) {
	t.Helper()
	if d := cmp.Diff(before, after, cmp.AllowUnexported(watch{})); d != "" {
		t.Errorf("watches (-before +after):\n%s", d)
	}
}

// ready gives the data of what is ready now.
func ready(t *testing.T, ep *os.File) (out []uint64) {
	t.Helper()
	var got [16]unix.EpollEvent
	n, err := unix.EpollWait(int(ep.Fd()), got[:], 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range got[:n] {
		out = append(out, uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32)
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	ep, inner, zero, one := newEpoll(t), newEpoll(t), newEvent(t, 0), newEvent(t, 1)
	watchIt(t, ep, zero, unix.EPOLLIN|unix.EPOLLET, 0xfedcba9876543210)
	watchIt(t, ep, inner, unix.EPOLLIN, 2)
	watchIt(t, inner, one, unix.EPOLLIN|unix.EPOLLONESHOT, 3)
	watchIt(t, inner, zero, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, 4)
	b := kindtest.New(t, Kind, eventfd.Kind)
	got := b.Restore(b.Dump(ep, inner, zero, one))
	same(t, watches(t, ep), watches(t, got[0]))
	same(t, watches(t, inner), watches(t, got[1]))

	if d := ready(t, got[0]); len(d) != 1 || d[0] != 2 {
		t.Errorf("ready: %#x, want the inner instance", d)
	}
	if _, err := unix.Write(int(got[2].Fd()), []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	if d := ready(t, got[0]); len(d) != 2 {
		t.Errorf("ready: %#x, want both", d)
	}
	if err := unix.EpollCtl(int(got[0].Fd()), unix.EPOLL_CTL_DEL, int(zero.Fd()), nil); err != unix.ENOENT {
		t.Errorf("the restored instance watches an old file: %v", err)
	}
}

// Where ckpt has a descriptor of the same number, it must keep it.
func TestNumbersOfOurOwn(t *testing.T) {
	ep, ev := newEpoll(t), newEvent(t, 1)
	watchIt(t, ep, ev, unix.EPOLLIN, 1)
	b := kindtest.New(t, Kind, eventfd.Kind)
	saved, before := b.Dump(ep, ev), watches(t, ep)
	fd := int(ev.Fd())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := unix.Dup3(int(w.Fd()), fd, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	got := b.Restore(saved)
	same(t, before, watches(t, got[0]))
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		t.Errorf("the descriptor is no longer the pipe's: %v", err)
	}
}

func TestDisarmed(t *testing.T) {
	ep, ev := newEpoll(t), newEvent(t, 1)
	watchIt(t, ep, ev, unix.EPOLLIN|unix.EPOLLONESHOT, 5)
	if d := ready(t, ep); len(d) != 1 {
		t.Fatalf("ready: %v", d)
	}
	b := kindtest.New(t, Kind, eventfd.Kind)
	got := b.Restore(b.Dump(ep, ev))
	same(t, watches(t, ep), watches(t, got[0]))
	if d := ready(t, got[0]); len(d) != 0 {
		t.Errorf("ready: %v, want nothing: it is disarmed", d)
	}
}

// The number was closed, and used again for another file, which is watched too.
func TestClosedNumbers(t *testing.T) {
	ep, a := newEpoll(t), newEvent(t, 0)
	n := int(a.Fd())
	watchIt(t, ep, a, unix.EPOLLIN, 1)
	other := dup(t, a)
	b := newEvent(t, 0)
	if err := unix.Dup3(int(b.Fd()), n, unix.O_CLOEXEC); err != nil { // a's number is b's now
		t.Fatal(err)
	}
	watchIt(t, ep, a, unix.EPOLLIN, 2)
	c := newEvent(t, 1)
	watchIt(t, ep, c, unix.EPOLLIN, 3)
	kept := dup(t, c)
	c.Close()

	box := kindtest.New(t, Kind, eventfd.Kind)
	got := box.Restore(box.Dump(ep, other, b, kept))
	same(t, watches(t, ep), watches(t, got[0]))
	for i, want := range [][]uint64{{1, 3}, {1, 2, 3}} {
		if _, err := unix.Write(int(got[i+1].Fd()), []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
		seen := map[uint64]bool{}
		for _, d := range ready(t, got[0]) {
			seen[d] = true
		}
		for _, d := range want {
			if !seen[d] {
				t.Errorf("after event %d: %d is not ready", i, d)
			}
		}
		if len(seen) != len(want) {
			t.Errorf("after event %d: ready %v, want %v", i, seen, want)
		}
	}
}

func TestRefused(t *testing.T) {
	ep, gone := newEpoll(t), newEvent(t, 0)
	watchIt(t, ep, gone, unix.EPOLLIN, 1)
	b := kindtest.New(t, Kind, eventfd.Kind)
	_, err := b.Try(ep) // gone is outside the container
	if err == nil || !strings.Contains(err.Error(), "that no process of the container holds any more") {
		t.Errorf("got %v", err)
	}

	ep = newEpoll(t)
	fd, err := unix.Signalfd(-1, &unix.Sigset_t{Val: [16]uint64{1}}, unix.SFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	sig := file(t, fd)
	watchIt(t, ep, sig, unix.EPOLLIN, 1)
	moved := dup(t, sig)
	b = kindtest.New(t, Kind, signalfd.Kind)
	if _, err := b.Try(ep, sig); err != nil {
		t.Errorf("a signalfd under its number: %v", err)
	}
	if _, err := b.Try(ep, moved); err == nil || !strings.Contains(err.Error(), "has closed since") {
		t.Errorf("got %v", err)
	}
}

func TestParse(t *testing.T) {
	got, err := parse([]string{"tfd:        3 events: 40000019 data: ffffffff00000003  pos:-1 ino:40c sdev:10", "lock:\t1: FLOCK"})
	want := []watch{{tfd: 3, events: 0x40000019, data: 0xffffffff00000003, pos: -1, ino: 0x40c, dev: 0x10}}
	if err != nil || !cmp.Equal(got, want, cmp.AllowUnexported(watch{})) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := parse([]string{"tfd: x"}); err == nil {
		t.Error("no error for nonsense")
	}
}

// The process that holds a signalfd adds it itself, and nothing else.
func TestInside(t *testing.T) {
	entry := func(id uint32, typ fdinfo.FdTypes) *fdinfo.FileEntry {
		return &fdinfo.FileEntry{Id: proto.Uint32(id), Type: typ.Enum()}
	}
	ep := entry(1, fdinfo.FdTypes_EVENTPOLL)
	ep.Epfd = &eventpoll.EventpollFileEntry{Tfd: []*eventpoll.EventpollTfdEntry{
		{Tfd: proto.Uint32(5), Events: proto.Uint32(1)}, {Tfd: proto.Uint32(6), Events: proto.Uint32(1)},
	}}
	fd := func(n, id uint32) *fdinfo.FdinfoEntry {
		return &fdinfo.FdinfoEntry{Fd: proto.Uint32(n), Id: proto.Uint32(id)}
	}
	r := &kind.Restore{
		Entries: map[uint32]*fdinfo.FileEntry{1: ep, 2: entry(2, fdinfo.FdTypes_EVENTFD), 3: entry(3, fdinfo.FdTypes_SIGNALFD)},
		Extras:  map[uint32]*image.FileExtra{1: {EpollFiles: []uint32{2, 3}}},
		Targets: []*kind.Target{{Fds: []*fdinfo.FdinfoEntry{fd(4, 1), fd(5, 2), fd(6, 3)}}},
	}
	for _, extras := range []map[uint32]*image.FileExtra{r.Extras, nil} { // with nil as in an image of criu's
		r.Extras = extras
		s := tracee.NewScript(0x1000)
		if err := inside(r, ep, 4, s); err != nil || s.Len() != 1 {
			t.Errorf("%d calls, %v, want 1", s.Len(), err)
		}
	}
	r.Extras = map[uint32]*image.FileExtra{1: {EpollFiles: []uint32{2, 3}}}
	r.Targets[0].Fds[2] = fd(6, 2)
	if err := inside(r, ep, 4, tracee.NewScript(0x1000)); err == nil {
		t.Error("added a descriptor that is no signalfd")
	}
}
