package tty

import (
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/regfile"
	ttyimg "github.com/checkpoint-restore/go-criu/v7/crit/images/tty"
	"google.golang.org/protobuf/proto"

	"ckpt/image"
	"ckpt/kind"
)

type saver struct {
	ptys  map[uint32]*pty
	order []*pty
	seen  map[uint32]*pty // by look, what descriptors hold
	asked bool            // contents have been looked for
	own   uint64          // device of the container's /dev/pts; 0: it has none
}

// contents is what was found to wait in a terminal; nil: it was not looked for.
func (s *saver) contents(p *pty) *contents {
	if seen := s.seen[p.index]; seen != nil { // one that is gone may have another's number
		return seen.kept
	}
	return nil
}

func (s *saver) dump(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	n, hungUp, err := index(desc)
	if err != nil {
		return nil, err
	}
	if foreign(desc, s.own) {
		// Nothing is left of it but its number; one of the container's own
		// terminals may have the same.
		for s.seen[n] != nil {
			n++
		}
	}
	if err := s.checkMaster(d, desc); err != nil { // one in flight
		return nil, err
	}
	if seen := s.seen[n]; seen != nil && isMaster(desc) {
		if err := s.askConsole(d, seen); err != nil {
			return nil, err
		}
	}
	p := s.ptys[n]
	if p == nil {
		p = &pty{index: n}
		s.ptys[n] = p
		s.order = append(s.order, p)
	}
	if desc, err = desc.Keep(); err != nil {
		return nil, err
	}
	if err := p.see(desc, hungUp); err != nil {
		return nil, err
	}
	owner, err := d.Owner(desc)
	if err != nil {
		return nil, err
	}
	name, err := addName(d, desc)
	if err != nil {
		return nil, err
	}
	return &fdinfo.FileEntry{Tty: &ttyimg.TtyFileEntry{
		Id: proto.Uint32(desc.ID), TtyInfoId: proto.Uint32(infoID(n, isMaster(desc))),
		Flags: proto.Uint32(desc.StatusFlags()), Fown: owner, RegfId: proto.Uint32(name),
	}}, nil
}

// infoID numbers the two ends of a pair.
func infoID(index uint32, master bool) uint32 {
	if master {
		return index<<1 | 1
	}
	return index << 1
}

// addName writes the entry of a file that holds the path; CRIU opens by it.
func addName(d *kind.Dump, desc *kind.Desc) (uint32, error) {
	id := d.NewID("file")
	owner, err := d.Owner(desc)
	if err != nil {
		return 0, err
	}
	return id, d.Out.Add(image.Files, "", &fdinfo.FileEntry{
		Type: fdinfo.FdTypes_REG.Enum(), Id: proto.Uint32(id), Reg: &regfile.RegFileEntry{
			Id: proto.Uint32(id), Flags: proto.Uint32(desc.StatusFlags()), Pos: proto.Uint64(0), Fown: owner,
			Name: proto.String(desc.Link), MntId: proto.Int32(-1), Mode: proto.Uint32(desc.Stat.Mode),
		},
	})
}

func (s *saver) finish(d *kind.Dump) error {
	s.asked = true
	for _, p := range s.order {
		err := s.check(d, p, p.any())
		if err == nil {
			err = p.save(d, s.contents(p))
		}
		if err != nil {
			return kind.At(p.any(), err)
		}
	}
	for _, p := range s.order {
		p.master.Drop()
		p.slave.Drop()
	}
	return nil
}
