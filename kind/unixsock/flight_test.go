package unixsock

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind/eventfd"
	"ckpt/kind/kindtest"

	sk_packet "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-packet"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

func sendFDs(t *testing.T, f *os.File, data string, fds ...*os.File) {
	t.Helper()
	var n []int
	for _, x := range fds {
		n = append(n, int(x.Fd()))
	}
	_, err := kernel.SendUnix(int(f.Fd()), nil, []byte(data), unix.UnixRights(n...), 0)
	must(t, err)
}

// receive reads one message and what came with it.
func receive(t *testing.T, f *os.File) (string, []*os.File, *unix.Ucred) {
	t.Helper()
	m, err := kernel.RecvUnix(int(f.Fd()), make([]byte, 100), make([]byte, controlSize), unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	must(t, err)
	c, err := parseControl(m.Control)
	must(t, err)
	var files []*os.File
	for _, fd := range c.fds {
		files = append(files, file(t, fd))
	}
	return string(m.Data), files, c.cred
}

func newEventfd(t *testing.T, n uint) *os.File {
	t.Helper()
	fd, err := unix.Eventfd(n, unix.EFD_CLOEXEC)
	must(t, err)
	return file(t, fd)
}

func counter(t *testing.T, f *os.File) uint64 {
	t.Helper()
	b := make([]byte, 8)
	_, err := unix.Read(int(f.Fd()), b)
	must(t, err)
	return binary.NativeEndian.Uint64(b)
}

func TestDescriptorsInFlight(t *testing.T) {
	for name, typ := range types {
		t.Run(name, func(t *testing.T) {
			a, b := newPair(t, typ)
			held, only := newEventfd(t, 5), newEventfd(t, 7)
			sendFDs(t, a, "both", held, only)
			send(t, a, "plain")
			sendFDs(t, a, "again", only)
			only.Close()
			got := cycle(t, a, b, held)
			data, fds, _ := receive(t, got[1])
			if data != "both" || len(fds) != 2 {
				t.Fatalf("received %q with %d descriptors", data, len(fds))
			}
			if n, err := kernel.Kcmp(os.Getpid(), os.Getpid(), kernel.KcmpFile, int(fds[0].Fd()), int(got[2].Fd())); n != 0 || err != nil {
				t.Errorf("the descriptor that is held as well is another file (%d, %v)", n, err)
			}
			// A stream joins what is sent without descriptors with what follows.
			if typ != unix.SOCK_STREAM {
				if data, _, _ := receive(t, got[1]); data != "plain" {
					t.Errorf("received %q, want plain", data)
				}
			}
			data, again, _ := receive(t, got[1])
			if !strings.HasSuffix(data, "again") || len(again) != 1 {
				t.Fatalf("received %q with %d descriptors", data, len(again))
			}
			if n := counter(t, again[0]); n != 7 {
				t.Errorf("counter %d, want 7", n)
			}
			if n, err := kernel.Kcmp(os.Getpid(), os.Getpid(), kernel.KcmpFile, int(fds[1].Fd()), int(again[0].Fd())); n != 0 || err != nil {
				t.Errorf("one descriptor sent twice became two (%d, %v)", n, err)
			}
		})
	}
}

// Descriptors come to who reads the bytes they were sent with, and not to who
// reads those before.
func TestDescriptorsBehindData(t *testing.T) {
	a, b := newPair(t, unix.SOCK_STREAM)
	sent := newEventfd(t, 7)
	sendFDs(t, a, "first", sent)
	for _, before := range []string{"b", "longer before", strings.Repeat("long ", 1000)} {
		send(t, a, before)
		sendFDs(t, a, "w", sent)
	}
	send(t, a, "after")
	got := cycle(t, a, b, sent)
	b = got[1]
	part := make([]byte, 5000)
	for _, read := range []struct{ size, fds int }{{2, 1}, {3, 0}, {1, 0}, {1, 1}, {13, 0}, {1, 1}, {4999, 0}, {5, 1}, {5, 0}} {
		m, err := kernel.RecvUnix(int(b.Fd()), part[:read.size], make([]byte, controlSize), unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		must(t, err)
		c, err := parseControl(m.Control)
		must(t, err)
		closeAll(c.fds)
		if len(c.fds) != read.fds {
			t.Errorf("%.20q came with %d descriptors, want %d", m.Data, len(c.fds), read.fds)
		}
	}
}

// A socket that is only in a queue, with something in its own queue.
func TestSocketInFlight(t *testing.T) {
	a, b := newPair(t, unix.SOCK_STREAM)
	c, d := newPair(t, unix.SOCK_SEQPACKET)
	send(t, d, "for c")
	sendFDs(t, a, "take it", c)
	c.Close()
	got := cycle(t, a, b, d)
	_, fds, _ := receive(t, got[1])
	if len(fds) != 1 {
		t.Fatalf("%d descriptors", len(fds))
	}
	want(t, fds[0], "for c", "EAGAIN")
	send(t, got[2], "more")
	want(t, fds[0], "more", "EAGAIN")
}

// Sockets of which each waits in the other's queue, one that waits in its own,
// and one that nobody holds, to which only itself and another that is held lead.
func TestCircles(t *testing.T) {
	for name, typ := range types {
		t.Run(name, func(t *testing.T) {
			a, b := newPair(t, typ)
			c, d := newPair(t, typ)
			sendFDs(t, b, "c", c)
			sendFDs(t, d, "a", a)
			sendFDs(t, b, "itself", a)
			lone, other := newPair(t, typ)
			sendFDs(t, other, "lone", lone)
			sendFDs(t, b, "lone as well", lone)
			lone.Close()
			got := cycle(t, a, b, c, d, other)
			same := func(f, g *os.File) {
				t.Helper()
				if n, err := kernel.Kcmp(os.Getpid(), os.Getpid(), kernel.KcmpFile, int(f.Fd()), int(g.Fd())); n != 0 || err != nil {
					t.Errorf("it is another socket (%d, %v)", n, err)
				}
			}
			next := func(from *os.File, want string) *os.File {
				t.Helper()
				data, fds, _ := receive(t, from)
				if data != want || len(fds) != 1 {
					t.Fatalf("received %q with %d descriptors, want %q", data, len(fds), want)
				}
				return fds[0]
			}
			same(next(got[0], "c"), got[2])
			same(next(got[2], "a"), got[0])
			same(next(got[0], "itself"), got[0])
			alone := next(got[0], "lone as well")
			same(next(alone, "lone"), alone)
			send(t, got[4], "more")
			want(t, alone, "more", "EAGAIN")
		})
	}
}

func TestCredentials(t *testing.T) {
	for name, typ := range types {
		t.Run(name, func(t *testing.T) {
			a, b := newPair(t, typ)
			send(t, a, "without")
			must(t, unix.SetsockoptInt(int(b.Fd()), unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
			send(t, a, "with")
			mine := &unix.Ucred{Pid: int32(os.Getpid()), Uid: 12, Gid: 34}
			_, err := kernel.SendUnix(int(a.Fd()), nil, []byte("explicit"), unix.UnixCredentials(mine), 0)
			must(t, err)
			box := kindtest.New(t, Kind)
			got := box.Restore(box.Dump(a, b))
			for _, f := range []*os.File{b, got[1]} {
				for _, w := range []struct {
					data string
					cred unix.Ucred
				}{
					{"without", unix.Ucred{Uid: 65534, Gid: 65534}},
					{"with", unix.Ucred{Pid: int32(os.Getpid())}},
					{"explicit", *mine},
				} {
					data, _, cred := receive(t, f)
					if data != w.data || cred == nil || *cred != w.cred {
						t.Errorf("received %q from %+v, want %q from %+v", data, cred, w.data, w.cred)
					}
				}
			}
		})
	}
}

// The image holds virtual ids.
func TestCredentialsAreVirtual(t *testing.T) {
	a, b := newPair(t, unix.SOCK_DGRAM)
	must(t, unix.SetsockoptInt(int(b.Fd()), unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
	send(t, a, "x")
	saved := kindtest.New(t, Kind).Dump(a, b)
	in := saved.Open(t)
	n := 0
	must(t, image.Each(in, image.SkQueues, "", func(e *sk_packet.SkPacketEntry, data func(int) ([]byte, error)) error {
		n++
		raw, err := data(int(e.GetLength()))
		must(t, err)
		p, err := packetOf(e, raw)
		if err == nil && p.cred.GetPid() != uint32(kindtest.VPID) {
			t.Errorf("pid %d, want %d", p.cred.GetPid(), kindtest.VPID)
		}
		return err
	}))
	must(t, image.Each(in, image.FilesExtra, "", func(x *image.FileExtra, _ func(int) ([]byte, error)) error {
		n++
		if x.GetPeerCred().GetPid() != uint32(kindtest.VPID) {
			t.Errorf("peer's pid %d, want %d", x.GetPeerCred().GetPid(), kindtest.VPID)
		}
		return nil
	}))
	if n != 3 {
		t.Errorf("%d entries, want a message and two sockets", n)
	}
}

// SO_PEERCRED: user and group of who connected.
func TestPeerCred(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	l := listening(t, unix.SOCK_STREAM, path, 1)
	must(t, unix.Chmod(path, 0o777))
	must(t, unix.Chmod(filepath.Dir(path), 0o755))
	must(t, unix.Chmod(filepath.Dir(filepath.Dir(path)), 0o755))
	c := socket(t, unix.SOCK_STREAM)
	must(t, place{}.run(&image.Ucred{Uid: 1234, Gid: 4321}, func() error { return kernel.ConnectUnix(int(c.Fd()), sun(path)) }))
	got := cycle(t, l, c, accept(t, l))
	for i, w := range []unix.Ucred{{Uid: 0, Gid: 0}, {Uid: 0, Gid: 0}, {Uid: 1234, Gid: 4321}} {
		cred, err := unix.GetsockoptUcred(int(got[i].Fd()), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil || cred.Uid != w.Uid || cred.Gid != w.Gid {
			t.Errorf("socket %d: %+v, %v, want %+v", i, cred, err, w)
		}
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	l := listening(t, unix.SOCK_STREAM, dir+"/srv", 5)
	client := connected(t, unix.SOCK_STREAM, dir+"/srv")
	server := accept(t, l)
	log := bound(t, unix.SOCK_DGRAM, dir+"/log")
	logger := connected(t, unix.SOCK_DGRAM, dir+"/log")
	a, b := newPair(t, unix.SOCK_STREAM)
	hidden, _ := newPair(t, unix.SOCK_STREAM)
	sendFDs(t, a, "x", newEventfd(t, 0))

	early := listening(t, unix.SOCK_STREAM, dir+"/early", 5)
	talker := connected(t, unix.SOCK_STREAM, dir+"/early")
	send(t, talker, "hello")
	left := listening(t, unix.SOCK_STREAM, dir+"/left", 5)
	connected(t, unix.SOCK_STREAM, dir+"/left").Close()
	waits := listening(t, unix.SOCK_STREAM, dir+"/waits", 5)
	waiting := connected(t, unix.SOCK_STREAM, dir+"/waits")
	urgentA, urgentB := newPair(t, unix.SOCK_STREAM)
	_, err := kernel.SendUnix(int(urgentA.Fd()), nil, []byte("!"), nil, unix.MSG_OOB)
	must(t, err)

	for _, tt := range []struct {
		files []*os.File
		want  string
	}{
		{[]*os.File{client}, "peer " + dir + "/srv is outside the container"},
		{[]*os.File{l, server}, "a client of " + dir + "/srv, host pid "},
		{[]*os.File{logger}, "peer " + dir + "/log is outside the container"},
		{[]*os.File{hidden}, "peer (unnamed) is outside the container"},
		{[]*os.File{early, talker}, "data was sent to " + dir + "/early before the connection was accepted"},
		{[]*os.File{left}, "a client of " + dir + "/left has gone before it was accepted"},
		{[]*os.File{waits}, "a client of " + dir + "/waits is outside the container, and waits to be accepted"},
		{[]*os.File{waiting}, "it waits to be accepted on " + dir + "/waits, outside the container"},
		{[]*os.File{urgentA, urgentB}, "out-of-band data"},
		// In a queue it may still come to light, so this is known only in the end.
		{[]*os.File{a, b, client}, "peer " + dir + "/srv is outside the container"},
	} {
		_, err := kindtest.New(t, Kind, eventfd.Kind).Try(tt.files...)
		if !errors.Is(err, failure.ErrUnsupported) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		} else if len(failure.Hints(err)) == 0 {
			t.Errorf("%v: no hint", err)
		}
	}
	_ = log
}

func TestPacketEncoding(t *testing.T) {
	for _, p := range []*packet{
		{data: []byte("x")},
		{data: []byte{}, name: []byte("\x00a\x00b"), rights: []uint32{3, 1}, cred: &image.Ucred{Pid: 1, Uid: 2, Gid: 3}},
	} {
		raw, err := proto.Marshal(p.entry(9))
		must(t, err)
		var e sk_packet.SkPacketEntry
		must(t, proto.Unmarshal(raw, &e))
		got, err := packetOf(&e, p.data)
		must(t, err)
		if d := cmp.Diff(p, got, cmp.AllowUnexported(packet{}), protocmp.Transform()); d != "" || e.GetIdFor() != 9 {
			t.Errorf("packet (-want +got):\n%s", d)
		}
	}
	e := (&packet{}).entry(1)
	e.ProtoReflect().SetUnknown([]byte{0x82, 0x08, 0x02, 0x08}) // ucred cut off
	if _, err := packetOf(e, nil); !errors.Is(err, failure.ErrDamaged) {
		t.Errorf("got %v", err)
	}
}
