package inet

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// netipOf is the address of sa; what is no internet address gives a zero one.
func netipOf(sa unix.Sockaddr) (a netip.AddrPort, zone uint32) {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), 0
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)), sa.ZoneId
	// What x/sys takes the address of a raw socket of protocol 115 for.
	case *unix.SockaddrL2TPIP:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), 0), 0
	case *unix.SockaddrL2TPIP6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), 0), sa.ZoneId
	}
	return netip.AddrPort{}, 0
}

// sockaddr is the reverse. An IPv4 address in an IPv6 socket is a mapped one.
func sockaddr(a netip.AddrPort, zone uint32) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: zone}
}

// words are the address as images have it: 32 bits each, of which the bytes
// in memory are in network order.
func words(a netip.Addr) (w []uint32) {
	for b := a.AsSlice(); len(b) > 0; b = b[4:] {
		w = append(w, binary.NativeEndian.Uint32(b))
	}
	return w
}

// addrOf is the reverse of words. CRIU has one word or four for either family.
func addrOf(family int, w []uint32, port uint32) (netip.AddrPort, error) {
	n := 1
	if family == unix.AF_INET6 {
		n = 4
	}
	if len(w) < n || port > 0xffff {
		return netip.AddrPort{}, failure.Damagedf("an address of %d words, port %d", len(w), port)
	}
	var b []byte
	for _, v := range w[:n] {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a, uint16(port)), nil
}
