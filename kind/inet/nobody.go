package inet

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// toldNobody tells of a UDP socket that has sent something to a port of this host
// that nobody has, and will read so (ECONNREFUSED). Of a socket with a peer the
// kernel keeps no other error that comes from the same host, unless it has been
// asked for more (__udp4_lib_err() of net/ipv4/udp.c). It is not read here: that
// would take it.
func (i *seen) toldNobody(fd int) (bool, error) {
	if !i.udp() || !i.peer.IsValid() || !i.here() {
		return false, nil
	}
	if fault, err := shows(fd, unix.POLLERR); !fault || err != nil {
		return false, err
	}
	if waits, err := shows(fd, unix.POLLIN); waits || err != nil { // which would be read behind it
		return false, err
	}
	for _, o := range [][2]int{{unix.IPPROTO_IP, unix.IP_RECVERR}, {unix.IPPROTO_IPV6, unix.IPV6_RECVERR}, {unix.IPPROTO_UDP, unix.UDP_CORK},
		{unix.SOL_SOCKET, unix.SO_ZEROCOPY}, {unix.SOL_SOCKET, unix.SO_TIMESTAMPING}} {
		if v, err := unix.GetsockoptInt(fd, o[0], o[1]); err == nil && v != 0 {
			return false, nil // the error, or another, stands in the error queue
		}
	}
	return true, nil
}

// here: the peer is on the same host.
func (i *seen) here() bool {
	peer := i.peer.Addr().Unmap()
	return peer.IsLoopback() || peer == i.local.Addr().Unmap()
}

// tellNobody has s, which has a peer on the same host, send something to nobody
// once more. It comes after all other sockets have their ports.
func (w *world) tellNobody(s *sock) error {
	if s.tcp() || !s.x.GetUnanswered() {
		return nil
	}
	has, err := w.hasPort(s.peer)
	if err != nil {
		return err
	}
	if !has {
		if err := unix.Sendto(s.fd(), nil, unix.MSG_DONTWAIT, nil); err != nil {
			return fmt.Errorf("send to nobody: %w", err)
		}
		if fault, err := shows(s.fd(), unix.POLLERR); fault || err != nil {
			return err
		}
	}
	w.r.Log.Warn("that nobody has the port that a socket has sent to will not be read (SO_ERROR)", "socket", s.shown(), "to", s.peer)
	return nil
}

// hasPort tells whether a UDP socket has that address.
func (w *world) hasPort(addr netip.AddrPort) (yes bool, err error) {
	at, err := w.self()
	if err != nil {
		return false, err
	}
	defer at.Close()
	for _, name := range []string{"net/udp", "net/udp6", "net/udplite", "net/udplite6"} {
		b, err := at.Read(name)
		if err != nil {
			continue // without IPv6 there is no list of it
		}
		if !connectionsIn(b, func(c listed) bool { return !overlap(c.local, addr) }) {
			return true, nil
		}
	}
	return false, nil
}
