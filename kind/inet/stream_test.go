package inet

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/kernel"
	"ckpt/kind/kindtest"
)

var places = map[string]struct {
	family int
	addr   string
}{"IPv4": {in4, "127.0.0.1:80"}, "IPv6": {in6, "[::1]:80"}, "IPv4 in IPv6": {in6, "[::ffff:127.0.0.1]:80"}}

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
