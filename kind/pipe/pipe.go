// Package pipe saves pipe(2)s.
//
// What the kernel shows: the inode number tells which ends belong together,
// F_GETPIPE_SZ the capacity, tee(2) the contents without taking them out, and
// poll(2) whether the other end is open anywhere.
//
// What is saved: contents and capacity once a pipe, packets (O_DIRECT) one by
// one, owner and permissions; flags and owner (F_SETOWN) of each description.
// An end that is closed stays closed.
//
// What is lost: see Limits. A pipe whose other end is held only outside the
// container is refused.
//
// Needs: nothing beyond tee(2).
package pipe

import (
	"os"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	pipeimg "github.com/checkpoint-restore/go-criu/v7/crit/images/pipe"
	pipedata "github.com/checkpoint-restore/go-criu/v7/crit/images/pipe-data"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/pipebuf"
	"ckpt/procfs"
)

// Kind is pipe(2).
func Kind() kind.File {
	s := &saver{byInode: map[inode]*saved{}}
	r := &restorer{}
	return kind.File{
		Name:    "pipe",
		Saves:   "contents, capacity, packets, flags, owner",
		Refuses: "an end outside the container; packets and ordinary bytes at the same time; O_PATH",
		Type:    fdinfo.FdTypes_PIPE,
		Owns:    owns,
		Refuse:  s.refuse,
		Dump:    s.dump,
		Finish:  s.finish,
		Restore: r.restore,
		Limits:  "a second holder outside the container, beside one inside, is not noticed: it keeps the old pipe",
	}
}

func owns(d *kind.Desc) bool {
	return d.Stat.Mode&unix.S_IFMT == unix.S_IFIFO && strings.HasPrefix(d.Link, "pipe:[")
}

type inode struct{ dev, ino uint64 }

func inodeOf(d *kind.Desc) inode { return inode{d.Stat.Dev, d.Stat.Ino} }

// saved is one pipe.
type saved struct {
	id uint32
	pipebuf.Held
}

type saver struct {
	byInode map[inode]*saved
	order   []*saved

	seen   map[inode]*saved // by refuse, what descriptors hold
	queues bool             // there are sockets with something in them
}

// refuse wants every process's descriptors to be known: both ends are looked for.
func (s *saver) refuse(d *kind.Dump, desc *kind.Desc) error {
	if err := refusePath(desc); err != nil {
		return err
	}
	if s.seen == nil {
		s.look(d)
	}
	p := s.seen[inodeOf(desc)]
	err := p.check(d)
	if err != nil && s.queues && p.otherHolder(d) == 0 {
		return nil // the other end may be on its way in a socket: Finish knows
	}
	return err
}

// otherHolder is who outside has the end that nobody inside has, by his host pid;
// 0: none can be seen.
func (p *saved) otherHolder(d *kind.Dump) int {
	can := pipebuf.CanRead
	if p.Writer == nil {
		can = pipebuf.CanWrite
	}
	return d.HolderOutside(p.End().Link, func(i *procfs.FDInfo) bool { return can(i.Flags) })
}

func (s *saver) look(d *kind.Dump) {
	s.seen = map[inode]*saved{}
	for _, proc := range d.Procs {
		for _, fd := range proc.Fds {
			s.queues = s.queues || hasQueue(fd.Desc)
			if !owns(fd.Desc) {
				continue
			}
			k := inodeOf(fd.Desc)
			if s.seen[k] == nil {
				s.seen[k] = &saved{}
			}
			s.seen[k].See(fd.Desc)
		}
	}
}

// refusePath: an O_PATH descriptor shows neither contents nor ends.
func refusePath(d *kind.Desc) error {
	if d.Info.Flags&unix.O_PATH != 0 {
		return failure.WithHint(failure.Unsupportedf("a pipe opened with O_PATH is not carried"), "let the program close it before the dump")
	}
	return nil
}

// hasQueue tells whether a socket holds data, descriptors perhaps among them.
func hasQueue(d *kind.Desc) bool {
	if d.Stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return false
	}
	n, err := unix.IoctlGetInt(int(d.File.Fd()), unix.TIOCINQ)
	return err == nil && n > 0
}

// check refuses a pipe with one end inside and the other only outside.
func (p *saved) check(d *kind.Dump) error {
	end := p.End()
	if end == nil || p.Reader != nil && p.Writer != nil {
		return nil
	}
	reader, writer, err := pipebuf.Ends(end.File, p.Reader != nil, p.Writer != nil)
	if err != nil || !reader || !writer {
		return err
	}
	what := "reads from"
	if p.Writer != nil {
		what = "writes into"
	}
	hints := []string{"start the container with the pipe replaced by a file", "or start the program at its other end inside the container too"}
	if d.Adopted {
		hints = []string{"start the program with the pipe replaced by a file", "or give the pid of an ancestor of the programs at both ends"}
	}
	by := kind.Named(p.otherHolder(d))
	if by != "" {
		by = ", by " + by
	}
	return failure.WithHint(failure.Unsupportedf("it %s a pipe whose other end is held outside the container%s", what, by), hints...)
}

func (s *saver) dump(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	if err := refusePath(desc); err != nil {
		return nil, err
	}
	p := s.byInode[inodeOf(desc)]
	if p == nil {
		p = &saved{id: d.NewID("pipe")}
		s.byInode[inodeOf(desc)] = p
		s.order = append(s.order, p)
	}
	if err := p.Keep(desc); err != nil {
		return nil, err
	}
	owner, err := d.Owner(desc)
	if err != nil {
		return nil, err
	}
	return &fdinfo.FileEntry{Pipe: &pipeimg.PipeEntry{
		Id: proto.Uint32(desc.ID), PipeId: proto.Uint32(p.id), Flags: proto.Uint32(desc.StatusFlags()), Fown: owner,
	}}, nil
}

func (s *saver) finish(d *kind.Dump) error {
	for _, p := range s.order {
		defer p.Drop()
		err := p.check(d)
		if err == nil {
			err = p.save(d)
		}
		if err != nil {
			return kind.At(p.End(), err)
		}
	}
	return nil
}

// save writes contents and what belongs to the pipe as a whole; that goes
// with the entry of one of its ends.
func (p *saved) save(d *kind.Dump) error {
	c, err := p.Contents()
	if err != nil {
		return err
	}
	end := p.End()
	i, err := d.Inode(&end.Stat)
	if err != nil {
		return err
	}
	if err := d.Out.Add(image.FilesExtra, "", &image.FileExtra{Id: end.ID, Inode: i, Packets: c.Packets}); err != nil {
		return err
	}
	return d.Out.Add(image.PipesData, "", &pipedata.PipeDataEntry{
		PipeId: proto.Uint32(p.id), Bytes: proto.Uint32(uint32(len(c.Data))), Size: proto.Uint32(uint32(c.Size)),
	}, c.Data)
}

// made is one pipe being restored.
type made struct {
	ends  [2]*os.File // reading, writing: ckpt's own
	given [2]bool     // handed out as a description of the image
	left  int         // descriptions still to be made
}

// done closes ckpt's own ends once every description has been made: readers
// would never see the end of their input.
func (m *made) done() {
	if m.left--; m.left <= 0 {
		m.ends[0].Close()
		m.ends[1].Close()
	}
}

type restorer struct {
	data  map[uint32]*pipebuf.Contents // by pipe id; nil: not read yet
	whole map[uint32]*image.FileExtra  // what belongs to the pipe as a whole
	left  map[uint32]int               // descriptions of each pipe
	made  map[uint32]*made
}

func (s *restorer) restore(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	pe := e.GetPipe()
	if pe == nil {
		return nil, failure.Damagedf("a pipe without its entry")
	}
	m, err := s.pipe(r, pe.GetPipeId())
	if err != nil {
		return nil, err
	}
	f, err := m.open(r, pe.GetFlags())
	m.done()
	if err != nil {
		return nil, err
	}
	if err := r.RestoreOwner(f, pe.GetFown()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// open gives one of the pipe's own ends where the description came from
// pipe2(2), which leaves out O_LARGEFILE, so that its flags are the very same, and else opens it anew.
func (m *made) open(r *kind.Restore, flags uint32) (*os.File, error) {
	end := 0
	if pipebuf.CanWrite(int(flags)) {
		end = 1
	}
	if flags&kind.LargeFile != 0 || m.given[end] || flags&unix.O_ACCMODE == unix.O_RDWR {
		return r.Reopen(m.ends[end], flags)
	}
	fd, err := unix.FcntlInt(m.ends[end].Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	m.given[end] = true
	return kind.NewFile(fd, flags, m.ends[end].Name())
}

// pipe makes the pipe called id, or gives it again.
func (s *restorer) pipe(r *kind.Restore, id uint32) (*made, error) {
	if m := s.made[id]; m != nil {
		return m, nil
	}
	if s.data == nil {
		if err := s.read(r); err != nil {
			return nil, err
		}
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	m := &made{ends: [2]*os.File{os.NewFile(uintptr(p[0]), "pipe"), os.NewFile(uintptr(p[1]), "pipe")}, left: s.left[id]}
	s.made[id] = m
	if err := kind.SetInode(m.ends[0], s.whole[id].GetInode()); err != nil {
		return nil, err
	}
	c := s.data[id]
	if c == nil {
		return m, nil // an image of criu's has no data of a pipe without a reader
	}
	delete(s.data, id)
	if err := unix.SetNonblock(p[1], true); err != nil {
		return nil, err
	}
	if err := pipebuf.Fill(m.ends[1], c); err != nil {
		return nil, err
	}
	return m, unix.SetNonblock(p[1], false)
}

func (s *restorer) read(r *kind.Restore) error {
	s.data, s.made = map[uint32]*pipebuf.Contents{}, map[uint32]*made{}
	s.whole, s.left = map[uint32]*image.FileExtra{}, map[uint32]int{}
	for _, e := range r.Entries {
		p := e.GetPipe()
		if p == nil {
			continue
		}
		s.left[p.GetPipeId()]++
		if x := r.Extras[e.GetId()]; x.GetInode() != nil {
			s.whole[p.GetPipeId()] = x
		}
	}
	return image.Each(r.In, image.PipesData, "", func(e *pipedata.PipeDataEntry, data func(int) ([]byte, error)) error {
		b, err := data(int(e.GetBytes()))
		if err != nil {
			return err
		}
		s.data[e.GetPipeId()] = &pipebuf.Contents{Size: int(e.GetSize()), Data: b, Packets: s.whole[e.GetPipeId()].GetPackets()}
		return nil
	})
}
