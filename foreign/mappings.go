package foreign

import (
	"math"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/memfd"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
)

// mapped are the files of mappings, as one pass over all processes changes
// them. CRIU opens a file for each mapping as fdflags of the mapping says; ckpt
// opens one for an entry of files.img, as the flags there say.
type mapped struct {
	t     *translation
	held  map[uint32]bool                   // files that a descriptor, or a process otherwise, has
	zeros map[uint32]*memfd.MemfdInodeEntry // by file: shared anonymous memory
	as    map[opening]uint32                // files by how they are opened
	given map[uint32]bool                   // those whose own entry says so by now
	next  uint32                            // a number that no file has yet
}

// opening is a file of files.img, and the flags of open(2).
type opening struct{ file, flags uint32 }

// zero is what CRIU takes the name of shared anonymous memory for, which it
// saves as a memfd: the kernel shows it as the file /dev/zero, deleted.
const zero = "/dev/zero"

func (t *translation) newMapped() (*mapped, error) {
	m := &mapped{t: t, held: map[uint32]bool{}, zeros: map[uint32]*memfd.MemfdInodeEntry{}, as: map[opening]uint32{}, given: map[uint32]bool{}}
	for _, p := range t.procs {
		if p.zombie() {
			continue
		}
		m.held[p.mm.GetExeFileId()] = true
		fds, err := each[*fdinfo.FdinfoEntry](t.r, image.FDInfo, image.FDInfo.ID(uint64(p.ids.GetFilesId())))
		if err != nil {
			return nil, err
		}
		for _, d := range fds {
			m.held[d.GetId()] = true
		}
	}
	inodes, err := each[*memfd.MemfdInodeEntry](t.r, image.MemfdInode, "")
	if err != nil {
		return nil, err
	}
	byID := map[uint64]*memfd.MemfdInodeEntry{}
	for _, i := range inodes {
		byID[i.GetInodeId()] = i
	}
	for id, e := range t.entries {
		if id == math.MaxUint32 {
			return nil, failure.Damagedf("files.img: a file has the number %d", id)
		}
		m.next = max(m.next, id+1)
		if e.GetMemfd() == nil || m.held[id] {
			continue
		}
		if i := byID[uint64(e.GetMemfd().GetInodeId())]; i.GetName() == zero {
			m.zeros[id] = i
		}
	}
	return m, nil
}

// rewrite gives the mappings of a process as ckpt has them.
func (m *mapped) rewrite(p *process) error {
	e := proto.CloneOf(p.mm)
	for _, v := range e.GetVmas() {
		if v.GetStatus()&(filePrivate|fileShared) == 0 {
			continue
		}
		if v.GetShmid() > 1<<32-1 || m.t.entries[uint32(v.GetShmid())] == nil {
			return failure.Damagedf("mm-%s.img: the mapping at %#x is of file %d, which files.img does not hold", p.id(), v.GetStart(), v.GetShmid())
		}
		if i := m.zeros[uint32(v.GetShmid())]; i != nil && v.GetStatus()&fileShared != 0 {
			v.Status = proto.Uint32(v.GetStatus()&^(fileShared|memfdBit) | anonShared)
			v.Flags = proto.Uint32(v.GetFlags() | unix.MAP_ANONYMOUS)
			v.Shmid, v.Fdflags = proto.Uint64(uint64(i.GetShmid())), nil
			continue
		}
		v.Shmid = proto.Uint64(uint64(m.open(opening{uint32(v.GetShmid()), v.GetFdflags()})))
	}
	return put(m.t, image.MM, p.id(), e)
}

// open gives the file that is opened so: the entry itself, or one more like it.
func (m *mapped) open(o opening) uint32 {
	if id, ok := m.as[o]; ok {
		return id
	}
	e := m.t.entries[o.file]
	id := o.file
	switch {
	case flagsOf(e) == nil || *flagsOf(e)&unix.O_ACCMODE == o.flags&unix.O_ACCMODE:
	case m.held[o.file] || m.given[o.file]:
		id = m.copy(e, o.flags)
	default:
		*flagsOf(e) = o.flags
	}
	m.given[o.file], m.as[o] = true, id
	return id
}

// copy enters a file once more, opened in another way.
func (m *mapped) copy(e *fdinfo.FileEntry, flags uint32) uint32 {
	id := m.next
	m.next++
	c := proto.CloneOf(e)
	c.Id = proto.Uint32(id)
	if c.Reg != nil {
		c.Reg.Id = proto.Uint32(id)
	}
	if c.Memfd != nil {
		c.Memfd.Id = proto.Uint32(id)
	}
	*flagsOf(c) = flags
	m.t.entries[id], m.t.copies[id] = c, e.GetId()
	return id
}

// flagsOf are those of a file that can be mapped; nil: it is none.
func flagsOf(e *fdinfo.FileEntry) *uint32 {
	switch {
	case e.GetReg() != nil:
		return e.Reg.Flags
	case e.GetMemfd() != nil:
		return e.Memfd.Flags
	}
	return nil
}

// mappings do so for all processes.
func (t *translation) mappings() error {
	m, err := t.newMapped()
	if err != nil {
		return err
	}
	for _, p := range t.procs {
		if p.zombie() {
			continue
		}
		for _, v := range p.mm.GetVmas() {
			t.refuseOf(p, where(v), checkMapping(v))
		}
		if err := m.rewrite(p); err != nil {
			return err
		}
	}
	for id := range m.zeros { // no files any more
		delete(t.entries, id)
	}
	return nil
}
