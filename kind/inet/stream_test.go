package inet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/kindtest"
)

// pairOver is a connection over a listener at addr, which stays.
func pairOver(t testing.TB, family int, addr string) (client, server, listener *os.File) {
	t.Helper()
	listener = socket(t, family, sockStream, 0, [3]int{sol, unix.SO_REUSEADDR, 1})
	bind(t, listener, addr)
	listen(t, listener, 8)
	client = socket(t, family, sockStream, 0)
	sa, err := unix.Getsockname(int(listener.Fd()))
	must(t, err)
	must(t, unix.Connect(int(client.Fd()), sa))
	n, _, err := unix.Accept4(int(listener.Fd()), unix.SOCK_CLOEXEC)
	must(t, err)
	server = os.NewFile(uintptr(n), "accepted")
	t.Cleanup(func() { server.Close() })
	return client, server, listener
}

// fill sends as much as goes in without anybody reading.
func fill(t testing.TB, f *os.File) (sent []byte) {
	t.Helper()
	chunk := make([]byte, 10007)
	for n := byte(0); ; n++ {
		for i := range chunk {
			chunk[i] = n*31 + byte(i%251)
		}
		k, err := unix.SendmsgN(int(f.Fd()), chunk, nil, nil, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return sent
		}
		must(t, err)
		sent = append(sent, chunk[:k]...)
	}
}

func say(t testing.TB, f *os.File, what string) {
	t.Helper()
	_, err := f.Write([]byte(what))
	must(t, err)
}

// patient makes reads fail rather than wait for ever.
func patient(t testing.TB, f *os.File) *os.File {
	t.Helper()
	must(t, unix.SetsockoptTimeval(int(f.Fd()), sol, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
	return f
}

func hear(t testing.TB, f *os.File, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(patient(t, f), got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes of %d, equal: %v (%v)", n, len(want), bytes.Equal(got, want), err)
	}
}

func hearEnd(t testing.TB, f *os.File, want error) {
	t.Helper()
	n, err := patient(t, f).Read(make([]byte, 1))
	if n != 0 || want == io.EOF && err != io.EOF || want != io.EOF && !errors.Is(err, want) {
		t.Fatalf("%d bytes, %v, want %v", n, err, want)
	}
}

// chat proves that a connection works in both directions and ends well.
func chat(t testing.TB, a, b *os.File) {
	t.Helper()
	say(t, a, "question")
	hear(t, b, []byte("question"))
	say(t, b, "answer")
	hear(t, a, []byte("answer"))
	must(t, unix.Shutdown(int(a.Fd()), unix.SHUT_WR))
	hearEnd(t, b, io.EOF)
	say(t, b, "bye")
	must(t, b.Close())
	hear(t, a, []byte("bye"))
	hearEnd(t, a, io.EOF)
}

var places = map[string]struct {
	family int
	addr   string
}{"IPv4": {in4, "127.0.0.1:80"}, "IPv6": {in6, "[::1]:80"}, "IPv4 in IPv6": {in6, "[::ffff:127.0.0.1]:80"}}

// carry dumps files, sees that they are as before, closes them without a word
// being sent, and restores them.
func carry(t *testing.T, files ...*os.File) []*os.File {
	t.Helper()
	var was []facts
	for _, f := range files {
		was = append(was, factsOf(t, f))
	}
	box := kindtest.New(t, Kind)
	saved := box.Dump(files...)
	for i, f := range files {
		sameFacts(t, was[i], factsOf(t, f))
	}
	vanish(t, files...)
	return box.Restore(saved)
}

// carryBusy is carry for connections in which the kernel is at work (it tries
// again to send): no two looks are the same.
func carryBusy(t *testing.T, files ...*os.File) []*os.File {
	t.Helper()
	var was []facts
	for _, f := range files {
		was = append(was, factsOf(t, f))
	}
	box := kindtest.New(t, Kind)
	saved, err := box.Try(files...)
	must(t, err)
	for i, f := range files {
		sameStream(t, was[i], factsOf(t, f))
	}
	vanish(t, files...)
	return box.Restore(saved)
}

func vanish(t testing.TB, files ...*os.File) {
	t.Helper()
	for _, f := range files {
		if s, err := look(int(f.Fd())); err == nil && s.tcp() && s.connected() {
			must(t, repair(int(f.Fd()), repairOn))
		}
		must(t, f.Close())
	}
}

func TestConnections(t *testing.T) {
	type ends struct{ c, s *os.File }
	tests := map[string]struct {
		carry  func(*testing.T, ...*os.File) []*os.File
		before func(t *testing.T, e ends) (toC, toS []byte)
		after  func(t *testing.T, e ends)
		states [2]int // of c and s, 0: established; FIN_WAIT1 may have become FIN_WAIT2
	}{
		"idle": {carry, func(*testing.T, ends) ([]byte, []byte) { return nil, nil }, func(t *testing.T, e ends) { chat(t, e.c, e.s) }, [2]int{}},
		"after a talk": {carryBusy, func(t *testing.T, e ends) ([]byte, []byte) {
			say(t, e.c, "1")
			hear(t, e.s, []byte("1"))
			return nil, nil
		}, func(t *testing.T, e ends) { chat(t, e.s, e.c) }, [2]int{}},
		"unread": {carryBusy, func(t *testing.T, e ends) ([]byte, []byte) {
			say(t, e.c, "to the server")
			say(t, e.s, "to the client")
			return []byte("to the client"), []byte("to the server")
		}, func(t *testing.T, e ends) { chat(t, e.c, e.s) }, [2]int{}},
		"full": {carryBusy, func(t *testing.T, e ends) ([]byte, []byte) { return fill(t, e.s), fill(t, e.c) }, func(t *testing.T, e ends) { chat(t, e.c, e.s) }, [2]int{}},
		"half closed": {carryBusy, func(t *testing.T, e ends) ([]byte, []byte) {
			say(t, e.c, "all")
			must(t, unix.Shutdown(int(e.c.Fd()), unix.SHUT_WR))
			return nil, []byte("all")
		}, func(t *testing.T, e ends) {
			hearEnd(t, e.s, io.EOF)
			say(t, e.s, "reply")
			hear(t, e.c, []byte("reply"))
			must(t, e.s.Close())
			hearEnd(t, e.c, io.EOF)
		}, [2]int{stateFinWait1, stateCloseWait}},
		"closing behind full queues": {carryBusy, func(t *testing.T, e ends) ([]byte, []byte) {
			toC, toS := fill(t, e.s), fill(t, e.c)
			must(t, unix.Shutdown(int(e.c.Fd()), unix.SHUT_WR))
			must(t, unix.Shutdown(int(e.s.Fd()), unix.SHUT_WR))
			return toC, toS
		}, func(t *testing.T, e ends) {
			hearEnd(t, e.s, io.EOF)
			hearEnd(t, e.c, io.EOF)
		}, [2]int{stateFinWait1, stateFinWait1}},
		"closing behind a full queue": {carryBusy, func(t *testing.T, e ends) ([]byte, []byte) {
			toS := fill(t, e.c)
			must(t, unix.Shutdown(int(e.c.Fd()), unix.SHUT_WR))
			must(t, unix.Shutdown(int(e.s.Fd()), unix.SHUT_WR))
			return nil, toS
		}, func(t *testing.T, e ends) {
			hearEnd(t, e.s, io.EOF)
			hearEnd(t, e.c, io.EOF)
		}, [2]int{stateClosing, stateFinWait2}},
		"half closed, then full": {carryBusy, func(t *testing.T, e ends) ([]byte, []byte) {
			must(t, unix.Shutdown(int(e.c.Fd()), unix.SHUT_WR))
			toC := fill(t, e.s)
			must(t, unix.Shutdown(int(e.s.Fd()), unix.SHUT_WR))
			return toC, nil
		}, func(t *testing.T, e ends) {
			hearEnd(t, e.s, io.EOF)
			hearEnd(t, e.c, io.EOF)
		}, [2]int{stateFinWait2, stateLastAck}},
		"corked": {carryBusy, func(t *testing.T, e ends) ([]byte, []byte) {
			must(t, unix.SetsockoptInt(int(e.c.Fd()), tcp, unix.TCP_CORK, 1))
			say(t, e.c, "part of ")
			say(t, e.c, "a segment")
			return nil, []byte("part of a segment")
		}, func(t *testing.T, e ends) {
			must(t, unix.SetsockoptInt(int(e.c.Fd()), tcp, unix.TCP_CORK, 0))
			chat(t, e.c, e.s)
		}, [2]int{}},
		"reading shut down": {carry, func(t *testing.T, e ends) ([]byte, []byte) {
			must(t, unix.Shutdown(int(e.s.Fd()), unix.SHUT_RD))
			return nil, nil
		}, func(t *testing.T, e ends) {
			hearEnd(t, e.s, io.EOF)
			say(t, e.s, "still")
			hear(t, e.c, []byte("still"))
		}, [2]int{}},
	}
	for name, tt := range tests {
		for place, p := range places {
			t.Run(name+" "+place, func(t *testing.T) {
				ownNet(t)
				c, s, l := pairOver(t, p.family, p.addr)
				toC, toS := tt.before(t, ends{c, s})
				was := []facts{factsOf(t, c), factsOf(t, s)}
				for i, state := range tt.states {
					state = max(state, stateEstablished)
					if is := was[i].state; is != state && (is != stateFinWait2 || state != stateFinWait1) {
						t.Fatalf("end %d is %s, not %s", i, stateNames[was[i].state], stateNames[state])
					}
				}
				got := tt.carry(t, c, s, l)
				e := ends{got[0], got[1]}
				for i, f := range got[:2] {
					sameStream(t, was[i], factsOf(t, f))
				}
				hear(t, e.c, toC)
				hear(t, e.s, toS)
				tt.after(t, e)
			})
		}
	}
}

// sameStream leaves out what belongs to the moment: the last window, the
// round trip, what was negotiated anew. The states of a closing connection may
// have gone on by what had not been acknowledged.
func sameStream(t testing.TB, was, is facts) {
	t.Helper()
	for _, f := range []*facts{&was, &is} {
		f.mss = 0
		if f.state == stateFinWait2 {
			f.state = stateFinWait1 // the FIN is on its way again
		}
	}
	if a, b := was.Options[[2]int{tcp, unix.TCP_MAXSEG}], is.Options[[2]int{tcp, unix.TCP_MAXSEG}]; was.connected() && b < min(a, 30000) {
		t.Errorf("segments of %d bytes, had %d", b, a)
	}
	for _, f := range []facts{was, is} {
		for _, o := range [][2]int{{sol, unix.SO_SNDBUF}, {tcp, unix.TCP_WINDOW_CLAMP}, {tcp, unix.TCP_MAXSEG}, {tcp, unix.TCP_CC_INFO},
			{sol, unix.SO_INCOMING_CPU}, {ip, unix.IP_MULTICAST_TTL}, {ipv6, unix.IPV6_MULTICAST_HOPS}, {ipv6, unix.IPV6_MULTICAST_IF}, {ipv6, unix.IPV6_V6ONLY}} {
			delete(f.Options, o)
		}
	}
	if d := cmp.Diff(was.state, is.state); d != "" {
		t.Errorf("state (-before +after):\n%s", d)
	}
	sameFacts(t, was, is)
}

// What the other end has left behind when it was closed.
func TestOtherEndClosed(t *testing.T) {
	for place, p := range places {
		t.Run(place, func(t *testing.T) {
			ownNet(t)
			c, s, _ := pairOver(t, p.family, p.addr)
			say(t, c, "last words")
			must(t, c.Close())
			waits := factsOf(t, s)
			got := carry(t, s)
			sameStream(t, waits, factsOf(t, got[0]))
			hear(t, got[0], []byte("last words"))
			hearEnd(t, got[0], io.EOF)
		})
	}
}

func TestRemains(t *testing.T) {
	for _, tt := range []struct {
		name  string
		reset bool
		data  string
		want  error
	}{{"ended", false, "reply", io.EOF}, {"reset", true, "", unix.ECONNRESET}, {"reset after data", true, "half a rep", unix.ECONNRESET}} {
		for place, p := range places {
			t.Run(tt.name+" "+place, func(t *testing.T) {
				ownNet(t)
				c, s, _ := pairOver(t, p.family, p.addr)
				say(t, s, tt.data)
				if tt.reset {
					must(t, unix.SetsockoptLinger(int(s.Fd()), sol, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
				} else {
					must(t, unix.Shutdown(int(c.Fd()), unix.SHUT_WR))
				}
				must(t, s.Close())
				was := factsOf(t, c)
				if was.state != stateClose {
					t.Fatalf("state %s", stateNames[was.state])
				}
				got := carry(t, c)
				sameStream(t, was, factsOf(t, got[0]))
				hear(t, got[0], []byte(tt.data))
				hearEnd(t, got[0], tt.want)
				hearEnd(t, got[0], io.EOF)
			})
		}
	}
}

// A connection that was refused is told apart from one that was reset, also
// from one that was restored and over which nothing has gone since.
func TestNobodyListened(t *testing.T) {
	for place, p := range places {
		t.Run(place, func(t *testing.T) {
			ownNet(t)
			c := socket(t, p.family, sockStream|unix.SOCK_NONBLOCK, 0)
			if err := unix.Connect(int(c.Fd()), sockaddr(netip.MustParseAddrPort(p.addr), 0)); !errors.Is(err, unix.EINPROGRESS) {
				t.Fatalf("connect: %v", err)
			}
			if shows, err := kernel.Poll(c.Fd(), unix.POLLERR); shows&unix.POLLERR == 0 || err != nil {
				t.Fatalf("poll shows %x, %v", shows, err)
			}
			got := carry(t, c)[0]
			if e, err := unix.GetsockoptInt(int(got.Fd()), sol, unix.SO_ERROR); e != int(unix.ECONNREFUSED) || err != nil {
				t.Errorf("error %d, %v", e, err)
			}
			c, s, _ := pairOver(t, p.family, p.addr)
			both := carry(t, c, s)
			must(t, unix.SetsockoptLinger(int(both[1].Fd()), sol, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
			must(t, both[1].Close())
			hearEnd(t, carry(t, both[0])[0], unix.ECONNRESET)
		})
	}
}

// Why a connection could not be made is not shown where nobody has answered.
func TestNobodyAnswered(t *testing.T) {
	ownNet(t)
	c := socket(t, in4, sockStream|unix.SOCK_NONBLOCK, 0)
	must(t, unix.SetsockoptInt(int(c.Fd()), tcp, unix.TCP_SYNCNT, 1))
	l := socket(t, in4, sockStream, 0)
	bind(t, l, "127.0.0.1:80")
	listen(t, l, 0)
	connect(t, socket(t, in4, sockStream, 0), "127.0.0.1:80") // all there is room for
	if err := unix.Connect(int(c.Fd()), sockaddr(netip.MustParseAddrPort("127.0.0.1:80"), 0)); !errors.Is(err, unix.EINPROGRESS) {
		t.Fatalf("connect: %v", err)
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.Fd())}}, 30_000); n != 1 || err != nil {
		t.Fatalf("poll: %d, %v", n, err)
	}
	refused(t, kindtest.Refused(t, Kind, c), "an error, or what has become of something it has sent, waits to be read (SO_ERROR, MSG_ERRQUEUE)")
	if e, err := unix.GetsockoptInt(int(c.Fd()), sol, unix.SO_ERROR); e != int(unix.ETIMEDOUT) || err != nil {
		t.Errorf("error %d, %v", e, err)
	}
}

// Both ends have closed, and hold what is left of the connection.
func TestEnded(t *testing.T) {
	for place, p := range places {
		t.Run(place, func(t *testing.T) {
			ownNet(t)
			c, s, l := pairOver(t, p.family, p.addr)
			must(t, l.Close())
			must(t, unix.Shutdown(int(c.Fd()), unix.SHUT_WR))
			must(t, unix.Shutdown(int(s.Fd()), unix.SHUT_WR))
			was := []facts{factsOf(t, c), factsOf(t, s)}
			for i, f := range carry(t, c, s) {
				is := factsOf(t, f)
				if is.state != was[i].state || is.shutdown != was[i].shutdown {
					t.Errorf("state %s, shut down %v; were %s, %v", stateNames[is.state], is.shutdown, stateNames[was[i].state], was[i].shutdown)
				}
				hearEnd(t, f, io.EOF)
				if _, err := f.WriteString("x"); !errors.Is(err, unix.EPIPE) {
					t.Errorf("write: %v", err)
				}
			}
		})
	}
}

func TestConnectionRefused(t *testing.T) {
	ownNet(t)
	c, s, l := pairOver(t, in4, "127.0.0.1:80")
	refused(t, kindtest.Refused(t, Kind, s), "established TCP connection to 127.0.0.1:", "outside the container")
	fill(t, s)
	must(t, s.Close())
	waiting := socket(t, in4, sockStream, 0)
	connect(t, waiting, "127.0.0.1:80")
	refused(t, kindtest.Refused(t, Kind, waiting), "not accepted yet")
	refused(t, kindtest.Refused(t, Kind, l), "outside the container, waits to be accepted on 127.0.0.1:80")
	refused(t, kindtest.Refused(t, Kind, c), "127.0.0.1:80", "closed before all was read")
}

// A connection to itself, and one that is being made from both ends at a time.
func TestUnusualConnections(t *testing.T) {
	ownNet(t)
	c := socket(t, in4, sockStream, 0)
	bind(t, c, "127.0.0.1:80")
	connect(t, c, "127.0.0.1:80")
	refused(t, kindtest.Refused(t, Kind, c), "a TCP socket connected to itself (127.0.0.1:80)")
	say(t, c, "still")
	hear(t, c, []byte("still"))
	i := &seen{state: stateSynRecv, peer: netip.MustParseAddrPort("192.0.2.1:80")} // it lasts as long as a segment is under way
	refused(t, new(saver).checkConnection(&kind.Dump{}, &kind.Desc{File: c}, i), "a TCP connection to 192.0.2.1:80 that is being made (SYN_RECV)")
}

// A client that has said nothing to a listener which waits for that: to the
// listener the connection is still being made (SYN_RECV).
func TestDeferred(t *testing.T) {
	ownNet(t)
	l := socket(t, in4, sockStream, 0, [3]int{tcp, unix.TCP_DEFER_ACCEPT, 60})
	bind(t, l, "127.0.0.1:80")
	listen(t, l, 8)
	c := socket(t, in4, sockStream, 0)
	connect(t, c, "127.0.0.1:80")
	refused(t, kindtest.Refused(t, Kind, l, c), "a TCP connection to 127.0.0.1:80", "or is not accepted yet")
	say(t, c, "hello")
	f, _ := accepted(t, l)
	hear(t, f, []byte("hello"))
	chat(t, c, f)
}

// A killed container's connection stays for a while where it did not vanish.
func TestOldConnection(t *testing.T) {
	ownNet(t)
	c, s, _ := pairOver(t, in4, "127.0.0.1:80")
	box := kindtest.New(t, Kind)
	saved := box.Dump(c, s)
	_, _, err := box.TryRestore(saved)
	refused(t, err, "TCP connection 127.0.0.1:", "to 127.0.0.1:80", "still is a connection")
	must(t, c.Close())
	must(t, s.Close())
	deadline := time.Now().Add(30 * time.Second)
	for {
		got, _, err := box.TryRestore(saved) // net.ipv4.tcp_tw_reuse is 2: after a second, over loopback
		if err == nil {
			chat(t, got[0], got[1])
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// What criu makes of the image: one of two queues, both with their lengths.
func TestImage(t *testing.T) {
	ownNet(t)
	c, s, _ := pairOver(t, in4, "127.0.0.1:80")
	say(t, s, "hello")
	box := kindtest.New(t, Kind)
	saved := box.Dump(c, s)
	in := saved.Open(t)
	for i, want := range []uint32{5, 0} {
		e := saved.Entries[i].GetIsk()
		if !in.Has(image.TCPStream, image.TCPStream.ID(uint64(e.GetIno()))) {
			t.Fatalf("no stream for inode %x", e.GetIno())
		}
		w := &world{r: &kind.Restore{In: in}}
		got := &sock{sort: sort{in4, sockStream, tcp}, e: e}
		must(t, w.loadStream(got))
		if got.st.GetInqLen() != want || len(got.in) != int(want) {
			t.Errorf("%d bytes in the queue, %d announced, want %d", len(got.in), got.st.GetInqLen(), want)
		}
	}
	if a, b := saved.Entries[0].GetIsk(), saved.Entries[1].GetIsk(); a.GetDstPort() != 80 || a.GetSrcPort() != b.GetDstPort() || !slices.Equal(a.GetDstAddr(), words(netip.AddrFrom4([4]byte{127, 0, 0, 1}))) {
		t.Errorf("addresses: %v, %v", a, b)
	}
}

// A connection that leads out and is signed: the other end would take nothing.
func TestSigned(t *testing.T) {
	ownNet(t)
	signs := func(f *os.File) *os.File {
		// struct tcp_md5sig: address, flags, prefix, length of the key, interface, key
		b := make([]byte, 128, 216)
		binary.NativeEndian.PutUint16(b, unix.AF_INET)
		copy(b[4:], []byte{127, 0, 0, 1})
		b = binary.NativeEndian.AppendUint16(append(b, 0, 0), 6)
		b = append(b, 0, 0, 0, 0)
		b = append(b, "secret"...)
		must(t, kernel.SetSocketOption(f.Fd(), tcp, unix.TCP_MD5SIG, b[:cap(b)]))
		return f
	}
	l := signs(socket(t, in4, sockStream, 0))
	bind(t, l, "127.0.0.1:80")
	listen(t, l, 8)
	c := signs(socket(t, in4, sockStream, 0))
	connect(t, c, "127.0.0.1:80")
	n, _, err := unix.Accept4(int(l.Fd()), unix.SOCK_CLOEXEC)
	must(t, err)
	s := os.NewFile(uintptr(n), "accepted")
	defer s.Close()
	box := kindtest.New(t, Kind)
	box.OnDump = func(d *kind.Dump) { d.Outside = kind.Keep }
	_, err = box.Try(s)
	refused(t, err, "127.0.0.1:", "its segments are signed (TCP_MD5SIG)")
}
