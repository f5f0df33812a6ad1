package inet

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/kind/kindtest"
)

// got is what recvmsg(2) gives.
type got struct {
	Data, From string
	Control    []byte
}

func receive(t testing.TB, f *os.File) (out []got) {
	t.Helper()
	for {
		b, oob := make([]byte, 1<<16), make([]byte, 1000)
		n, c, _, from, err := unix.Recvmsg(int(f.Fd()), b, oob, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return out
		}
		must(t, err)
		a, _ := netipOf(from)
		out = append(out, got{string(b[:n]), a.String(), oob[:c]})
	}
}

// send sends from an address to another, each a datagram.
func send(t testing.TB, family int, from, to string, opts [][3]int, data ...string) {
	t.Helper()
	sendBy(t, socket(t, family, sockDgram, 0, opts...), from, to, data...)
}

func sendBy(t testing.TB, f *os.File, from, to string, data ...string) {
	t.Helper()
	bind(t, f, from)
	for _, d := range data {
		must(t, unix.Sendto(int(f.Fd()), []byte(d), 0, sockaddr(netip.MustParseAddrPort(to), 0)))
	}
	must(t, f.Close())
}

// What waits comes back with all that came with it, once while the socket goes
// on and once to a new one: twice in a row, since looking leaves marks.
func TestDatagrams(t *testing.T) {
	foreign := [][3]int{{ip, unix.IP_TRANSPARENT, 1}}
	foreign6 := [][3]int{{ipv6, unix.IPV6_TRANSPARENT, 1}}
	long := string(make([]byte, 20000))
	for name, tt := range map[string]struct {
		setup
		fill   func(*testing.T)
		filter []unix.SockFilter
		after  string // connected, once all is there
	}{
		"one":      {setup: setup{family: in4, typ: sockDgram, bind: "127.0.0.1:53", backlog: -1}, fill: func(t *testing.T) { send(t, in4, "127.0.0.1:7", "127.0.0.1:53", nil, "hello") }},
		"lengths":  {setup: setup{family: in4, typ: sockDgram, bind: "0.0.0.0:53", backlog: -1}, fill: func(t *testing.T) { send(t, in4, "127.0.0.1:7", "127.0.0.9:53", nil, "", "hello", long, "x") }},
		"its own":  {setup: setup{family: in4, typ: sockDgram, bind: "127.0.0.1:53", backlog: -1}, fill: func(t *testing.T) {}, after: "127.0.0.1:53"},
		"foreign":  {setup: setup{family: in4, typ: sockDgram, bind: "0.0.0.0:53", backlog: -1}, fill: func(t *testing.T) { send(t, in4, "8.8.8.8:54", "127.0.0.1:53", foreign, "answer") }},
		"foreign6": {setup: setup{family: in6, typ: sockDgram, bind: "[::]:53", backlog: -1}, fill: func(t *testing.T) { send(t, in6, "[2001:db8::1]:54", "[::1]:53", foreign6, "answer") }},
		"dual stack": {setup: setup{family: in6, typ: sockDgram, bind: "[::]:53", backlog: -1, opts: [][3]int{{ipv6, unix.IPV6_V6ONLY, 0}, {ipv6, unix.IPV6_RECVPKTINFO, 1}}}, fill: func(t *testing.T) {
			send(t, in4, "8.8.8.8:54", "127.0.0.3:53", foreign, "four")
			send(t, in6, "[::1]:9", "[::1]:53", nil, "six")
		}},
		"what came with it": {setup: setup{family: in4, typ: sockDgram, bind: "0.0.0.0:53", backlog: -1, opts: [][3]int{{ip, unix.IP_PKTINFO, 1}, {ip, unix.IP_RECVTTL, 1}, {ip, unix.IP_RECVTOS, 1}}},
			fill: func(t *testing.T) {
				send(t, in4, "127.0.0.1:7", "127.0.0.9:53", [][3]int{{ip, unix.IP_TTL, 9}, {ip, unix.IP_TOS, 16}}, "a", "b")
			}},
		"what came with it, IPv6": {setup: setup{family: in6, typ: sockDgram, bind: "[::1]:53", backlog: -1, opts: [][3]int{{ipv6, unix.IPV6_RECVPKTINFO, 1}, {ipv6, unix.IPV6_RECVHOPLIMIT, 1}, {ipv6, unix.IPV6_RECVTCLASS, 1}}},
			fill: func(t *testing.T) {
				send(t, in6, "[::1]:7", "[::1]:53", [][3]int{{ipv6, unix.IPV6_UNICAST_HOPS, 9}, {ipv6, unix.IPV6_TCLASS, 16}}, "a", "b")
			}},
		"UDP-Lite": {setup: setup{family: in4, typ: sockDgram, proto: unix.IPPROTO_UDPLITE, bind: "127.0.0.1:53", backlog: -1},
			fill: func(t *testing.T) {
				sendBy(t, socket(t, in4, sockDgram, unix.IPPROTO_UDPLITE), "127.0.0.1:7", "127.0.0.1:53", "", "hello", long)
			}},
		"in segments": {setup: setup{family: in4, typ: sockDgram, bind: "127.0.0.1:53", backlog: -1, opts: [][3]int{{udp, udpGRO, 1}}},
			fill: func(t *testing.T) {
				send(t, in4, "127.0.0.1:7", "127.0.0.1:53", [][3]int{{udp, udpSegment, 3}}, "aaabbbccc")
			}},
		"small buffer": {setup: setup{family: in4, typ: sockDgram, bind: "127.0.0.1:53", backlog: -1}, fill: func(t *testing.T) { send(t, in4, "127.0.0.1:7", "127.0.0.1:53", nil, long, long) }},
		"filter since": {setup: setup{family: in4, typ: sockDgram, bind: "127.0.0.1:53", backlog: -1}, fill: func(t *testing.T) { send(t, in4, "127.0.0.1:7", "127.0.0.1:53", nil, "before") },
			filter: []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}},
		"connected since": {setup: setup{family: in4, typ: sockDgram, bind: "127.0.0.1:53", backlog: -1}, fill: func(t *testing.T) { send(t, in4, "127.0.0.1:7", "127.0.0.1:53", nil, "before") }, after: "127.0.0.1:99"},
	} {
		t.Run(name, func(t *testing.T) {
			ownNet(t)
			f := tt.setup.make(t)
			tt.fill(t)
			if tt.after != "" {
				connect(t, f, tt.after)
			}
			if name == "its own" {
				must(t, unix.Send(int(f.Fd()), []byte("to myself"), 0))
			}
			if name == "small buffer" {
				must(t, unix.SetsockoptInt(int(f.Fd()), sol, unix.SO_RCVBUF, 3000))
			}
			if tt.filter != nil {
				must(t, unix.SetsockoptSockFprog(int(f.Fd()), sol, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(tt.filter)), Filter: &tt.filter[0]}))
				must(t, unix.SetsockoptInt(int(f.Fd()), sol, unix.SO_LOCK_FILTER, 1))
			}
			facts := factsOf(t, f)
			box := kindtest.New(t, Kind)
			saved := box.Dump(f)
			sameFacts(t, facts, factsOf(t, f))
			was := receive(t, f)
			if len(was) == 0 {
				t.Fatal("nothing waited")
			}
			must(t, f.Close())
			again := box.Restore(saved)[0]
			sameFacts(t, facts, factsOf(t, again))
			saved = box.Dump(again)
			if d := cmp.Diff(was, receive(t, again)); d != "" {
				t.Errorf("(-before +after):\n%s", d)
			}
			must(t, again.Close())
			if d := cmp.Diff(was, receive(t, box.Restore(saved)[0])); d != "" {
				t.Errorf("after two (-before +after):\n%s", d)
			}
		})
	}
}

// Those who send and those who share a port get only what is theirs.
func TestDatagramsOfMany(t *testing.T) {
	ownNet(t)
	var files []*os.File
	reuse := [3]int{sol, unix.SO_REUSEPORT, 1}
	for range 3 {
		f := socket(t, in4, sockDgram, 0, reuse)
		bind(t, f, "127.0.0.1:53")
		files = append(files, f)
	}
	client := socket(t, in4, sockDgram, 0)
	bind(t, client, "127.0.0.1:1000")
	files = append(files, client)
	for i := range 20 {
		send(t, in4, fmt.Sprintf("127.0.0.1:%d", 2000+i), "127.0.0.1:53", nil, fmt.Sprint(i))
	}
	for _, f := range files[:3] {
		must(t, unix.Sendto(int(f.Fd()), []byte("answer"), 0, sockaddr(netip.MustParseAddrPort("127.0.0.1:1000"), 0)))
	}
	must(t, unix.Sendto(int(client.Fd()), []byte("question"), 0, sockaddr(netip.MustParseAddrPort("127.0.0.1:53"), 0)))
	box := kindtest.New(t, Kind)
	saved := box.Dump(files...)
	var was, is [][]got
	for _, f := range files {
		was = append(was, receive(t, f))
		must(t, f.Close())
	}
	for _, f := range box.Restore(saved) {
		is = append(is, receive(t, f))
	}
	if d := cmp.Diff(was, is); d != "" {
		t.Errorf("(-before +after):\n%s", d)
	}
}

// An error of the socket is read in front of what waits.
func TestErrorBeforeDatagrams(t *testing.T) {
	ownNet(t)
	f := socket(t, in4, sockDgram, 0)
	bind(t, f, "127.0.0.1:53")
	send(t, in4, "127.0.0.1:7", "127.0.0.1:53", nil, "hello")
	connect(t, f, "127.0.0.1:7")
	must(t, unix.Send(int(f.Fd()), []byte("to nobody"), 0))
	refused(t, kindtest.Refused(t, Kind, f), "an error, or what has become of something it has sent, waits to be read (SO_ERROR, MSG_ERRQUEUE)")
	if v, err := unix.GetsockoptInt(int(f.Fd()), sol, unix.SO_ERROR); v != int(unix.ECONNREFUSED) || err != nil {
		t.Errorf("the error is %d, %v", v, err)
	}
}
