package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	sk_packet "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-packet"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
)

const (
	mostDatagram = 1 << 16 // bytes
	mostControl  = 4096
)

// waiting reads the datagrams that a UDP socket has received and its program
// has not, without taking them. What else they were sent with (addresses, hop
// limit, class, segments) is known where the program asks for it, as it would
// get it.
//
// One without data that was looked at before is not shown again
// (__skb_try_recv_from_queue()), and is lost unless it is the first.
func waiting(fd int) (out []*image.Datagram, data [][]byte, err error) {
	if any, err := shows(fd, unix.POLLIN); !any || err != nil {
		return nil, nil, err
	}
	err = peekFrom(fd, -1, func() error {
		d, b, err := peekDatagram(fd)
		if err == nil && len(b) == 0 {
			out, data = append(out, d), append(data, b)
		}
		return err
	})
	if err != nil {
		return nil, nil, ignoreEmpty(err)
	}
	err = peekFrom(fd, 0, func() error {
		for {
			d, b, err := peekDatagram(fd)
			if err != nil {
				return err
			}
			out, data = append(out, d), append(data, b)
		}
	})
	return out, data, ignoreEmpty(err)
}

func ignoreEmpty(err error) error {
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	return err
}

// peekFrom sets SO_PEEK_OFF for do, -1: off. It belongs to the socket, so what
// was there is put back.
func peekFrom(fd, off int, do func() error) error {
	old, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF)
	if err != nil {
		return fmt.Errorf("read SO_PEEK_OFF: %w", err)
	}
	if old == off && off < 0 {
		return do()
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF, off); err != nil {
		return fmt.Errorf("set SO_PEEK_OFF to %d: %w", off, err)
	}
	err = do()
	if serr := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF, old); serr != nil {
		return fmt.Errorf("set SO_PEEK_OFF back to %d: %w", old, serr)
	}
	return err
}

func peekDatagram(fd int) (*image.Datagram, []byte, error) {
	b, oob := make([]byte, mostDatagram), make([]byte, mostControl)
	for {
		n, c, _, from, err := unix.Recvmsg(fd, b, oob, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, nil, fmt.Errorf("look at a datagram: %w", err)
		}
		a, _ := netipOf(from)
		d := &image.Datagram{From: a.Addr().AsSlice(), Port: uint32(a.Port())}
		return d, append([]byte{}, b[:n]...), arrival(d, oob[:c])
	}
}

// arrival reads what came with a datagram (cmsg(3), ip(7), ipv6(7), udp(7)).
func arrival(d *image.Datagram, oob []byte) error {
	all, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("read what came with a datagram: %w", err)
	}
	for _, m := range all {
		word := func() uint32 {
			var b [4]byte
			copy(b[:], m.Data)
			return binary.NativeEndian.Uint32(b[:])
		}
		switch [2]int32{m.Header.Level, m.Header.Type} {
		case [2]int32{unix.IPPROTO_IP, unix.IP_PKTINFO}: // interface, local address, address in the header
			if len(m.Data) >= unix.SizeofInet4Pktinfo {
				d.To = append([]byte{}, m.Data[8:12]...)
			}
		case [2]int32{unix.IPPROTO_IPV6, unix.IPV6_PKTINFO}:
			if len(m.Data) >= unix.SizeofInet6Pktinfo {
				d.To = append([]byte{}, m.Data[:16]...)
			}
		case [2]int32{unix.IPPROTO_IP, unix.IP_TTL}, [2]int32{unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT}:
			d.Hops = proto.Uint32(word())
		case [2]int32{unix.IPPROTO_IP, unix.IP_TOS}, [2]int32{unix.IPPROTO_IPV6, unix.IPV6_TCLASS}:
			d.Class = proto.Uint32(word())
		case [2]int32{unix.IPPROTO_UDP, udpGRO}:
			d.Segment = proto.Uint32(word() & 0xffff)
		}
	}
	return nil
}

// saveDatagrams saves what waits in a UDP socket: the data in sk-queues.img,
// the rest in x.
func saveDatagrams(d *kind.Dump, desc *kind.Desc, x *image.FileExtra) error {
	all, data, err := waiting(int(desc.File.Fd()))
	if err != nil {
		return err
	}
	for i, b := range data {
		e := &sk_packet.SkPacketEntry{IdFor: proto.Uint32(desc.ID), Length: proto.Uint32(uint32(len(b)))}
		if err := d.Out.Add(image.SkQueues, "", e, b); err != nil {
			return err
		}
		x.Datagrams = append(x.Datagrams, all[i])
	}
	return nil
}

// loadDatagrams reads what waited in the sockets.
func (w *world) loadDatagrams() error {
	err := image.Each(w.r.In, image.SkQueues, "", func(e *sk_packet.SkPacketEntry, data func(int) ([]byte, error)) error {
		b, err := data(int(e.GetLength()))
		if err != nil {
			return err
		}
		if s := w.byID[e.GetIdFor()]; s != nil && s.udp() { // else of another kind's
			s.waiting = append(s.waiting, b)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, s := range w.socks {
		if len(s.waiting) != len(s.x.GetDatagrams()) {
			return failure.Damagedf("%s: %d datagrams wait, and %d are told of", s.shown(), len(s.waiting), len(s.x.GetDatagrams()))
		}
	}
	return nil
}

// sender is who sent a datagram; not valid: it cannot be told.
func sender(d *image.Datagram) netip.AddrPort {
	a, ok := netip.AddrFromSlice(d.GetFrom())
	if !ok || d.GetPort() == 0 || d.GetPort() > 0xffff {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(d.GetPort()))
}
