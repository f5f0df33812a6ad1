package all_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/kernel"
	"ckpt/kind/inet"
	"ckpt/kind/kindtest"
	"ckpt/kind/othersock"
	"ckpt/kind/packetsock"
	"ckpt/kind/unixsock"
)

// TestSocketOptions finds the socket options by trying every number with many
// values, so that one that nobody thought of, or that a later kernel has, is
// seen: it either comes back from an image, or the tables below say why not.
func TestSocketOptions(t *testing.T) {
	const in4, in6, stream, dgram, raw = unix.AF_INET, unix.AF_INET6, unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_RAW
	for _, s := range []sort{
		{"TCP", in4, stream, 0, asNew}, {"TCP bound", in4, stream, 0, bound}, {"TCP listening", in4, stream, 0, listening}, {"TCP connected", in4, stream, 0, connected},
		{"TCP, IPv6", in6, stream, 0, asNew}, {"TCP listening, IPv6", in6, stream, 0, listening}, {"TCP connected, IPv6", in6, stream, 0, connected},
		{"MPTCP", in4, stream, unix.IPPROTO_MPTCP, listening},
		{"UDP", in4, dgram, 0, asNew}, {"UDP bound", in4, dgram, 0, bound}, {"UDP, IPv6", in6, dgram, 0, asNew}, {"UDP bound, IPv6", in6, dgram, 0, bound},
		{"UDP-Lite", in4, dgram, unix.IPPROTO_UDPLITE, bound}, {"UDP-Lite, IPv6", in6, dgram, unix.IPPROTO_UDPLITE, bound},
		{"raw", in4, raw, 253, bound}, {"raw ICMP", in4, raw, unix.IPPROTO_ICMP, asNew}, {"raw, IPv6", in6, raw, 253, bound}, {"raw ICMPv6", in6, raw, unix.IPPROTO_ICMPV6, asNew},
		{"ping", in4, dgram, unix.IPPROTO_ICMP, bound}, {"ping, IPv6", in6, dgram, unix.IPPROTO_ICMPV6, bound},
		{"unix stream", unix.AF_UNIX, stream, 0, connected}, {"unix datagrams", unix.AF_UNIX, dgram, 0, connected},
		{"unix packets", unix.AF_UNIX, unix.SOCK_SEQPACKET, 0, connected}, {"unix alone", unix.AF_UNIX, stream, 0, asNew},
		{"netlink", unix.AF_NETLINK, raw, unix.NETLINK_ROUTE, asNew}, {"packet", unix.AF_PACKET, raw, 0, asNew}, {"packet without header", unix.AF_PACKET, dgram, 0, asNew},
	} {
		t.Run(s.name, s.test)
	}
}

func (s sort) test(t *testing.T) {
	ownNet(t)
	found := find(t, s)
	if len(found) < 40 {
		t.Errorf("only %d settings found", len(found))
	}
	var sets [][]setting
	for _, c := range found {
		sets = append(sets, []setting{c})
	}
	some := rand.New(rand.NewPCG(1, uint64(len(found))))
	for range 30 { // together, in any order: one may change what another has set
		var set []setting
		for range 6 {
			set = append(set, found[some.IntN(len(found))])
		}
		sets = append(sets, set)
	}
	for part := range slices.Chunk(sets, 50) {
		carry(t, s, part)
	}
}

// option is a number of setsockopt(2), at its level.
type option struct{ level, name int }

// setting is an option and a value that makes a difference.
type setting struct {
	option
	value []byte
}

func (s setting) String() string { return fmt.Sprintf("%d of level %d = %x", s.name, s.level, s.value) }

// state is what is done with a socket before its options are set.
type state int

const (
	asNew state = iota
	bound
	listening
	connected
)

type sort struct {
	name               string
	family, typ, proto int
	state              state
}

const (
	sol      = unix.SOL_SOCKET
	ip       = unix.IPPROTO_IP
	ipv6     = unix.IPPROTO_IPV6
	tcp      = unix.IPPROTO_TCP
	packet   = unix.SOL_PACKET
	netlink  = 270
	mptcp    = 284
	rawLevel = 255
)

// unreadable can be set, and getsockopt(2) does not show it.
var unreadable = map[option]string{
	{sol, 14}: "SO_BSDCOMPAT does nothing", {sol, 53}: "SO_CNX_ADVICE is an action", {sol, 70}: "SO_BUSY_POLL_BUDGET: told in package sockopt",
	{sol, 80}: "SO_DEVMEM_DONTNEED is an action", {sol, 84}: "SO_INQ of a unix socket: told in package sockopt",
	{ip, 35}: "IP_ADD_MEMBERSHIP: TestMulticast of kind/inet", {ip, 39}: "IP_ADD_SOURCE_MEMBERSHIP: the same",
	{ipv6, 6}: "IPV6_2292PKTOPTIONS sets others", {ipv6, 20}: "IPV6_ADD_MEMBERSHIP: TestMulticast of kind/inet",
	{ipv6, 50}:  "IPV6_PKTINFO: told in kind/inet",
	{tcp, 17}:   "TCP_THIN_DUPACK does nothing",
	{packet, 1}: "PACKET_ADD_MEMBERSHIP: kind/packetsock", {packet, 2}: "PACKET_DROP_MEMBERSHIP is an action",
	{netlink, 1}: "NETLINK_ADD_MEMBERSHIP: TestNetlink of kind/othersock", {netlink, 2}: "NETLINK_DROP_MEMBERSHIP is an action",
	{packet, 5}: "PACKET_RX_RING of no size is an action", {packet, 13}: "PACKET_TX_RING of no size is an action",
}

// apart is not compared: it changes by itself, or has effects.
var apart = map[option]string{
	{sol, unix.SO_ERROR}: "reading it clears it", {sol, unix.SO_COOKIE}: "one a socket", {sol, unix.SO_PEERPIDFD}: "makes a descriptor",
	{sol, unix.SO_PEERCRED}: "kind/unixsock", {sol, unix.SO_PEERGROUPS}: "kind/unixsock", {sol, unix.SO_PEERSEC}: "kind/unixsock",
	{sol, unix.SO_MEMINFO}: "memory of the moment", {sol, unix.SO_PEERNAME}: "an address", {sol, unix.SO_NETNS_COOKIE}: "of the network",
	{ip, 52}: "IP_LOCAL_PORT, which is any", {ip, unix.IP_MTU}: "of the route", {ipv6, unix.IPV6_MTU}: "of the route", {ipv6, unix.IPV6_PATHMTU}: "of the route",
	{tcp, unix.TCP_INFO}: "of the moment", {tcp, unix.TCP_CC_INFO}: "of the moment", {tcp, unix.TCP_TIMESTAMP}: "a clock", {tcp, unix.TCP_QUICKACK}: "of the moment (tcp(7))",
	{tcp, unix.TCP_ZEROCOPY_RECEIVE}: "an action", {tcp, unix.TCP_REPAIR}: "ckpt's own", {tcp, unix.TCP_REPAIR_QUEUE}: "ckpt's own", {tcp, unix.TCP_QUEUE_SEQ}: "ckpt's own",
	{tcp, unix.TCP_REPAIR_OPTIONS}: "ckpt's own", {tcp, unix.TCP_REPAIR_WINDOW}: "ckpt's own", {tcp, unix.TCP_SAVED_SYN}: "an action",
	{tcp, unix.TCP_FASTOPEN_CONNECT}: "of the next connect(2)",
	{packet, unix.PACKET_STATISTICS}: "reading clears it", {packet, unix.PACKET_HDRLEN}: "asks with its value",
	{netlink, 9}: "NETLINK_LIST_MEMBERSHIPS: TestNetlink of kind/othersock",
}

// apartIn is apart in one sort of socket.
func (s sort) apart(o option) bool {
	_, ok := apart[o]
	switch {
	case s.family == unix.AF_UNIX && o == option{sol, unix.SO_TXREHASH}: // 0 or 1, as the kernel likes
		return true
	case s.state == connected && o == option{sol, unix.SO_INCOMING_CPU}: // the kernel's
		return true
	case s.state == connected && slices.Contains([]option{{ipv6, unix.IPV6_2292PKTOPTIONS}, {ipv6, unix.IPV6_MULTICAST_IF}, {ipv6, unix.IPV6_MULTICAST_HOPS}}, o):
		return true // of a stream these show what the first segment had
	case s.state == connected && o == option{ipv6, unix.IPV6_V6ONLY}: // means nothing, and bind(2) sets it
		return true
	case s.state == connected && o == option{tcp, unix.TCP_MAXSEG}: // what IP_OPTIONS leave of it: the peer agreed before
		return true
	}
	return ok
}

// blind can be set, and getsockopt(2) does not show it.
func (s sort) blind(o option) bool {
	_, ok := unreadable[o]
	return ok || s.proto == unix.IPPROTO_MPTCP && o.level == sol // which it takes, and leaves alone (mptcp_setsockopt_sol_socket())
}

const mostNumbers = 130

func (s sort) levels() []int {
	switch s.family {
	case unix.AF_UNIX:
		return []int{sol}
	case unix.AF_NETLINK:
		return []int{sol, netlink}
	case unix.AF_PACKET:
		return []int{sol, packet}
	}
	proto, out := s.proto, []int{sol, ip}
	if s.family == unix.AF_INET6 {
		out = append(out, ipv6)
	}
	switch {
	case s.proto == unix.IPPROTO_MPTCP:
		return append(out, tcp, mptcp)
	case s.typ == unix.SOCK_RAW:
		out = append(out, rawLevel)
	case s.proto == 0 && s.typ == unix.SOCK_STREAM:
		proto = tcp
	case s.typ == unix.SOCK_DGRAM && (s.proto == 0 || s.proto == unix.IPPROTO_UDPLITE):
		out = append(out, unix.IPPROTO_UDP)
	}
	if proto != 0 && !slices.Contains(out, proto) {
		out = append(out, proto)
	}
	return out
}

// values are what options are tried with: numbers, and what some take instead.
func values() (out [][]byte) {
	word := func(words ...uint32) (b []byte) {
		for _, w := range words {
			b = binary.NativeEndian.AppendUint32(b, w)
		}
		return b
	}
	for _, v := range []uint32{1, 0, 2, 3, 4, 5, 7, 8, 16, 33, 100, 1000, 5000, 70000, 1 << 20, 1 << 24, ^uint32(0), ^uint32(1)} {
		out = append(out, word(v))
	}
	any6 := make([]byte, 16)
	return append(out,
		word(1, 0), word(1000, 0), word(70000, 0), word(1, 9), word(1, 3), // of 64 bits, struct linger, struct sock_txtime
		word(1, 7, 0, 0), word(3, 0, 500000, 0), // struct timeval
		[]byte("lo\x00"), []byte("reno\x00"), []byte("0123456789abcdef"), // a device, a congestion control, a key
		[]byte{127, 0, 0, 1}, []byte{224, 0, 0, 9, 127, 0, 0, 1}, []byte{224, 0, 0, 9, 127, 0, 0, 1, 1, 0, 0, 0}, // struct in_addr, ip_mreq, ip_mreqn
		append(word(0), 127, 0, 0, 1, 1, 0, 0, 0),
		append(slices.Clone(any6), 1, 0, 0, 0), append([]byte{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9}, 1, 0, 0, 0), // struct in6_pktinfo, ipv6_mreq
		[]byte{0, 0, 1, 4, 0, 0, 0, 0}, []byte{148, 4, 0, 0}, // an extension header, an option of IP
	)
}

// ownNet puts the test on a thread in a network namespace of its own, with a
// loopback interface that is up. The thread ends with the test.
func ownNet(t *testing.T) {
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
	must(t, os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// known are the options that f has.
func (s sort) known(f *os.File) (out []option) {
	for _, level := range s.levels() {
		for name := range mostNumbers {
			_, err := kernel.SocketOption(f.Fd(), level, name, make([]byte, 256))
			if !s.apart(option{level, name}) && !errors.Is(err, unix.ENOPROTOOPT) {
				out = append(out, option{level, name})
			}
		}
	}
	return out
}

// facts is all that getsockopt(2) tells of options: in four bytes, and in many.
func facts(known []option, f *os.File) map[option]string {
	out := map[option]string{}
	for _, o := range known {
		if b, err := kernel.SocketOption(f.Fd(), o.level, o.name, make([]byte, 4)); err == nil && len(b) > 0 {
			out[o] = fmt.Sprintf("%x", b)
		}
		if b, err := kernel.SocketOption(f.Fd(), o.level, o.name, make([]byte, 256)); err == nil && len(b) != 4 && len(bytes.Trim(b, "\x00")) > 0 {
			out[o] += fmt.Sprintf(" %x", b)
		}
	}
	return out
}

// make makes one, and what it hangs on.
func (s sort) make(t *testing.T) []*os.File {
	t.Helper()
	file := func(fd int, err error) *os.File {
		t.Helper()
		must(t, err)
		return os.NewFile(uintptr(fd), s.name)
	}
	if s.family == unix.AF_UNIX && s.state == connected {
		p, err := unix.Socketpair(s.family, s.typ|unix.SOCK_CLOEXEC, 0)
		return []*os.File{file(p[0], err), file(p[1], err)}
	}
	f := file(unix.Socket(s.family, s.typ|unix.SOCK_CLOEXEC, s.proto))
	var at unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if s.family == unix.AF_INET6 {
		at = &unix.SockaddrInet6{Addr: [16]byte{15: 1}}
	}
	switch s.state {
	case bound, listening:
		must(t, unix.Bind(int(f.Fd()), at))
		if s.state == listening {
			must(t, unix.Listen(int(f.Fd()), 5))
		}
	case connected:
		l := file(unix.Socket(s.family, s.typ|unix.SOCK_CLOEXEC, s.proto))
		defer l.Close()
		must(t, unix.Bind(int(l.Fd()), at))
		must(t, unix.Listen(int(l.Fd()), 1))
		to, err := unix.Getsockname(int(l.Fd()))
		must(t, err)
		must(t, unix.Connect(int(f.Fd()), to))
		fd, _, err := unix.Accept4(int(l.Fd()), unix.SOCK_CLOEXEC)
		return []*os.File{f, file(fd, err)}
	}
	return []*os.File{f}
}

// closeAll: the kernel waits for all processors when it closes some, which it
// does for many at a time.
func closeAll(files []*os.File) {
	var all sync.WaitGroup
	for _, f := range files {
		all.Go(func() { f.Close() })
	}
	all.Wait()
}

// find is what can be set: of every option up to two values. What can be set
// and is not shown must stand in a table.
func find(t *testing.T, s sort) (out []setting) {
	t.Helper()
	files := s.make(t)
	var used []*os.File
	defer func() { closeAll(append(used, files...)) }()
	known := s.known(files[0])
	plain := facts(known, files[0])
	for _, level := range s.levels() {
		for name := range mostNumbers {
			o := option{level, name}
			if s.apart(o) {
				continue
			}
			var seen []map[option]string
			var blind []byte
			for _, v := range values() {
				if len(seen) == 2 || kernel.SetSocketOption(files[0].Fd(), level, name, v) != nil {
					continue
				}
				now := facts(known, files[0])
				same := func(old map[option]string) bool { return maps.Equal(old, now) }
				switch {
				case same(plain):
					if !zero(v) && !strings.HasPrefix(plain[o], fmt.Sprintf("%x", v)) {
						blind = v
					}
				case !gone(now) && !slices.ContainsFunc(seen, same):
					seen, out = append(seen, now), append(out, setting{o, v})
				}
				used = append(used, files...)
				files = s.make(t)
			}
			if len(seen) == 0 && blind != nil && !s.blind(o) {
				t.Errorf("option %d of level %d can be set to %x, and is not seen", name, level, blind)
			}
		}
	}
	return out
}

// zero: as an int it says 0.
func zero(b []byte) bool { return len(bytes.Trim(b[:min(len(b), 4)], "\x00")) == 0 }

// gone: bound to an interface that is not there, which is refused.
func gone(now map[option]string) bool {
	const bindToIfIndex = 62
	v := now[option{sol, bindToIfIndex}]
	return v != "" && v != "00000000" && v != "01000000"
}

// carry takes sockets with settings through an image.
func carry(t *testing.T, s sort, sets [][]setting) {
	t.Helper()
	var files []*os.File
	var at []int // in files
	var was []map[option]string
	for _, set := range sets {
		at = append(at, len(files))
		files = append(files, s.make(t)...)
		f := files[at[len(at)-1]]
		for _, o := range set {
			err := kernel.SetSocketOption(f.Fd(), o.level, o.name, o.value)
			if err != nil && len(set) == 1 {
				t.Errorf("set %v: %v", o, err)
			}
		}
	}
	known := s.known(files[0])
	for _, i := range at {
		was = append(was, facts(known, files[i]))
	}
	box := kindtest.New(t, unixsock.Kind, inet.Kind, othersock.Kind, packetsock.Kind)
	saved, err := box.Try(files...)
	for i, n := range at {
		compare(t, sets[i], "dump", was[i], facts(known, files[n]))
	}
	for _, f := range files {
		if s.state == connected && s.typ == unix.SOCK_STREAM && s.family != unix.AF_UNIX { // as the end of a dump does it
			must(t, unix.SetsockoptInt(int(f.Fd()), tcp, unix.TCP_REPAIR, 1))
		}
	}
	closeAll(files)
	must(t, err)
	got, _, err := box.TryRestore(saved)
	must(t, err)
	for i, n := range at {
		compare(t, sets[i], "restore", was[i], facts(known, got[n]))
	}
}

func compare(t *testing.T, set []setting, when string, was, is map[option]string) {
	t.Helper()
	all := maps.Clone(was)
	maps.Copy(all, is)
	for o := range all {
		if was[o] != is[o] {
			t.Errorf("with %v set, the %s makes option %d of level %d %q, was %q", set, when, o.name, o.level, is[o], was[o])
		}
	}
}
