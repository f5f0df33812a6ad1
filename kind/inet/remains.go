package inet

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// leaveBehind makes s the end of a connection that has ended with something
// left to read: data, a reset, or both. The other end is any socket: nobody
// can tell any more who it was.
func (w *world) leaveBehind(s *sock) (err error) {
	x, err := connectAnew(s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(x)) }()
	for _, fd := range []int{s.fd(), x} {
		if err := roomy(fd); err != nil {
			return err
		}
	}
	if err := pour(x, s.in); err != nil {
		return err
	}
	if s.x.GetWasReset() {
		// Closed like that it sends a RST instead of a FIN (socket(7)).
		if err := unix.SetsockoptLinger(x, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
			return fmt.Errorf("set SO_LINGER: %w", err)
		}
	} else if err := unix.Shutdown(s.fd(), unix.SHUT_WR); err != nil {
		return fmt.Errorf("shut it down: %w", err)
	}
	return s.putBuffers()
}

// loopback is the address of this machine in the protocol that s speaks.
func loopback(s *sock) netip.Addr {
	at := netip.MustParseAddr("127.0.0.1")
	switch {
	case s.family != unix.AF_INET6:
		return at
	case s.local.Addr().Is4In6():
		return netip.AddrFrom16(at.As16())
	}
	return netip.IPv6Loopback()
}

// connectAnew connects s over the loopback interface.
func connectAnew(s *sock) (int, error) {
	l, err := unix.Socket(s.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, fmt.Errorf("make a listener: %w", err)
	}
	defer unix.Close(l)
	if err := unix.Bind(l, sockaddr(netip.AddrPortFrom(loopback(s), 0), 0)); err != nil {
		return -1, fmt.Errorf("bind a listener: %w", err)
	}
	if err := unix.Listen(l, 1); err != nil {
		return -1, fmt.Errorf("listen: %w", err)
	}
	sa, err := unix.Getsockname(l)
	if err != nil {
		return -1, fmt.Errorf("read the listener's address: %w", err)
	}
	// Over loopback it is done at once, though connect(2) may not wait for it.
	if err := unix.Connect(s.fd(), sa); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return -1, fmt.Errorf("connect it: %w", err)
	}
	x, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("accept: %w", err)
	}
	return x, nil
}

// beRefused makes s one whose connection was refused, which it has not been told
// yet.
func (s *sock) beRefused() error {
	at := loopback(s)
	x, err := unix.Socket(s.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return fmt.Errorf("make a socket that does not listen: %w", err)
	}
	defer unix.Close(x)
	if err := unix.Bind(x, sockaddr(netip.AddrPortFrom(at, 0), 0)); err != nil {
		return fmt.Errorf("bind one that does not listen: %w", err)
	}
	sa, err := unix.Getsockname(x)
	if err != nil {
		return fmt.Errorf("read its address: %w", err)
	}
	return s.connectNow(sa)
}
