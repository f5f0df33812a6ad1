package packetsock

import (
	"errors"
	"fmt"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	packet_sock "github.com/checkpoint-restore/go-criu/v7/crit/images/packet-sock"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/sockopt"
)

func restore(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	p := e.GetPsk()
	if p == nil || p.GetOpts() == nil {
		return nil, failure.Damagedf("a packet socket without its entry")
	}
	protocol := 0 // none: it gets nothing before it is bound
	if p.GetType() == unix.SOCK_PACKET {
		protocol = int(p.GetProtocol()) // which bind(2) does not take there
	}
	fd, err := newSocket(int(p.GetType()), protocol)
	if err != nil {
		return nil, err
	}
	f, err := kind.NewFile(fd, p.GetFlags(), "packet socket")
	if err != nil {
		return nil, err
	}
	m := &maker{r: r, f: f, e: p, x: r.Extras[e.GetId()]}
	if err := m.fill(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func newSocket(typ, protocol int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, typ|unix.SOCK_CLOEXEC, protocol)
	if errors.Is(err, unix.EPERM) {
		return -1, failure.WithHint(failure.Mark(failure.ErrUnsupported, fmt.Errorf("to make it takes CAP_NET_RAW over its network: %w", err)),
			"restore as root", "or start containers with a network of their own (--net none)")
	}
	if err != nil {
		return -1, fmt.Errorf("make it: %w", err)
	}
	return fd, nil
}

// check tells whether such a socket may be made here, and whether the network
// interfaces that it goes by are there.
func check(r *kind.Restore, e *fdinfo.FileEntry) error {
	if r.Manifest.GetNetNone() {
		return nil
	}
	fd, err := newSocket(unix.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "packet socket")
	defer f.Close()
	if err := sockopt.CheckDevice(e.GetPsk().GetOpts()); err != nil {
		return err
	}
	m := &maker{r: r, f: f, e: e.GetPsk(), x: r.Extras[e.GetId()]}
	for index := range m.x.GetInterfaces() {
		if _, err := m.index(index); err != nil {
			return err
		}
	}
	return nil
}

// maker makes one socket.
type maker struct {
	r *kind.Restore
	f *os.File
	e *packet_sock.PacketSockEntry
	x *image.FileExtra // nil: an image of criu's
}

func (m *maker) fd() int { return int(m.f.Fd()) }

// fill: the socket is shut by a filter until all else is as it was.
func (m *maker) fill() error {
	if err := shut(m.fd()); err != nil {
		return err
	}
	if err := kind.SetInode(m.f, m.x.GetInode()); err != nil {
		return err
	}
	if err := restoreOptions(m.fd(), m.e, m.x.GetSockOptions()); err != nil {
		return err
	}
	if err := m.rings(); err != nil {
		return err
	}
	if err := m.bind(); err != nil {
		return err
	}
	if err := m.join(); err != nil {
		return err
	}
	if m.e.Fanout != nil && m.e.GetFanout() != ^uint32(0) { // criu's "none"
		err := unix.SetsockoptInt(m.fd(), unix.SOL_PACKET, unix.PACKET_FANOUT, int(int32(m.e.GetFanout())))
		if err != nil {
			return failure.WithHint(fmt.Errorf("join fanout group %d: %w", m.e.GetFanout()&0xffff, err),
				"end the program that has a group of that number here, or start containers with a network of their own (--net none)")
		}
	}
	if err := m.open(); err != nil {
		return err
	}
	return m.r.RestoreOwner(m.f, m.e.GetFown())
}

// open lets packets in: by the saved filter, or without one.
func (m *maker) open() error {
	if len(m.e.GetOpts().GetSoFilter()) == 0 {
		if err := unix.SetsockoptInt(m.fd(), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); err != nil {
			return fmt.Errorf("detach ckpt's filter: %w", err)
		}
	}
	if err := sockopt.Restore(m.f.Fd(), m.e.GetOpts()); err != nil {
		return err
	}
	var more []*image.SockOption
	for _, o := range m.x.GetSockOptions() {
		if o.GetLevel() != unix.SOL_PACKET {
			more = append(more, o)
		}
	}
	return sockopt.RestoreMore(m.f.Fd(), more)
}

// index is what the number of an interface in the image is here.
func (m *maker) index(saved uint32) (int, error) {
	name := m.x.GetInterfaces()[saved]
	if name == "" {
		return int(saved), nil
	}
	i, err := sockopt.InterfaceIndex(m.fd(), name)
	return int(i), err
}

func (m *maker) bind() error {
	if m.e.GetType() == unix.SOCK_PACKET {
		return m.bindByName()
	}
	if m.e.GetProtocol() == 0 && m.e.GetIfindex() == 0 {
		return nil
	}
	i, err := m.index(m.e.GetIfindex())
	if err != nil {
		return err
	}
	if err := unix.Bind(m.fd(), &unix.SockaddrLinklayer{Protocol: uint16(m.e.GetProtocol()), Ifindex: i}); err != nil {
		return fmt.Errorf("bind it to interface %d: %w", i, err)
	}
	return nil
}

// bindByName: SOCK_PACKET takes struct sockaddr with a name. It has received
// everything before it was shut.
func (m *maker) bindByName() error {
	name := m.x.GetInterfaces()[m.e.GetIfindex()]
	if name != "" {
		const size = 14
		if len(name) >= size {
			return failure.Damagedf("a SOCK_PACKET socket of network interface %s", name)
		}
		b := append([]byte{unix.AF_PACKET, 0}, make([]byte, size)...)
		copy(b[2:], name)
		if err := kernel.Bind(m.f.Fd(), b); err != nil {
			return fmt.Errorf("bind it to interface %s: %w", name, err)
		}
	}
	for {
		switch _, _, err := unix.Recvfrom(m.fd(), make([]byte, 1), unix.MSG_DONTWAIT); {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("empty it: %w", err)
		}
	}
}

func (m *maker) join() error {
	for _, c := range m.e.GetMclist() {
		i, err := m.index(c.GetIndex())
		if err != nil {
			return err
		}
		req := unix.PacketMreq{Ifindex: int32(i), Type: uint16(c.GetType()), Alen: uint16(len(c.GetAddr()))}
		if copy(req.Address[:], c.GetAddr()) < len(c.GetAddr()) {
			return failure.Unsupportedf("a membership of an address of %d bytes", len(c.GetAddr()))
		}
		if err := unix.SetsockoptPacketMreq(m.fd(), unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &req); err != nil {
			return fmt.Errorf("join type %d on interface %d (PACKET_ADD_MEMBERSHIP): %w", c.GetType(), i, err)
		}
	}
	return nil
}
