package inet

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/sockopt"
)

// The kernel lists which groups an interface receives (/proc/net/igmp and
// igmp6), not for whom. But a socket can be asked for the sources of a group
// (MCAST_MSFILTER), and answers EADDRNOTAVAIL where it has not joined it.

// Options of ip(7) and ipv6(7) alike (linux/in.h).
const (
	mcastJoinGroup       = 42
	mcastBlockSource     = 43
	mcastJoinSourceGroup = 46
	mcastMSFilter        = 48
)

// Sizes of struct group_filter (linux/in.h): index, group, mode, number, sources.
const (
	storage     = 128 // struct sockaddr_storage
	groupAt     = 8
	modeAt      = groupAt + storage
	countAt     = modeAt + 4
	sourcesAt   = countAt + 4
	mostSources = 64
	modeInclude = 1
)

// group is one that an interface receives.
type group struct {
	index uint32
	name  string
	addr  netip.Addr
}

// groups lists those of the container's network namespace; it is never nil.
func groups(d *kind.Dump) (out []group, err error) {
	at, err := whoseNet(d)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	out = []group{}
	for _, list := range []struct {
		name  string
		parse func(string) []group
	}{{"igmp", parseIGMP}, {"igmp6", parseIGMP6}} {
		b, err := at.Read("net/" + list.name)
		if errors.Is(err, unix.ENOENT) {
			continue // no multicast, no IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("list multicast groups: %w", err)
		}
		out = append(out, list.parse(string(b))...)
	}
	return out, nil
}

// parseIGMP reads /proc/net/igmp: a line for the interface (index, name), then
// indented ones with the address as a word in memory.
func parseIGMP(text string) (out []group) {
	var at group
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) < 2:
		case line[0] == '\t':
			var b [4]byte
			var w uint32
			if _, err := fmt.Sscanf(f[0], "%08X", &w); err == nil && at.index != 0 {
				binary.NativeEndian.PutUint32(b[:], w)
				out = append(out, group{at.index, at.name, netip.AddrFrom4(b)})
			}
		default:
			at = group{name: strings.TrimSuffix(f[1], ":")}
			_, _ = fmt.Sscan(f[0], &at.index) // the heading has none
		}
	}
	return out
}

// parseIGMP6 reads /proc/net/igmp6: index, name, address, ...
func parseIGMP6(text string) (out []group) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		g := group{name: f[1]}
		b, err := hex.DecodeString(f[2])
		if _, serr := fmt.Sscan(f[0], &g.index); err != nil || serr != nil || len(b) != 16 {
			continue
		}
		g.addr = netip.AddrFrom16([16]byte(b))
		out = append(out, g)
	}
	return out
}

func levelOf(a netip.Addr) int {
	if a.Is4() {
		return unix.IPPROTO_IP
	}
	return unix.IPPROTO_IPV6
}

// rawAddr is struct sockaddr_storage.
func rawAddr(a netip.Addr) []byte {
	b := make([]byte, storage)
	if a.Is4() {
		binary.NativeEndian.PutUint16(b, unix.AF_INET)
		copy(b[4:], a.AsSlice())
	} else {
		binary.NativeEndian.PutUint16(b, unix.AF_INET6)
		copy(b[8:], a.AsSlice())
	}
	return b
}

func addrIn(raw []byte) netip.Addr {
	if binary.NativeEndian.Uint16(raw) == unix.AF_INET {
		return netip.AddrFrom4([4]byte(raw[4:8]))
	}
	return netip.AddrFrom16([16]byte(raw[8:24]))
}

// request begins struct group_req, group_source_req and group_filter alike.
func request(index uint32, a netip.Addr) []byte {
	b := make([]byte, groupAt, sourcesAt+mostSources*storage)
	binary.NativeEndian.PutUint32(b, index)
	return append(b, rawAddr(a)...)
}

// joined are the groups that the datagram or raw socket fd has joined.
func (s *saver) joined(d *kind.Dump, fd int, its sort) (out []*image.Multicast, err error) {
	if s.groups == nil {
		if s.groups, err = groups(d); err != nil {
			return nil, err
		}
	}
	for _, g := range s.groups {
		if g.addr.Is4() && its.family == unix.AF_INET6 && its.raw() || !g.addr.Is4() && its.family == unix.AF_INET {
			continue // of the other family it has none
		}
		m, err := membership(fd, g)
		if err != nil {
			return nil, fmt.Errorf("ask for multicast group %s: %w", g.addr, err)
		}
		if m != nil {
			out = append(out, m)
		}
	}
	return out, nil
}

// membership is nil where fd has not joined g.
func membership(fd int, g group) (*image.Multicast, error) {
	b := request(g.index, g.addr)
	b = b[:cap(b)]
	binary.NativeEndian.PutUint32(b[countAt:], mostSources)
	b, err := kernel.SocketOption(uintptr(fd), levelOf(g.addr), mcastMSFilter, b)
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := &image.Multicast{Interface: g.name, Group: g.addr.AsSlice(), Include: binary.NativeEndian.Uint32(b[modeAt:]) == modeInclude}
	n := binary.NativeEndian.Uint32(b[countAt:])
	if n > mostSources {
		return nil, failure.Unsupportedf("it has joined multicast group %s with %d sources", g.addr, n)
	}
	for i := range int(n) {
		m.Sources = append(m.Sources, addrIn(b[sourcesAt+i*storage:]).AsSlice())
	}
	return m, nil
}

// join joins a group again.
func join(fd int, m *image.Multicast) error {
	a, ok := netip.AddrFromSlice(m.GetGroup())
	if !ok {
		return failure.Damagedf("a multicast group of %d bytes", len(m.GetGroup()))
	}
	index, err := sockopt.InterfaceIndex(fd, m.GetInterface())
	if err != nil {
		return err
	}
	what := fmt.Sprintf("join multicast group %s on %s", a, m.GetInterface())
	if !m.GetInclude() {
		if err := kernel.SetSocketOption(uintptr(fd), levelOf(a), mcastJoinGroup, request(index, a)); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	name := mcastBlockSource
	if m.GetInclude() {
		name = mcastJoinSourceGroup
	}
	for _, src := range m.GetSources() {
		from, ok := netip.AddrFromSlice(src)
		if !ok {
			return failure.Damagedf("a multicast source of %d bytes", len(src))
		}
		if err := kernel.SetSocketOption(uintptr(fd), levelOf(a), name, append(request(index, a), rawAddr(from)...)); err != nil {
			return fmt.Errorf("%s, from %s: %w", what, from, err)
		}
	}
	return nil
}
