package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kernel"
)

// What waited in a UDP socket is sent to it again, by a socket that has the
// sender's address and port for that moment, before any socket of the image
// has an address: it has a port that nobody knows of, and gives it up when
// all has come (connect(2) with AF_UNSPEC gives back what bind(2) has chosen).
// So nobody else gets it, whoever shares its port.

// deliver makes s, with what waited in it. What cannot be sent again is
// dropped, as UDP may, and told.
func (w *world) deliver(s *sock) error {
	if err := w.create(s); err != nil {
		return err
	}
	if err := s.forArrival(); err != nil {
		return err
	}
	if err := roomy(s.fd()); err != nil {
		return err
	}
	any := netip.IPv4Unspecified()
	if s.family == unix.AF_INET6 {
		any = netip.IPv6Unspecified()
	}
	if err := unix.Bind(s.fd(), sockaddr(netip.AddrPortFrom(any, 0), 0)); err != nil {
		return fmt.Errorf("bind it to some port: %w", err)
	}
	sa, err := unix.Getsockname(s.fd())
	if err != nil {
		return fmt.Errorf("read the port: %w", err)
	}
	at, _ := netipOf(sa)
	lost := 0
	for i, d := range s.x.GetDatagrams() {
		if err := s.sendAgain(d, s.waiting[i], at.Port()); err != nil {
			lost++
			w.r.Log.Warn("a datagram that was not received yet is dropped", "socket", s.shown(), "from", sender(d).String(), "why", err)
		}
	}
	if err := kernel.Connect(s.f.Fd(), []byte{unix.AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		return fmt.Errorf("give the port back: %w", err)
	}
	return nil
}

// forArrival sets the options that count when a datagram arrives: what the
// kernel notes of it, and that several stay one.
func (s *sock) forArrival() error {
	set := func(level, name, v int) error {
		if err := unix.SetsockoptInt(s.fd(), level, name, v); err != nil {
			return fmt.Errorf("set socket option %d of level %d: %w", name, level, err)
		}
		return nil
	}
	if s.family == unix.AF_INET6 {
		if err := set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return err
		}
	}
	if s.e.GetIpOpts().GetPktinfo() {
		if err := set(unix.IPPROTO_IP, unix.IP_PKTINFO, 1); err != nil {
			return err
		}
	}
	for _, o := range s.x.GetSockOptions() {
		switch [2]int32{o.GetLevel(), o.GetName()} {
		case [2]int32{unix.IPPROTO_UDP, udpGRO}, [2]int32{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO}, [2]int32{unix.IPPROTO_IPV6, unix.IPV6_2292PKTINFO}:
			if err := set(int(o.GetLevel()), int(o.GetName()), int(o.GetValue())); err != nil {
				return err
			}
		}
	}
	return nil
}

// sendAgain sends one to s at port, and waits until it is there.
func (s *sock) sendAgain(d *image.Datagram, data []byte, port uint16) error {
	from := sender(d)
	if !from.IsValid() {
		return errors.New("its sender is not known")
	}
	x, err := s.standFor(from, d)
	if err != nil {
		return err
	}
	defer unix.Close(x)
	before, err := s.memory()
	if err != nil {
		return err
	}
	if err := unix.Sendto(x, data, 0, sockaddr(netip.AddrPortFrom(s.reach(d, from), port), 0)); err != nil {
		return fmt.Errorf("send it again: %w", err)
	}
	for deadline := time.Now().Add(arrivalPatience); ; time.Sleep(100 * time.Microsecond) {
		now, err := s.memory()
		switch {
		case err != nil:
			return err
		case now > before:
			return nil
		case time.Now().After(deadline):
			return errors.New("it does not come over the loopback interface")
		}
	}
}

// arrivalPatience is far more than what is sent to oneself takes.
const arrivalPatience = time.Second

// reach is the address of this machine that a datagram goes to: that which it
// was sent to, where the program was told and it is here, else any.
func (s *sock) reach(d *image.Datagram, from netip.AddrPort) netip.Addr {
	own := netip.IPv6Loopback()
	if from.Addr().Is4() {
		own = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	to, ok := netip.AddrFromSlice(d.GetTo())
	if !ok {
		to = s.local.Addr()
	}
	to = to.Unmap()
	if to.Is4() != from.Addr().Is4() || to.IsUnspecified() || to.IsMulticast() || !here(to) {
		return own
	}
	return to
}

// here tells whether an address is this machine's, on the network of the
// calling thread.
func here(a netip.Addr) bool {
	family := unix.AF_INET6
	if a.Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Bind(fd, sockaddr(netip.AddrPortFrom(a, 0), 0)) == nil
}

// standFor makes a socket with the sender's address. One of another machine
// takes IP_TRANSPARENT, and that CAP_NET_RAW or CAP_NET_ADMIN over the network.
func (s *sock) standFor(from netip.AddrPort, d *image.Datagram) (fd int, err error) {
	family, level, transparent, hops, class := unix.AF_INET, unix.IPPROTO_IP, unix.IP_TRANSPARENT, unix.IP_TTL, unix.IP_TOS
	if !from.Addr().Is4() {
		family, level, transparent, hops, class = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT, unix.IPV6_UNICAST_HOPS, unix.IPV6_TCLASS
	}
	fd, err = unix.Socket(family, s.typ|unix.SOCK_CLOEXEC, s.proto)
	if err != nil {
		return -1, fmt.Errorf("make a socket for its sender: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if err := unix.SetsockoptInt(fd, level, transparent, 1); err != nil && !errors.Is(err, unix.EPERM) {
		return -1, fmt.Errorf("set IP_TRANSPARENT: %w", err)
	}
	for _, o := range []struct {
		level, name int
		v           *uint32
	}{{level, hops, d.Hops}, {level, class, d.Class}, {unix.IPPROTO_UDP, udpSegment, d.Segment}} {
		if o.v == nil {
			continue
		}
		if err := unix.SetsockoptInt(fd, o.level, o.name, int(*o.v)); err != nil {
			return -1, fmt.Errorf("set socket option %d of level %d: %w", o.name, o.level, err)
		}
	}
	if err := roomy(fd); err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, sockaddr(from, 0)); err != nil {
		return -1, fmt.Errorf("take its sender's address: %w", err)
	}
	return fd, nil
}

// memory is how much what waits in s takes, in bytes (SO_MEMINFO, Linux 4.12).
func (s *sock) memory() (uint32, error) {
	b, err := kernel.SocketOption(s.f.Fd(), unix.SOL_SOCKET, unix.SO_MEMINFO, make([]byte, 4*9))
	if err != nil || len(b) < 4 {
		return 0, fmt.Errorf("read what waits in it (SO_MEMINFO): %w", err)
	}
	return binary.NativeEndian.Uint32(b), nil
}
