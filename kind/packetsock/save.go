package packetsock

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	packet_sock "github.com/checkpoint-restore/go-criu/v7/crit/images/packet-sock"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/sockopt"
)

// Ways to spread packets over a fanout group that are a program.
const (
	fanoutCBPF = 6
	fanoutEBPF = 7
)

func refuse(d *kind.Dump, desc *kind.Desc) error {
	if err := sockopt.Check(d, desc); err != nil {
		return err
	}
	s, err := look(d, desc)
	if err != nil {
		return err
	}
	if d.Out == nil {
		if err := s.tellLost(d, desc); err != nil {
			return err
		}
		s.rx, s.tx = ring{}, ring{} // while the ring is mapped by ckpt the program cannot change it
	}
	_, _, err = s.check(d, desc)
	return err
}

// tellLost tells of packets that wait elsewhere than in a ring.
func (s *seen) tellLost(d *kind.Dump, desc *kind.Desc) error {
	if s.rx.there() {
		return nil
	}
	shows, err := kernel.Poll(desc.File.Fd(), unix.POLLIN)
	if err != nil {
		return fmt.Errorf("poll it: %w", err)
	}
	if shows&unix.POLLIN != 0 {
		d.Lost(desc, "packets that wait in a packet socket are not saved")
	}
	return nil
}

// check refuses what cannot be carried. It gives the contents of the rings, the
// receiving one first, and where in them the kernel goes on.
func (s *seen) check(d *kind.Dump, desc *kind.Desc) (contents []byte, at heads, err error) {
	if s.index < 0 {
		return nil, at, failure.WithHint(failure.Unsupportedf("a packet socket of a network interface that is gone"), "close it before the dump")
	}
	if s.fanout != nil {
		if t := *s.fanout >> 16 & 0xff; t == fanoutCBPF || t == fanoutEBPF {
			return nil, at, failure.WithHint(failure.Unsupportedf("a packet socket of fanout group %d, which a BPF program spreads: the kernel gives it to nobody (PACKET_FANOUT_DATA)", *s.fanout&0xffff),
				"have the program use another sort of fanout, or close the socket before the dump")
		}
	}
	if err := s.checkMapped(d, desc); err != nil {
		return nil, at, err
	}
	if contents, err = s.contents(desc); err != nil {
		return nil, at, err
	}
	at, err = s.heads(desc, contents)
	return contents, at, err
}

// checkMapped refuses mappings that cannot be made again: the kernel maps all
// of the rings or nothing.
func (s *seen) checkMapped(d *kind.Dump, desc *kind.Desc) error {
	for _, p := range d.Procs {
		for i := range p.Maps {
			m := &p.Maps[i]
			if m.Ino != desc.Stat.Ino || m.Path != desc.Link || m.Shared && int(m.Len()) == s.rx.size()+s.tx.size() {
				continue
			}
			return failure.WithHint(failure.Unsupportedf("a part of its ring that is mapped at %#x-%#x of pid %d, or a private mapping", m.Start, m.End, p.VPID),
				"close the socket before the dump")
		}
	}
	return nil
}

// contents copies the rings. What arrives meanwhile may be half in them.
func (s *seen) contents(desc *kind.Desc) ([]byte, error) {
	size := s.rx.size() + s.tx.size()
	if size == 0 {
		return nil, nil
	}
	m, err := unix.Mmap(int(desc.File.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map its ring: %w", err)
	}
	if s.rx.there() && s.version == version3 {
		blocks{s.rx, m[:s.rx.size()]}.settle()
	}
	b := bytes.Clone(m)
	for range 100 {
		if bytes.Equal(b, m) {
			return b, unix.Munmap(m)
		}
		copy(b, m)
	}
	return nil, errors.Join(failure.WithHint(failure.Unsupportedf("packets arrive in its ring faster than they can be read"), "try again in a moment"), unix.Munmap(m))
}

// heads are where the kernel goes on in the rings.
type heads struct{ rx, tx int }

func (s *seen) heads(desc *kind.Desc, contents []byte) (at heads, err error) {
	if s.rx.there() && s.version == version3 {
		if at.rx, err = (blocks{s.rx, contents[:s.rx.size()]}).filled(); err != nil {
			return at, err
		}
	} else if s.rx.there() {
		f := frames{s.rx, headers[s.version], contents[:s.rx.size()]}
		at.rx = f.received()
		// poll(2) tells whether the frame before that one is the program's.
		n := int(s.rx.frames)
		shows, err := kernel.Poll(desc.File.Fd(), unix.POLLIN)
		if err != nil {
			return at, fmt.Errorf("poll it: %w", err)
		}
		if f.statusOf((at.rx+n-1)%n) != statusKernel && shows&unix.POLLIN == 0 {
			return at, errWhereNext("fills")
		}
	}
	if s.tx.there() {
		at.tx, err = frames{s.tx, headers[s.version], contents[s.rx.size():]}.sent()
	}
	return at, err
}

func dump(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	if err := sockopt.Check(d, desc); err != nil {
		return nil, err
	}
	s, err := look(d, desc)
	if err != nil {
		return nil, err
	}
	contents, at, err := s.check(d, desc)
	if err != nil {
		return nil, err
	}
	if err := s.tellLost(d, desc); err != nil {
		return nil, err
	}
	fd := int(desc.File.Fd())
	if s.fanout != nil { // sock_diag leaves out the flags
		v, err := unix.GetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
		if err != nil {
			return nil, fmt.Errorf("read its fanout group (PACKET_FANOUT): %w", err)
		}
		*s.fanout = uint32(v)
	}
	owner, err := d.Owner(desc)
	if err != nil {
		return nil, err
	}
	e := &packet_sock.PacketSockEntry{Id: proto.Uint32(desc.ID), Type: proto.Uint32(uint32(s.typ)), Flags: proto.Uint32(desc.StatusFlags()),
		Protocol: proto.Uint32(uint32(swap(s.protocol))), Ifindex: proto.Uint32(uint32(s.index)), Fown: owner,
		Fanout: s.fanout, RxRing: s.rx.entry(), TxRing: s.tx.entry()}
	if e.Opts, err = sockopt.Dump(desc.File.Fd()); err != nil {
		return nil, err
	}
	x := &image.FileExtra{Id: desc.ID}
	if x.SockOptions, err = sockopt.More(desc.File.Fd()); err != nil {
		return nil, err
	}
	if err := dumpOptions(fd, e, x); err != nil {
		return nil, err
	}
	if err := s.names(fd, x); err != nil {
		return nil, err
	}
	for _, m := range s.members {
		for range m.count {
			e.Mclist = append(e.Mclist, &packet_sock.PacketMclist{Index: proto.Uint32(m.index), Type: proto.Uint32(uint32(m.typ)), Addr: m.addr})
		}
	}
	if contents != nil {
		x.Ring = &image.Ring{Shmid: d.NewID("shmem"), Fills: uint32(at.rx), Sends: uint32(at.tx)}
		if err := saveRing(d, x.Ring, contents); err != nil {
			return nil, err
		}
	}
	if x.Inode, err = d.Inode(&desc.Stat); err != nil {
		return nil, err
	}
	return &fdinfo.FileEntry{Psk: e}, d.Out.Add(image.FilesExtra, "", x)
}

// swap: CRIU has the protocol in network order, as socket(2) takes it.
func swap(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// names notes the interfaces: their numbers may be others at the restore.
func (s *seen) names(fd int, x *image.FileExtra) error {
	x.Interfaces = map[uint32]string{}
	indexes := []uint32{uint32(s.index)}
	for _, m := range s.members {
		indexes = append(indexes, m.index)
	}
	for _, i := range indexes {
		if i == 0 || x.Interfaces[i] != "" {
			continue
		}
		name, err := sockopt.InterfaceName(fd, i)
		if err != nil {
			return err
		}
		x.Interfaces[i] = name
	}
	return nil
}

// saveRing writes the pages that are not all zeros.
func saveRing(d *kind.Dump, r *image.Ring, b []byte) error {
	out, err := d.Out.Pages(pagesID(r.GetShmid()))
	if err != nil {
		return err
	}
	zero := make([]byte, image.PageSize)
	for at := 0; at < len(b); at += image.PageSize {
		page := b[at:][:image.PageSize]
		if bytes.Equal(page, zero) {
			continue
		}
		if err := out.Write(uint64(at), page); err != nil {
			return err
		}
	}
	return out.Close()
}

func pagesID(shmid uint32) string { return fmt.Sprintf("shmem-%d", shmid) }
