package unixsock

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/eventfd"
	"ckpt/kind/kindtest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func file(t *testing.T, fd int) *os.File {
	f := os.NewFile(uintptr(fd), "test")
	t.Cleanup(func() { f.Close() })
	return f
}

func socket(t *testing.T, typ int) *os.File {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	return file(t, fd)
}

func newPair(t *testing.T, typ int) (a, b *os.File) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	return file(t, p[0]), file(t, p[1])
}

// sun makes the bytes of sun_path; "@x" is abstract.
func sun(name string) []byte {
	if strings.HasPrefix(name, "@") {
		return append([]byte{0}, name[1:]...)
	}
	return append([]byte(name), 0)
}

func bound(t *testing.T, typ int, name string) *os.File {
	t.Helper()
	f := socket(t, typ)
	must(t, kernel.BindUnix(int(f.Fd()), sun(name)))
	return f
}

func listening(t *testing.T, typ int, name string, backlog int) *os.File {
	t.Helper()
	f := bound(t, typ, name)
	must(t, unix.Listen(int(f.Fd()), backlog))
	return f
}

func connected(t *testing.T, typ int, name string) *os.File {
	t.Helper()
	f := socket(t, typ)
	must(t, kernel.ConnectUnix(int(f.Fd()), sun(name)))
	return f
}

func accept(t *testing.T, l *os.File) *os.File {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(l.Fd()), Events: unix.POLLIN}}
	if n, err := unix.Poll(p, 0); err != nil || n != 1 {
		t.Fatalf("nobody waits to be accepted (%v)", err)
	}
	fd, _, err := unix.Accept4(int(l.Fd()), unix.SOCK_CLOEXEC)
	must(t, err)
	return file(t, fd)
}

func send(t *testing.T, f *os.File, msgs ...string) {
	t.Helper()
	for _, m := range msgs {
		_, err := kernel.SendUnix(int(f.Fd()), nil, []byte(m), nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		must(t, err)
	}
}

// received reads every message that waits, as "data" or "name: data". What
// says that nothing follows comes last: "EAGAIN", "end", or another error.
func received(t *testing.T, f *os.File) (out []string) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for {
		m, err := kernel.RecvUnix(int(f.Fd()), buf, nil, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return append(out, "EAGAIN")
		case err != nil:
			return append(out, err.Error())
		}
		typ, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_TYPE)
		must(t, err)
		if len(m.Data) == 0 && typ == unix.SOCK_STREAM {
			return append(out, "end")
		}
		s := string(m.Data)
		if typ == unix.SOCK_DGRAM && len(m.Name) > 0 {
			s = shown(m.Name) + ": " + s
		}
		if out = append(out, s); len(out) > 20 {
			return out
		}
	}
}

func want(t *testing.T, f *os.File, msgs ...string) {
	t.Helper()
	if d := cmp.Diff(msgs, received(t, f)); d != "" {
		t.Errorf("received (-want +got):\n%s", d)
	}
}

// names are the own one, as the kernel lists it, and the peer's.
func names(t *testing.T, f *os.File) (own, peer string) {
	t.Helper()
	all, err := sockets(&kind.Dump{})
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &st))
	p, err := kernel.UnixPeerName(int(f.Fd()))
	if err != nil {
		return shown(all[uint32(st.Ino)].name), err.Error()
	}
	return shown(all[uint32(st.Ino)].name), shown(p)
}

// cycle takes sockets through a dump and a restore, after the old ones were
// closed, and checks that a dump of the new ones says the same of them.
func cycle(t *testing.T, files ...*os.File) []*os.File {
	t.Helper()
	b := kindtest.New(t, Kind, eventfd.Kind)
	saved := b.Dump(files...)
	for _, f := range files {
		f.Close()
	}
	got := b.Restore(saved)
	again, err := b.Try(got...)
	must(t, err)
	if d := cmp.Diff(normal(saved.Entries), normal(again.Entries), protocmp.Transform()); d != "" {
		t.Errorf("entries of the restored sockets (-before +after):\n%s", d)
	}
	return got
}

// normal replaces inode numbers by their order.
func normal(in []*fdinfo.FileEntry) (out []*fdinfo.FileEntry) {
	n := map[uint32]uint32{0: 0}
	for i, e := range in {
		n[e.GetUsk().GetIno()] = uint32(i + 1)
	}
	for _, e := range in {
		e = proto.Clone(e).(*fdinfo.FileEntry)
		if u := e.Usk; u != nil {
			u.Ino, u.Peer = proto.Uint32(n[u.GetIno()]), proto.Uint32(n[u.GetPeer()])
		}
		out = append(out, e)
	}
	return out
}

var types = map[string]int{"stream": unix.SOCK_STREAM, "dgram": unix.SOCK_DGRAM, "seqpacket": unix.SOCK_SEQPACKET}

func TestPair(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 10000)
	for name, typ := range types {
		t.Run(name, func(t *testing.T) {
			a, b := newPair(t, typ)
			must(t, unix.SetNonblock(int(b.Fd()), true))
			send(t, a, "one", "two", long)
			send(t, b, "back")
			got := cycle(t, a, b)
			if typ == unix.SOCK_STREAM {
				want(t, got[1], "onetwo"+long, "EAGAIN")
			} else {
				want(t, got[1], "one", "two", long, "EAGAIN")
			}
			want(t, got[0], "back", "EAGAIN")
			send(t, got[1], "more")
			want(t, got[0], "more", "EAGAIN")
		})
	}
}

// An image is made once: a dump leaves its mark on empty messages (see peek).
func TestEmptyMessages(t *testing.T) {
	for name, typ := range types {
		if typ == unix.SOCK_STREAM {
			continue
		}
		t.Run(name, func(t *testing.T) {
			a, b := newPair(t, typ)
			send(t, a, "", "x", "", "", "y", "")
			box := kindtest.New(t, Kind)
			saved, err := box.Try(a, b)
			must(t, err)
			got := box.Restore(saved)
			want(t, got[1], "", "x", "", "", "y", "", "EAGAIN")
			want(t, b, "", "x", "", "", "y", "", "EAGAIN")
		})
	}
}

func TestShutdown(t *testing.T) {
	for name, typ := range types {
		t.Run(name, func(t *testing.T) {
			for _, how := range []int{unix.SHUT_RD, unix.SHUT_WR, unix.SHUT_RDWR} {
				a, b := newPair(t, typ)
				send(t, a, "sent before")
				must(t, unix.Shutdown(int(a.Fd()), how))
				got := cycle(t, a, b)
				if r := received(t, got[1]); r[0] != "sent before" {
					t.Errorf("how %d: received %q", how, r)
				}
				_, err := kernel.SendUnix(int(got[0].Fd()), nil, []byte("x"), nil, unix.MSG_NOSIGNAL)
				if refused := errors.Is(err, unix.EPIPE); refused != (how != unix.SHUT_RD) {
					t.Errorf("how %d: send: %v", how, err)
				}
			}
		})
	}
}

func TestPeerClosed(t *testing.T) {
	for name, typ := range types {
		t.Run(name, func(t *testing.T) {
			a, b := newPair(t, typ)
			send(t, a, "last words")
			a.Close()
			got := cycle(t, b)
			if r := received(t, got[0]); r[0] != "last words" {
				t.Errorf("received %q", r)
			}
			_, err := kernel.SendUnix(int(got[0].Fd()), nil, []byte("x"), nil, unix.MSG_NOSIGNAL)
			if !errors.Is(err, map[bool]error{true: unix.ECONNREFUSED, false: unix.EPIPE}[typ == unix.SOCK_DGRAM]) {
				t.Errorf("send: %v", err)
			}
		})
	}
}

func TestReset(t *testing.T) {
	a, b := newPair(t, unix.SOCK_STREAM)
	send(t, a, "seen")
	send(t, b, "never read")
	a.Close()
	got := cycle(t, b)
	want(t, got[0], "seen", unix.ECONNRESET.Error())
}

func TestListener(t *testing.T) {
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET} {
		for _, name := range []string{filepath.Join(t.TempDir(), "sock"), fmt.Sprintf("@ckpt\x00test%d", typ)} {
			l := listening(t, typ, name, 7)
			c, w1, w2 := connected(t, typ, name), connected(t, typ, name), connected(t, typ, name)
			s := accept(t, l)
			send(t, c, "question")
			send(t, s, "answer")
			got := cycle(t, l, c, w1, w2, s)
			want(t, got[4], "question", "EAGAIN")
			want(t, got[1], "answer", "EAGAIN")
			if own, peer := names(t, got[4]); own != name || peer != "(unnamed)" {
				t.Errorf("server: %q, peer %q", own, peer)
			}
			if own, peer := names(t, got[1]); own != "(unnamed)" || peer != name {
				t.Errorf("client: %q, peer %q", own, peer)
			}
			// Those that waited, in their order, then a new one.
			for i, client := range []*os.File{got[2], got[3], connected(t, typ, name)} {
				send(t, client, fmt.Sprint(i))
				want(t, accept(t, got[0]), fmt.Sprint(i), "EAGAIN")
			}
		}
	}
}

// A server that stopped listening; its connections keep the name.
func TestListenerClosed(t *testing.T) {
	for i, name := range []string{filepath.Join(t.TempDir(), "sock"), "@ckpt test closed"} {
		client := fmt.Sprint("@ckpt test client ", i)
		l := listening(t, unix.SOCK_STREAM, name, 1)
		c, c2 := bound(t, unix.SOCK_STREAM, client), connected(t, unix.SOCK_STREAM, name)
		s2 := accept(t, l)
		must(t, kernel.ConnectUnix(int(c.Fd()), sun(name)))
		s := accept(t, l)
		l.Close()
		c2.Close()
		send(t, s, "hello")
		got := cycle(t, c, s, s2)
		want(t, got[0], "hello", "EAGAIN")
		want(t, got[2], "end")
		if own, peer := names(t, got[1]); own != name || peer != client {
			t.Errorf("server: %q, peer %q", own, peer)
		}
		if own, peer := names(t, got[2]); own != name {
			t.Errorf("server without client: %q, peer %q", own, peer)
		}
	}
}

func TestDatagrams(t *testing.T) {
	dir := t.TempDir()
	srv, alice := bound(t, unix.SOCK_DGRAM, dir+"/srv"), bound(t, unix.SOCK_DGRAM, dir+"/alice")
	must(t, kernel.ConnectUnix(int(alice.Fd()), sun(dir+"/srv")))
	anon := connected(t, unix.SOCK_DGRAM, dir+"/srv")
	gone := bound(t, unix.SOCK_DGRAM, "@gone")
	must(t, kernel.ConnectUnix(int(gone.Fd()), sun(dir+"/srv")))
	send(t, alice, "a1")
	send(t, anon, "n1")
	send(t, gone, "g1")
	send(t, alice, "a2")
	gone.Close()
	got := cycle(t, srv, alice, anon)
	want(t, got[0], dir+"/alice: a1", "n1", "@gone: g1", dir+"/alice: a2", "EAGAIN")
	send(t, got[1], "a3")
	send(t, got[2], "n2")
	want(t, got[0], dir+"/alice: a3", "n2", "EAGAIN")
	if _, peer := names(t, got[2]); peer != dir+"/srv" {
		t.Errorf("peer %q", peer)
	}
}

// Two named sockets connected to each other, one with a message from a third.
func TestDatagramsMutual(t *testing.T) {
	dir := t.TempDir()
	a, b, c := bound(t, unix.SOCK_DGRAM, dir+"/a"), bound(t, unix.SOCK_DGRAM, dir+"/b"), bound(t, unix.SOCK_DGRAM, dir+"/c")
	_, err := kernel.SendUnix(int(c.Fd()), sun(dir+"/a"), []byte("from c"), nil, 0)
	must(t, err)
	must(t, kernel.ConnectUnix(int(a.Fd()), sun(dir+"/b")))
	must(t, kernel.ConnectUnix(int(b.Fd()), sun(dir+"/a")))
	send(t, b, "from b")
	got := cycle(t, a, b, c)
	want(t, got[0], dir+"/c: from c", dir+"/b: from b", "EAGAIN")
	if _, err := kernel.SendUnix(int(got[2].Fd()), sun(dir+"/a"), []byte("x"), nil, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("a third one sends: %v, want EPERM", err)
	}
}

func TestOptions(t *testing.T) {
	a, b := newPair(t, unix.SOCK_STREAM)
	must(t, unix.SetsockoptInt(int(a.Fd()), unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
	must(t, unix.SetsockoptInt(int(a.Fd()), unix.SOL_SOCKET, unix.SO_SNDBUF, 40000))
	must(t, unix.SetsockoptInt(int(b.Fd()), unix.SOL_SOCKET, unix.SO_PEEK_OFF, 2))
	send(t, a, "0123")
	got := cycle(t, a, b)
	m, err := kernel.RecvUnix(int(got[1].Fd()), make([]byte, 10), nil, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err != nil || !bytes.Equal(m.Data, []byte("23")) {
		t.Errorf("peeked %q, %v, want from offset 2", m.Data, err)
	}
}
