package fifo

import (
	"fmt"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	pipedata "github.com/checkpoint-restore/go-criu/v7/crit/images/pipe-data"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/regfile"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/ghost"
	"ckpt/kind/pipebuf"
)

type restorer struct {
	ghosts ghost.Restorer
	fifos  map[uint32]*made // by pipe id; nil: not read yet
}

// made is one FIFO being restored.
type made struct {
	contents pipebuf.Contents
	left     int  // descriptions still to be made
	written  bool // somebody inside writes, or has written
	base     *os.File
}

// done closes ckpt's own description once all others have been made, lest
// readers never see the end of their input.
func (m *made) done() {
	if m.left--; m.left <= 0 && m.base != nil {
		m.base.Close()
	}
}

func (s *restorer) restore(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	reg, err := name(r, e)
	if err != nil {
		return nil, err
	}
	if s.fifos == nil {
		if err := s.read(r); err != nil {
			return nil, err
		}
	}
	m := s.fifos[e.GetFifo().GetPipeId()]
	f, err := s.open(r, m, reg)
	m.done()
	if err != nil {
		return nil, err
	}
	if err := r.RestoreOwner(f, reg.GetFown()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (s *restorer) open(r *kind.Restore, m *made, reg *regfile.RegFileEntry) (*os.File, error) {
	f, err := s.ghosts.Open(r, reg.GetId(), reg.GetName(), reg.GetFlags())
	if err != nil {
		return nil, err
	}
	if m.base == nil {
		if f != nil {
			m.base, err = r.Reopen(f, unix.O_RDWR|unix.O_NONBLOCK)
		} else {
			m.base, err = openBase(reg.GetName(), m.mode())
		}
		if err == nil {
			err = m.fill()
		}
	}
	switch {
	case err == nil && f == nil:
		return r.Reopen(m.base, reg.GetFlags())
	case err != nil && f != nil:
		f.Close()
	}
	return f, err
}

// mode is how ckpt itself opens the FIFO. A reader that never saw a writer
// must be opened while there is none, or poll(2) would show it a hang-up.
func (m *made) mode() int {
	if m.written || len(m.contents.Data) > 0 {
		return unix.O_RDWR
	}
	return unix.O_RDONLY
}

func (m *made) fill() error {
	n, err := pipebuf.Queued(m.base)
	if err != nil {
		return err
	}
	if n > 0 {
		return failure.WithHint(fmt.Errorf("the FIFO %s is in use: it holds %d bytes of another program", m.base.Name(), n),
			"end the program that has it open")
	}
	return pipebuf.Fill(m.base, &m.contents)
}

func (s *restorer) read(r *kind.Restore) error {
	s.fifos = map[uint32]*made{}
	for _, e := range r.Entries {
		if e.GetType() != fdinfo.FdTypes_FIFO {
			continue
		}
		reg, err := name(r, e)
		if err != nil {
			return err
		}
		m := s.fifos[e.GetFifo().GetPipeId()]
		if m == nil {
			m = &made{}
			s.fifos[e.GetFifo().GetPipeId()] = m
		}
		m.left++
		x := r.Extras[e.GetId()]
		m.written = m.written || x.GetHungUp() || pipebuf.CanWrite(int(reg.GetFlags()))
		if x.GetPackets() != nil {
			m.contents.Packets = x.GetPackets()
		}
	}
	return image.Each(r.In, image.FifoData, "", func(e *pipedata.PipeDataEntry, data func(int) ([]byte, error)) error {
		b, err := data(int(e.GetBytes()))
		if err != nil {
			return err
		}
		m := s.fifos[e.GetPipeId()]
		if m == nil {
			return failure.Damagedf("data of FIFO %d, of which there is no entry", e.GetPipeId())
		}
		m.contents.Size, m.contents.Data = int(e.GetSize()), b
		return nil
	})
}
