// Package fifo saves FIFOs, pipes that have a name (fifo(7)).
//
// What the kernel shows: path, capacity and contents as for pipes; poll(2)
// tells whether the other end is open anywhere, but not to a reader that
// opened before any writer came: then a read(2) that finds nothing tells.
//
// What is saved: path, flags, owner (F_SETOWN) of each description; contents
// and capacity once a FIFO; the FIFO itself where it was deleted.
//
// What is lost: see Limits. A FIFO whose other end is open outside the
// container is refused.
//
// Needs: nothing beyond tee(2).
package fifo

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	fifoimg "github.com/checkpoint-restore/go-criu/v7/crit/images/fifo"
	pipedata "github.com/checkpoint-restore/go-criu/v7/crit/images/pipe-data"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/regfile"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/ghost"
	"ckpt/kind/pipebuf"
)

// Kind is fifo(7).
func Kind() kind.File {
	s := &saver{byInode: map[inode]*saved{}}
	r := &restorer{}
	return kind.File{
		Name:    "FIFO",
		Saves:   "as a pipe; one that was deleted, too",
		Refuses: "an end outside the container",
		Type:    fdinfo.FdTypes_FIFO,
		Owns:    owns,
		Refuse:  s.refuse,
		Dump:    s.dump,
		Finish:  s.finish,
		Restore: r.restore,
		Limits:  "two copies of a container on one machine share its FIFOs",
	}
}

func owns(d *kind.Desc) bool {
	return d.Stat.Mode&unix.S_IFMT == unix.S_IFIFO && strings.HasPrefix(d.Link, "/") && d.Info.Flags&unix.O_PATH == 0
}

type inode struct{ dev, ino uint64 }

func inodeOf(d *kind.Desc) inode { return inode{d.Stat.Dev, d.Stat.Ino} }

// saved is one FIFO.
type saved struct {
	id uint32
	pipebuf.Held
}

type saver struct {
	ghosts  ghost.Saver
	byInode map[inode]*saved
	order   []*saved
	seen    map[inode]*saved // by refuse, what descriptors hold
}

// refuse wants every process's descriptors to be known: both ends are looked for.
func (s *saver) refuse(d *kind.Dump, desc *kind.Desc) error {
	if _, _, err := path(d, desc); err != nil {
		return err
	}
	if s.seen == nil {
		s.seen = map[inode]*saved{}
		for _, proc := range d.Procs {
			for _, fd := range proc.Fds {
				if owns(fd.Desc) {
					k := inodeOf(fd.Desc)
					if s.seen[k] == nil {
						s.seen[k] = &saved{}
					}
					s.seen[k].See(fd.Desc)
				}
			}
		}
	}
	return s.seen[inodeOf(desc)].check()
}

// path is where the FIFO is found; gone: nothing leads to it any more.
func path(d *kind.Dump, desc *kind.Desc) (p string, gone bool, err error) {
	p, gone, err = d.Path(desc)
	if err == nil && gone {
		err = ghost.Refuse(desc, p)
	}
	return p, gone, err
}

// check refuses a FIFO with one end inside and the other open outside.
func (p *saved) check() error {
	reader, writer, err := p.ends()
	if err != nil {
		return err
	}
	what := ""
	switch {
	case p.Reader == nil && reader:
		what = "reads from"
	case p.Writer == nil && writer:
		what = "writes into"
	default:
		return nil
	}
	return failure.WithHint(failure.Unsupportedf("a program outside the container %s the FIFO", what),
		"end that program, or dump when it has closed the FIFO")
}

// ends tells which ends anybody has open.
func (p *saved) ends() (reader, writer bool, err error) {
	reader, writer, err = pipebuf.Ends(p.End().File, p.Reader != nil, p.Writer != nil)
	if err != nil || p.Writer != nil || !writer {
		return reader, writer, err
	}
	// No hang-up: a writer, or a reader that opened with O_NONBLOCK when there
	// was none and has seen none since (fifo_open in fs/pipe.c).
	n, err := pipebuf.Queued(p.Reader.File)
	if err != nil || n > 0 {
		return reader, n > 0, err
	}
	f, err := p.Reader.Reopen(unix.O_RDONLY | unix.O_NONBLOCK)
	if err != nil {
		return reader, writer, err
	}
	defer f.Close()
	var b [1]byte
	_, err = unix.Read(int(f.Fd()), b[:])
	if errors.Is(err, unix.EAGAIN) {
		return reader, true, nil
	}
	if err != nil {
		return reader, writer, fmt.Errorf("find out whether it has a writer: %w", err)
	}
	return reader, false, nil
}

func (s *saver) dump(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	name, gone, err := path(d, desc)
	if err != nil {
		return nil, err
	}
	p := s.byInode[inodeOf(desc)]
	if p == nil {
		p = &saved{id: d.NewID("fifo")}
		s.byInode[inodeOf(desc)] = p
		s.order = append(s.order, p)
	}
	if err := p.Keep(desc); err != nil {
		return nil, err
	}
	regID, err := addName(d, desc, name)
	if err != nil {
		return nil, err
	}
	if gone {
		if err := s.ghosts.Save(d, desc, regID); err != nil {
			return nil, err
		}
	}
	return &fdinfo.FileEntry{Fifo: &fifoimg.FifoEntry{
		Id: proto.Uint32(desc.ID), PipeId: proto.Uint32(p.id), RegfId: proto.Uint32(regID),
	}}, nil
}

// addName writes the entry of a regular file that holds what the message of a
// FIFO has no field for.
func addName(d *kind.Dump, desc *kind.Desc, name string) (id uint32, err error) {
	owner, err := d.Owner(desc)
	if err != nil {
		return 0, err
	}
	id = d.NewID("file")
	return id, d.Out.Add(image.Files, "", &fdinfo.FileEntry{
		Type: fdinfo.FdTypes_REG.Enum(), Id: proto.Uint32(id), Reg: &regfile.RegFileEntry{
			Id: proto.Uint32(id), Flags: proto.Uint32(desc.StatusFlags()), Pos: proto.Uint64(0), Fown: owner,
			Name: proto.String(name), MntId: proto.Int32(-1), Mode: proto.Uint32(desc.Stat.Mode),
		},
	})
}

func (s *saver) finish(d *kind.Dump) error {
	for _, p := range s.order {
		defer p.Drop()
		err := p.check()
		if err == nil {
			err = p.save(d)
		}
		if err != nil {
			return kind.At(p.End(), err)
		}
	}
	return nil
}

// save writes contents and what belongs to the FIFO as a whole; that goes
// with the entry of one of its ends.
func (p *saved) save(d *kind.Dump) error {
	c, err := p.Contents()
	if err != nil {
		return err
	}
	x := &image.FileExtra{Id: p.End().ID, Packets: c.Packets}
	if p.Writer == nil {
		_, writer, err := pipebuf.Ends(p.Reader.File, true, false)
		if err != nil {
			return err
		}
		x.HungUp = !writer
	}
	if x.HungUp || x.Packets != nil {
		if err := d.Out.Add(image.FilesExtra, "", x); err != nil {
			return err
		}
	}
	return d.Out.Add(image.FifoData, "", &pipedata.PipeDataEntry{
		PipeId: proto.Uint32(p.id), Bytes: proto.Uint32(uint32(len(c.Data))), Size: proto.Uint32(uint32(c.Size)),
	}, c.Data)
}

// name is the entry that holds path, flags and owner.
func name(r *kind.Restore, e *fdinfo.FileEntry) (*regfile.RegFileEntry, error) {
	if e.GetFifo() == nil {
		return nil, failure.Damagedf("a FIFO without its entry")
	}
	reg := r.Entries[e.GetFifo().GetRegfId()].GetReg()
	if reg == nil {
		return nil, failure.Damagedf("entry %d, the name of a FIFO, is missing", e.GetFifo().GetRegfId())
	}
	return reg, nil
}

// openBase opens the FIFO by its name as ckpt's own.
func openBase(path string, flags int) (*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, failure.WithHint(fmt.Errorf("%s is gone: it was a FIFO", path), "make it again: mkfifo "+failure.Quote(path))
	}
	if err != nil {
		return nil, fmt.Errorf("open the FIFO %s: %w", path, err)
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFIFO {
		err = failure.WithHint(fmt.Errorf("%s is no FIFO any more", path), "put the FIFO back: mkfifo "+failure.Quote(path))
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}
