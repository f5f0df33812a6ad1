package image

import (
	"math"
	"slices"
	"strconv"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
)

// Memory is the memory of a process by sort of mapping.
type Memory struct {
	Anonymous   Amount `json:"anonymous"`    // private, without a file
	Heap        Amount `json:"heap"`         // brk(2)
	Stack       Amount `json:"stack"`        // of the first thread
	FilePrivate Amount `json:"file_private"` // saved: what was written to (copy on write)
	Shared      Amount `json:"shared"`       // saved: once, in the pagemap of the shared memory
	Mapped      uint64 `json:"mapped"`       // all of it, in bytes
	Saved       uint64 `json:"saved"`        // of that, in the image
}

// Amount is bytes of address space, and how many of them the image holds.
type Amount struct {
	Mapped uint64 `json:"mapped"`
	Saved  uint64 `json:"saved"`
}

// PageBytes is where contents of memory stand, in bytes.
type PageBytes struct {
	Stored   uint64 `json:"stored"`    // in this image, for the first that has them
	Common   uint64 `json:"common"`    // there, too: another process has the same
	InParent uint64 `json:"in_parent"` // in the image that this one was made after
}

func (b *PageBytes) count(runs []Run) {
	for _, r := range runs {
		n := r.Pages * PageSize
		switch r.From {
		case Own:
			b.Stored += n
		case Another:
			b.Common += n
		case Parent:
			b.InParent += n
		}
	}
}

func (m *Memory) add(o Memory) {
	to, from := m.parts(), o.parts()
	for i := range to {
		to[i].Mapped += from[i].Mapped
		to[i].Saved += from[i].Saved
	}
	m.Mapped += o.Mapped
	m.Saved += o.Saved
}

func (m *Memory) parts() []*Amount {
	return []*Amount{&m.Anonymous, &m.Heap, &m.Stack, &m.FilePrivate, &m.Shared}
}

// Bits of vma_entry.status (CRIU's image.h).
const (
	vmaStack    = 1 << 1
	vmaVsyscall = 1 << 2
	vmaVDSO     = 1 << 3
	vmaHeap     = 1 << 5
	vmaPrivate  = 1 << 6 // of a file
	vmaShared   = 1 << 7 // of a file
	vmaAnonShm  = 1 << 8
	vmaSysV     = 1 << 10
	vmaVVAR     = 1 << 12
	vmaMemfd    = 1 << 14
)

// part tells where a mapping counts; nil: the kernel's own (vdso).
func (m *Memory) part(status uint32) *Amount {
	switch {
	case status&(vmaVsyscall|vmaVDSO|vmaVVAR) != 0:
		return nil
	case status&vmaStack != 0:
		return &m.Stack
	case status&vmaHeap != 0:
		return &m.Heap
	case status&(vmaShared|vmaAnonShm|vmaSysV) != 0:
		return &m.Shared
	case status&vmaPrivate != 0:
		return &m.FilePrivate
	}
	return &m.Anonymous
}

// memory fills in p.Memory and p.Command.
func (s *summarizer) memory(p *Process, id string, e *mm.MmEntry) error {
	pages, err := PageRuns(s.r, id)
	if err != nil {
		return err
	}
	defer pages.Close()
	s.pages.count(pages.Runs)
	for _, v := range e.GetVmas() {
		size := v.GetEnd() - v.GetStart()
		a := p.Memory.part(v.GetStatus())
		if a == nil || v.GetEnd() < v.GetStart() {
			continue
		}
		a.Mapped += size
		p.Memory.Mapped += size
		a.Saved += savedIn(pages.Runs, v.GetStart(), v.GetEnd())
	}
	if err := s.sharedMemory(p, e.GetVmas()); err != nil {
		return err
	}
	for _, a := range p.Memory.parts() {
		p.Memory.Saved += a.Saved
	}
	return s.command(p, id, e, pages.Runs)
}

// savedIn is how many bytes of an address range the image holds.
func savedIn(runs []Run, start, end uint64) uint64 {
	var sum uint64
	i, _ := slices.BinarySearchFunc(runs, start, func(r Run, at uint64) int {
		if r.End() <= at {
			return -1
		}
		return 1
	})
	for ; i < len(runs) && runs[i].Vaddr < end; i++ {
		sum += min(end, runs[i].End()) - max(start, runs[i].Vaddr)
	}
	return sum
}

// sharedMemory adds what the image holds of each object that p maps, once.
func (s *summarizer) sharedMemory(p *Process, vmas []*vma.VmaEntry) error {
	seen := map[uint64]bool{}
	for _, v := range vmas {
		id, is := s.objectOf(v)
		if !is || seen[id] {
			continue
		}
		seen[id] = true
		saved, ok := s.shared[id]
		if !ok {
			pages, err := PageRuns(s.r, "shmem-"+strconv.FormatUint(id, 10))
			if err != nil {
				return err
			}
			pages.Close()
			s.pages.count(pages.Runs)
			saved = savedIn(pages.Runs, 0, maxAddr)
			s.shared[id] = saved
		}
		p.Memory.Shared.Saved += saved
	}
	return nil
}

// objectOf is the shmid of the shared memory that is mapped, if any: a mapping of a
// memfd names its file.
func (s *summarizer) objectOf(v *vma.VmaEntry) (id uint64, is bool) {
	switch st := v.GetStatus(); {
	case st&(vmaAnonShm|vmaSysV) != 0:
		return v.GetShmid(), true
	case st&vmaMemfd != 0 && v.GetShmid() <= math.MaxUint32:
		m := s.memfds[uint32(s.files[uint32(v.GetShmid())].GetMemfd().GetInodeId())]
		return uint64(m.GetShmid()), m != nil
	}
	return 0, false
}

// command takes the command line from ckpt-task-VPID.img, or else from where
// the process itself holds it.
func (s *summarizer) command(p *Process, id string, e *mm.MmEntry, runs []Run) error {
	if s.r.Has(TaskExtra, id) {
		t, err := One[*Task](s.r, TaskExtra, id)
		if err != nil {
			return err
		}
		if p.Command = t.GetCmdline(); len(p.Command) > 0 {
			return nil
		}
	}
	const most = 128 << 10 // a single argument may not be longer (MAX_ARG_STRLEN)
	start, end := e.GetMmArgStart(), e.GetMmArgEnd()
	if end <= start || end-start > most {
		return nil
	}
	for _, r := range runs {
		if start < r.Vaddr || end > r.End() {
			continue
		}
		b := make([]byte, end-start)
		if err := r.Read(start, b); err != nil {
			return err
		}
		p.Command = argsOf(b)
	}
	return nil
}
