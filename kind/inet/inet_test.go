package inet

import (
	"errors"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	sk_opts "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-opts"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/kind/kindtest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ownNet puts the test on a thread in a network namespace of its own, so that
// no port is taken. The thread ends with the test.
func ownNet(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	must(t, err)
	must(t, unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr))
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	must(t, unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr))
}

func socket(t testing.TB, family, typ, proto int, opts ...[3]int) *os.File {
	t.Helper()
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, proto)
	must(t, err)
	f := os.NewFile(uintptr(fd), "socket")
	t.Cleanup(func() { f.Close() })
	for _, o := range opts {
		if err := unix.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
			t.Fatalf("set option %v: %v", o, err)
		}
	}
	return f
}

func bind(t testing.TB, f *os.File, addr string) {
	t.Helper()
	must(t, unix.Bind(int(f.Fd()), sockaddr(netip.MustParseAddrPort(addr), 0)))
}

func connect(t testing.TB, f *os.File, addr string) {
	t.Helper()
	must(t, unix.Connect(int(f.Fd()), sockaddr(netip.MustParseAddrPort(addr), 0)))
}

func listen(t testing.TB, f *os.File, backlog int) {
	t.Helper()
	must(t, unix.Listen(int(f.Fd()), backlog))
}

// facts is all that is compared between a socket and what became of it.
type facts struct {
	seen
	Flags   int
	UID     uint32
	Halves  sk_opts.SkShutdown // that were shut down, of a datagram socket
	Options map[[2]int]int
}

func factsOf(t testing.TB, f *os.File) facts {
	t.Helper()
	fd := int(f.Fd())
	s, err := look(fd)
	must(t, err)
	out := facts{seen: *s, Options: map[[2]int]int{}}
	out.Flags, err = unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Fstat(fd, &st))
	out.UID = st.Uid
	if s.typ == unix.SOCK_DGRAM {
		nl := socket(t, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_SOCK_DIAG)
		all, err := listShutdown(nl, half{s.family, s.proto})
		must(t, err)
		out.Halves = all[uint32(st.Ino)]
	}
	levels := []int{unix.SOL_SOCKET, unix.IPPROTO_IP, unix.IPPROTO_IPV6, s.proto, solRaw}
	if s.proto == unix.IPPROTO_MPTCP {
		levels[3] = unix.IPPROTO_TCP
	}
	for _, level := range levels {
		for name := range 128 {
			if level == unix.SOL_SOCKET && (name == unix.SO_ERROR || name == unix.SO_INCOMING_CPU || name == unix.SO_INCOMING_NAPI_ID || name == unix.SO_COOKIE || name == unix.SO_PEERNAME || name == unix.SO_MEMINFO) ||
				level == unix.IPPROTO_TCP && (name == unix.TCP_TIMESTAMP || name == unix.TCP_INFO || name == unix.TCP_QUICKACK) {
				continue
			}
			if v, err := unix.GetsockoptInt(fd, level, name); err == nil {
				out.Options[[2]int{level, name}] = v
			}
		}
	}
	return out
}

func sameFacts(t testing.TB, was, is facts) {
	t.Helper()
	if d := cmp.Diff(was, is, cmp.AllowUnexported(facts{}, seen{}, sort{}), cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
		t.Errorf("(-before +after):\n%s", d)
	}
}

// setup is a socket to be carried.
type setup struct {
	then               [][3]int // options set once all are made
	family, typ, proto int
	opts               [][3]int
	bind, connect      string
	backlog            int // -1: does not listen
	shut               int // 1 more than what shutdown(2) takes, 0: not
	flags              int
	uid                int
}

const (
	sockStream = unix.SOCK_STREAM
	sockDgram  = unix.SOCK_DGRAM
	sockRaw    = unix.SOCK_RAW
	in4        = unix.AF_INET
	in6        = unix.AF_INET6
	sol        = unix.SOL_SOCKET
	tcp        = unix.IPPROTO_TCP
	ip         = unix.IPPROTO_IP
	ipv6       = unix.IPPROTO_IPV6
	udp        = unix.IPPROTO_UDP
)

func (s setup) make(t *testing.T) *os.File {
	f := socket(t, s.family, s.typ, s.proto, s.opts...)
	if s.bind != "" {
		bind(t, f, s.bind)
	}
	if s.connect != "" {
		connect(t, f, s.connect)
	}
	if s.backlog >= 0 {
		listen(t, f, s.backlog)
	}
	if s.shut > 0 {
		if err := unix.Shutdown(int(f.Fd()), s.shut-1); err != nil && err != unix.ENOTCONN {
			t.Fatal(err)
		}
	}
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETFL, s.flags)
	must(t, err)
	must(t, f.Chown(s.uid, s.uid))
	return f
}

func TestSockets(t *testing.T) {
	tests := map[string][]setup{
		"listener":              {{family: in4, typ: sockStream, bind: "127.0.0.1:80", backlog: 5, flags: unix.O_NONBLOCK}},
		"listener on all":       {{family: in4, typ: sockStream, bind: "0.0.0.0:7777", backlog: 511, opts: [][3]int{{sol, unix.SO_REUSEADDR, 1}}}},
		"backlog of 0":          {{family: in4, typ: sockStream, bind: "127.0.0.1:81", backlog: 0}},
		"without bind":          {{family: in4, typ: sockStream, backlog: 1}},
		"dual stack":            {{family: in6, typ: sockStream, bind: "[::]:80", backlog: 128, opts: [][3]int{{ipv6, unix.IPV6_V6ONLY, 0}}}},
		"both stacks, one port": {{family: in6, typ: sockStream, bind: "[::]:80", backlog: 128, opts: [][3]int{{ipv6, unix.IPV6_V6ONLY, 1}}}, {family: in4, typ: sockStream, bind: "0.0.0.0:80", backlog: 12}},
		"what Go listens with":  {{family: in6, typ: sockStream, proto: unix.IPPROTO_MPTCP, bind: "[::1]:80", backlog: 128, opts: [][3]int{{sol, unix.SO_REUSEADDR, 1}}}},
		"options of a listener": {{family: in4, typ: sockStream, bind: "127.0.0.1:80", backlog: 10, uid: 1234, opts: [][3]int{
			{tcp, unix.TCP_NODELAY, 1}, {tcp, unix.TCP_DEFER_ACCEPT, 7}, {tcp, unix.TCP_FASTOPEN, 16}, {tcp, unix.TCP_MAXSEG, 1000}, {tcp, unix.TCP_USER_TIMEOUT, 5000},
			{sol, unix.SO_KEEPALIVE, 1}, {tcp, unix.TCP_KEEPIDLE, 33}, {tcp, unix.TCP_CORK, 1}, {ip, unix.IP_TOS, 16}, {ip, unix.IP_TTL, 9}, {ip, unix.IP_FREEBIND, 1}, {sol, unix.SO_RCVBUF, 9000}}}},
		"address not here": {{family: in4, typ: sockStream, bind: "192.0.2.1:80", backlog: 1, opts: [][3]int{{ip, unix.IP_FREEBIND, 1}}}},
		"address not here, and no freedom now": {{family: in4, typ: sockStream, bind: "192.0.2.1:80", backlog: 1, opts: [][3]int{{ip, unix.IP_FREEBIND, 1}}, then: [][3]int{{ip, unix.IP_FREEBIND, 0}}},
			{family: in6, typ: sockDgram, bind: "[2001:db8::1]:80", backlog: -1, opts: [][3]int{{ip, unix.IP_FREEBIND, 1}}, then: [][3]int{{ip, unix.IP_FREEBIND, 0}}}},
		"a group": {{family: in4, typ: sockStream, bind: "127.0.0.1:80", backlog: 1, uid: 99, opts: [][3]int{{sol, unix.SO_REUSEPORT, 1}}},
			{family: in4, typ: sockStream, bind: "127.0.0.1:80", backlog: 2, uid: 99, opts: [][3]int{{sol, unix.SO_REUSEPORT, 1}}}},
		"a group no more": {{family: in4, typ: sockStream, bind: "127.0.0.1:80", backlog: 1, opts: [][3]int{{sol, unix.SO_REUSEPORT, 1}}, then: [][3]int{{sol, unix.SO_REUSEPORT, 0}}},
			{family: in4, typ: sockStream, bind: "127.0.0.1:80", backlog: 2, opts: [][3]int{{sol, unix.SO_REUSEPORT, 1}}}},
		"one of two listens": {{family: in4, typ: sockStream, bind: "127.0.0.1:80", backlog: -1, opts: [][3]int{{sol, unix.SO_REUSEADDR, 1}}},
			{family: in4, typ: sockStream, bind: "0.0.0.0:80", backlog: 2, opts: [][3]int{{sol, unix.SO_REUSEADDR, 1}}}},
		"datagrams share a port no more": {{family: in6, typ: sockDgram, bind: "[::]:5353", backlog: -1, opts: [][3]int{{sol, unix.SO_REUSEADDR, 1}}, then: [][3]int{{sol, unix.SO_REUSEADDR, 0}}},
			{family: in4, typ: sockDgram, bind: "127.0.0.1:5353", backlog: -1, opts: [][3]int{{sol, unix.SO_REUSEADDR, 1}}, then: [][3]int{{sol, unix.SO_REUSEADDR, 0}}}},
		"new":                    {{family: in4, typ: sockStream, backlog: -1}, {family: in6, typ: sockStream, backlog: -1}, {family: in6, typ: sockDgram, backlog: -1}},
		"bound":                  {{family: in4, typ: sockStream, bind: "127.0.0.1:80", backlog: -1}},
		"shut down":              {{family: in4, typ: sockStream, backlog: -1, shut: 3}},
		"datagrams":              {{family: in4, typ: sockDgram, bind: "0.0.0.0:53", backlog: -1, opts: [][3]int{{ip, unix.IP_PKTINFO, 1}, {sol, unix.SO_BROADCAST, 1}}}},
		"datagrams, IPv6":        {{family: in6, typ: sockDgram, bind: "[::]:53", backlog: -1, opts: [][3]int{{ipv6, unix.IPV6_RECVPKTINFO, 1}, {ipv6, unix.IPV6_TCLASS, 8}, {udp, udpGRO, 1}}}},
		"connected datagrams":    {{family: in4, typ: sockDgram, connect: "127.0.0.1:53", backlog: -1}},
		"connected datagrams, 6": {{family: in6, typ: sockDgram, bind: "[::1]:1000", connect: "[::1]:53", backlog: -1}},
		"connected by IPv4 in 6": {{family: in6, typ: sockDgram, connect: "[::ffff:127.0.0.1]:53", backlog: -1}},
		"shut down datagrams":    {{family: in4, typ: sockDgram, bind: "127.0.0.1:9", connect: "127.0.0.1:9", backlog: -1, shut: 1}, {family: in4, typ: sockDgram, connect: "127.0.0.1:9", backlog: -1, shut: 3}},
		"shut down to write":     {{family: in4, typ: sockDgram, bind: "127.0.0.1:9", connect: "127.0.0.1:10", backlog: -1, shut: 2}, {family: in6, typ: sockDgram, bind: "[::1]:9", connect: "[::1]:10", backlog: -1, shut: 2}},
		"datagrams share a port": {{family: in4, typ: sockDgram, bind: "0.0.0.0:5353", backlog: -1, opts: [][3]int{{sol, unix.SO_REUSEADDR, 1}}}, {family: in4, typ: sockDgram, bind: "0.0.0.0:5353", backlog: -1, opts: [][3]int{{sol, unix.SO_REUSEADDR, 1}}}},
		"UDP-Lite": {{family: in4, typ: sockDgram, proto: unix.IPPROTO_UDPLITE, bind: "127.0.0.1:53", connect: "127.0.0.1:9", backlog: -1, opts: [][3]int{{unix.IPPROTO_UDPLITE, 10, 20}, {unix.IPPROTO_UDPLITE, 11, 16}}}, // UDPLITE_SEND_CSCOV, UDPLITE_RECV_CSCOV
			{family: in6, typ: sockDgram, proto: unix.IPPROTO_UDPLITE, bind: "[::1]:53", backlog: -1}},
		"raw":                      {{family: in4, typ: sockRaw, proto: unix.IPPROTO_ICMP, backlog: -1, opts: [][3]int{{solRaw, icmpFilter, 1 << 3}, {ip, unix.IP_HDRINCL, 1}, {ip, unix.IP_MULTICAST_TTL, 3}, {ip, unix.IP_TTL, 5}, {sol, unix.SO_RCVBUF, 5000}}}},
		"raw, bound and connected": {{family: in4, typ: sockRaw, proto: 253, bind: "127.0.0.1:0", connect: "127.0.0.1:77", backlog: -1}, {family: in4, typ: sockRaw, proto: 253, connect: "127.0.0.1:0", backlog: -1, shut: 1}},
		"raw, as new":              {{family: in4, typ: sockRaw, proto: unix.IPPROTO_RAW, backlog: -1}, {family: in6, typ: sockRaw, proto: unix.IPPROTO_RAW, backlog: -1}, {family: in6, typ: sockRaw, proto: unix.IPPROTO_MH, backlog: -1}},
		"raw, own header or not":   {{family: in4, typ: sockRaw, proto: unix.IPPROTO_RAW, backlog: -1, opts: [][3]int{{ip, unix.IP_HDRINCL, 0}}}, {family: in6, typ: sockRaw, proto: unix.IPPROTO_RAW, backlog: -1, opts: [][3]int{{ipv6, ipv6HdrIncl, 0}}}},
		"raw for router alerts":    {{family: in4, typ: sockRaw, proto: unix.IPPROTO_RSVP, backlog: -1, opts: [][3]int{{ip, ipRouterAlert, 1}}}, {family: in6, typ: sockRaw, proto: unix.IPPROTO_RAW, backlog: -1, opts: [][3]int{{ipv6, unix.IPV6_ROUTER_ALERT, 7}}}},
		"raw of TCP and UDP":       {{family: in4, typ: sockRaw, proto: unix.IPPROTO_TCP, backlog: -1}, {family: in6, typ: sockRaw, proto: unix.IPPROTO_UDP, bind: "[::1]:0", backlog: -1}},
		"raw, IPv6":                {{family: in6, typ: sockRaw, proto: unix.IPPROTO_ICMPV6, bind: "[::1]:0", backlog: -1}, {family: in6, typ: sockRaw, proto: 253, connect: "[::1]:9", backlog: -1, opts: [][3]int{{ipv6, unix.IPV6_CHECKSUM, 4}, {ipv6, unix.IPV6_MULTICAST_HOPS, 9}}}},
		"same port, other sockets": {{family: in4, typ: sockDgram, bind: "127.0.0.1:53", backlog: -1}, {family: in4, typ: sockStream, bind: "127.0.0.1:53", backlog: 3}, {family: in4, typ: sockDgram, bind: "127.0.0.2:53", backlog: -1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ownNet(t)
			var files []*os.File
			var was []facts
			for _, s := range tt {
				files = append(files, s.make(t))
			}
			for i, s := range tt {
				for _, o := range s.then {
					must(t, unix.SetsockoptInt(int(files[i].Fd()), o[0], o[1], o[2]))
				}
				was = append(was, factsOf(t, files[i]))
			}
			box := kindtest.New(t, Kind)
			saved := box.Dump(files...)
			for i, f := range files {
				sameFacts(t, was[i], factsOf(t, f))
				f.Close()
			}
			for i, f := range box.Restore(saved) {
				sameFacts(t, was[i], factsOf(t, f))
			}
		})
	}
}

func refused(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("error %v, want %q in it", err, w)
		}
	}
	if len(failure.Hints(err)) == 0 {
		t.Errorf("%v: no hint", err)
	}
}

func TestRefused(t *testing.T) {
	ownNet(t)
	l := setup{family: in4, typ: sockStream, bind: "127.0.0.1:80", backlog: 4}.make(t)
	connect(t, socket(t, in4, sockStream, 0), "127.0.0.1:80")
	connect(t, socket(t, in4, sockStream, 0), "127.0.0.1:80")
	cork := socket(t, in4, sockDgram, 0, [3]int{udp, unix.UDP_CORK, 1})
	connect(t, cork, "127.0.0.1:9")
	_, err := cork.Write([]byte("half"))
	must(t, err)
	for _, tt := range []struct {
		f     *os.File
		words string
	}{
		{l, "outside the container, waits to be accepted on 127.0.0.1:80"},
		{cork, "a datagram not yet sent"},
	} {
		refused(t, kindtest.Refused(t, Kind, tt.f), tt.words)
	}
}

func TestPortTaken(t *testing.T) {
	ownNet(t)
	for _, s := range []setup{{family: in4, typ: sockStream, bind: "127.0.0.1:80", backlog: 4}, {family: in6, typ: sockDgram, bind: "[::1]:80", backlog: -1}} {
		f := s.make(t)
		box := kindtest.New(t, Kind)
		saved := box.Dump(f)
		_, _, err := box.TryRestore(saved)
		refused(t, err, s.bind, "another program has")
		refused(t, check(t, saved), s.bind, "another program has")
		must(t, f.Close())
		must(t, check(t, saved))
	}
}

// check is what ckpt check says of the image's first file.
func check(t testing.TB, saved *kindtest.Saved) error {
	t.Helper()
	k := Kind()
	return k.Check(restoring(t, saved), saved.Entries[0])
}

func restoring(t testing.TB, saved *kindtest.Saved) *kind.Restore {
	t.Helper()
	r := &kind.Restore{In: saved.Open(t), Entries: map[uint32]*fdinfo.FileEntry{}}
	for _, e := range saved.Entries {
		r.Entries[e.GetId()] = e
	}
	return r
}

// All ports that are taken are told, not only the first.
func TestPortsTaken(t *testing.T) {
	ownNet(t)
	a := setup{family: in4, typ: sockStream, bind: "127.0.0.1:80", backlog: 4}.make(t)
	b := setup{family: in4, typ: sockStream, bind: "127.0.0.1:81", backlog: 4}.make(t)
	c := setup{family: in4, typ: sockDgram, bind: "127.0.0.1:82", backlog: -1}.make(t)
	saved := kindtest.New(t, Kind).Dump(a, b, c)
	must(t, c.Close())
	r := restoring(t, saved)
	k := Kind()
	for i, want := range []string{"127.0.0.1:80", "127.0.0.1:81", ""} {
		f, err := k.Restore(r, saved.Entries[i])
		if want == "" {
			must(t, err)
			must(t, f.Close())
			continue
		}
		refused(t, err, want, "another program has")
	}
}

func TestAddressGone(t *testing.T) {
	ownNet(t)
	addr, err := netlink.ParseAddr("192.0.2.7/32")
	must(t, err)
	must(t, netlink.AddrAdd(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo"}}, addr))
	f := setup{family: in4, typ: sockDgram, bind: "192.0.2.7:80", backlog: -1}.make(t)
	box := kindtest.New(t, Kind)
	saved := box.Dump(f)
	ownNet(t) // another machine
	_, _, err = box.TryRestore(saved)
	refused(t, err, "192.0.2.7:80", "does not have the address")
	refused(t, check(t, saved), "192.0.2.7:80", "does not have the address")
}

func TestOtherNamespace(t *testing.T) {
	ownNet(t)
	f := setup{family: in4, typ: sockStream, bind: "127.0.0.1:80", backlog: 4}.make(t)
	ownNet(t)
	refused(t, kindtest.Refused(t, Kind, f), "another network namespace")
}

// Connections of a listener without SO_REUSEADDR that it has closed hold its
// port for a minute (TIME_WAIT).
func TestPortOfClosedConnections(t *testing.T) {
	ownNet(t)
	for _, c := range []struct {
		setup
		to string
	}{
		{setup{family: in4, typ: sockStream, bind: "127.0.0.1:80", backlog: 4}, "127.0.0.1:80"},
		{setup{family: in4, typ: sockStream, bind: "0.0.0.0:81", backlog: 4}, "127.0.0.1:81"},
		{setup{family: in6, typ: sockStream, bind: "[::1]:82", backlog: 4}, "[::1]:82"},
		{setup{family: in6, typ: sockStream, bind: "[::]:83", backlog: 4}, "[::ffff:127.0.0.1]:83"},
	} {
		l := c.make(t)
		for range 3 {
			client := socket(t, c.family, sockStream, 0)
			connect(t, client, c.to)
			fd, _, err := unix.Accept(int(l.Fd()))
			must(t, err)
			must(t, unix.Close(fd))
			must(t, client.Close())
		}
		box := kindtest.New(t, Kind)
		saved := box.Dump(l)
		must(t, l.Close())
		again := socket(t, c.family, sockStream, 0, [3]int{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1})
		if err := unix.Bind(int(again.Fd()), sockaddr(netip.MustParseAddrPort(c.bind), 0)); !errors.Is(err, unix.EADDRINUSE) {
			t.Fatalf("%s: nothing holds the port: %v", c.bind, err)
		}
		must(t, check(t, saved))
		if _, _, err := box.TryRestore(saved); err != nil {
			t.Errorf("%s: %v", c.bind, err)
		}
	}
}
