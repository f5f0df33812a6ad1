package inet

import (
	"errors"
	"net/netip"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/sockopt"
)

// check tells whether address and port are to be had, by binding another
// socket to them for a moment, and whether connections may be made. A
// container with a network of its own has all ports to itself.
func (w *world) check(r *kind.Restore, e *fdinfo.FileEntry) error {
	if !w.loaded {
		w.loaded, w.r = true, r
		w.err = w.load()
	}
	if w.err != nil || r.Manifest.GetNetNone() {
		return w.err
	}
	s := w.byID[e.GetId()]
	if err := w.try(s); err != nil {
		return s.fail(err)
	}
	return nil
}

func (w *world) try(s *sock) error {
	if err := sockopt.CheckDevice(s.e.GetOpts()); err != nil {
		return err
	}
	if s.kept() {
		return w.tryKeep(s)
	}
	if s.isStream() {
		return tryRepair()
	}
	fd, err := unix.Socket(s.family, s.typ|unix.SOCK_CLOEXEC, s.proto)
	if err != nil {
		return s.socketError(err)
	}
	defer unix.Close(fd)
	for _, m := range s.x.GetMulticast() {
		if _, err := sockopt.InterfaceIndex(fd, m.GetInterface()); err != nil {
			return err
		}
	}
	if s.local.Port() == 0 || s.raw() && s.local.Addr().IsUnspecified() {
		return nil
	}
	if err := sockopt.RestoreMore(uintptr(fd), s.forBind()); err != nil {
		return err
	}
	zone := uint32(0)
	if s.e.GetIfname() != "" {
		if zone, err = sockopt.InterfaceIndex(fd, s.e.GetIfname()); err != nil {
			return err
		}
	}
	err = unix.Bind(fd, sockaddr(s.local, zone))
	if errors.Is(err, unix.EADDRINUSE) && s.tcp() {
		taken, terr := w.taken(s.local)
		switch {
		case terr != nil:
			return terr
		case taken:
		case tryRepair() == nil: // who may do that may also end what is only remembered
			return nil
		default:
			return remembered(s.local, err)
		}
	}
	return s.addressError(err)
}

// forBind are the options that decide whether bind(2) succeeds.
func (s *sock) forBind() (out []*image.SockOption) {
	add := func(level, name int, on bool) {
		if on {
			out = append(out, &image.SockOption{Level: int32(level), Name: int32(name), Value: 1})
		}
	}
	add(unix.SOL_SOCKET, unix.SO_REUSEADDR, s.e.GetOpts().GetReuseaddr() || s.tcp())
	add(unix.SOL_SOCKET, unix.SO_REUSEPORT, s.e.GetOpts().GetSoReuseport())
	add(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, s.e.GetV6Only())
	add(unix.IPPROTO_IP, unix.IP_FREEBIND, s.e.GetIpOpts().GetFreebind())
	for _, o := range s.x.GetSockOptions() {
		switch [2]int32{o.GetLevel(), o.GetName()} {
		case [2]int32{unix.IPPROTO_IP, unix.IP_TRANSPARENT}, [2]int32{unix.IPPROTO_IP, unix.IP_FREEBIND}, [2]int32{unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT}, [2]int32{unix.IPPROTO_IPV6, unix.IPV6_FREEBIND}:
			out = append(out, o)
		}
	}
	return out
}

// ableToKeep tells whether connections that lead out can go on here at all.
func (w *world) ableToKeep() error {
	if !w.tried {
		w.tried, w.unable = true, keepable()
	}
	return w.unable
}

// tryKeep tells whether one could go on here.
func (w *world) tryKeep(s *sock) error {
	if err := w.ableToKeep(); err != nil {
		return err
	}
	fd, err := unix.Socket(s.family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return s.socketError(err)
	}
	defer unix.Close(fd)
	zone := uint32(0)
	if s.e.GetIfname() != "" {
		if zone, err = sockopt.InterfaceIndex(fd, s.e.GetIfname()); err != nil {
			return err
		}
	}
	if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(s.local.Addr(), 0), zone)); err != nil {
		return s.addressError(err)
	}
	return s.noWay(unix.Connect(fd, sockaddr(s.peer, zone))) // which says nothing to anybody
}
