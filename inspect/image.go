// Package inspect looks into images without restoring them: it reads, and needs
// neither root nor the kernel, files or programs that the image is of. Images of
// criu's have no files of ckpt's own; what only these tell is missing then.
package inspect

import (
	"cmp"
	"strconv"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fs"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/memfd"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"

	"ckpt/failure"
	"ckpt/image"
)

// Image is what the processes of an image refer to.
type Image struct {
	In     *image.Reader
	Tree   []*pstree.PstreeEntry // parents first
	Files  map[uint32]*fdinfo.FileEntry
	Extras map[uint32]*image.FileExtra
	Memfds map[uint64]*memfd.MemfdInodeEntry // by inode_id

	spaces map[uint32]string // id of the pagemap by vm_id; nil: not read yet
}

// Load reads the tree of processes and the files.
func Load(r *image.Reader) (*Image, error) {
	m := &Image{In: r, Files: map[uint32]*fdinfo.FileEntry{}, Extras: map[uint32]*image.FileExtra{}, Memfds: map[uint64]*memfd.MemfdInodeEntry{}}
	type data = func(int) ([]byte, error)
	if !r.Has(image.PSTree, "") {
		return nil, failure.Damagedf("%s is missing", image.PSTree.Name(""))
	}
	if err := image.Each(r, image.PSTree, "", func(e *pstree.PstreeEntry, _ data) error { m.Tree = append(m.Tree, e); return nil }); err != nil {
		return nil, err
	}
	if err := image.Each(r, image.Files, "", func(e *fdinfo.FileEntry, _ data) error { m.Files[e.GetId()] = e; return nil }); err != nil {
		return nil, err
	}
	if err := image.Each(r, image.FilesExtra, "", func(e *image.FileExtra, _ data) error { m.Extras[e.GetId()] = e; return nil }); err != nil {
		return nil, err
	}
	return m, image.Each(r, image.MemfdInode, "", func(e *memfd.MemfdInodeEntry, _ data) error { m.Memfds[e.GetInodeId()] = e; return nil })
}

// Process is one process of an image. A zombie has neither IDs nor MM nor FS.
type Process struct {
	Entry   *pstree.PstreeEntry
	Threads []Thread // the leading one first
	TC      *criu_core.TaskCoreEntry
	Task    *image.Task // empty in an image of criu's
	IDs     *criu_core.TaskKobjIdsEntry
	MM      *mm.MmEntry
	FS      *fs.FsEntry
}

// Thread is one of a process.
type Thread struct {
	VTID  uint32
	Core  *criu_core.CoreEntry
	Extra *image.Thread // empty in an image of criu's
}

// States of a task (CRIU's image.h).
const (
	taskDead    = 2
	taskStopped = 3
	taskZombie  = 6
)

// Zombie tells whether it has ended, and only its exit status is left.
func (p *Process) Zombie() bool {
	s := p.TC.GetTaskState()
	return s == taskDead || s == taskZombie
}

// Stopped tells whether a signal has stopped it.
func (p *Process) Stopped() bool { return p.TC.GetTaskState() == taskStopped }

// Process reads one process of the tree.
func (m *Image) Process(e *pstree.PstreeEntry) (*Process, error) {
	id := strconv.FormatUint(uint64(e.GetPid()), 10)
	p := &Process{Entry: e, Task: &image.Task{}}
	var err error
	if m.In.Has(image.TaskExtra, id) {
		if p.Task, err = image.One[*image.Task](m.In, image.TaskExtra, id); err != nil {
			return nil, err
		}
	}
	for i, tid := range image.Threads(e) {
		t := Thread{VTID: tid, Extra: &image.Thread{}}
		if t.Core, err = image.One[*criu_core.CoreEntry](m.In, image.Core, image.Core.ID(uint64(tid))); err != nil {
			return nil, err
		}
		if i < len(p.Task.GetThreads()) {
			t.Extra = p.Task.GetThreads()[i]
		}
		p.Threads = append(p.Threads, t)
	}
	if len(p.Threads) == 0 || p.Threads[0].VTID != e.GetPid() || p.Threads[0].Core.GetTc() == nil {
		return nil, failure.Damagedf("pstree.img: pid %d has no leading thread", e.GetPid())
	}
	p.TC = p.Threads[0].Core.GetTc()
	if p.Zombie() {
		return p, nil
	}
	p.IDs = p.Threads[0].Core.GetIds()
	if m.In.Has(image.IDs, id) {
		if p.IDs, err = image.One[*criu_core.TaskKobjIdsEntry](m.In, image.IDs, id); err != nil {
			return nil, err
		}
	}
	if p.MM, err = image.One[*mm.MmEntry](m.In, image.MM, id); err != nil {
		return nil, err
	}
	p.FS, err = image.One[*fs.FsEntry](m.In, image.FS, id)
	return p, err
}

// Space is the id of the pagemap that holds the memory of p: of those that share
// an address space (clone(2) with CLONE_VM), the first in the tree has it.
func (m *Image) Space(p *Process) (string, error) {
	if m.spaces == nil {
		m.spaces = map[uint32]string{}
		for _, e := range m.Tree {
			id := strconv.FormatUint(uint64(e.GetPid()), 10)
			if !m.In.Has(image.IDs, id) {
				continue // a zombie
			}
			ids, err := image.One[*criu_core.TaskKobjIdsEntry](m.In, image.IDs, id)
			if err != nil {
				return "", err
			}
			if m.spaces[ids.GetVmId()] == "" {
				m.spaces[ids.GetVmId()] = id
			}
		}
	}
	return cmp.Or(m.spaces[p.IDs.GetVmId()], strconv.FormatUint(uint64(p.Entry.GetPid()), 10)), nil
}
