package diff

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"

	"ckpt/image"
	"ckpt/inspect"
)

// atOnce is how much of each image is compared at a time, in bytes.
const atOnce = 1 << 20

// memory compares the contents of an address space, and of the shared memory
// mapped in it, unless another process was told of with it. Parts that are the
// same are left out.
func (c *comparer) memory(a, b *inspect.Process) ([]MemoryPart, error) {
	var own [2]*image.Contents
	for i, p := range []*inspect.Process{a, b} {
		id, err := c.sides[i].Space(p)
		if err != nil {
			return nil, err
		}
		if id != u32(p.Entry.GetPid()) && i == 1 {
			return c.shared(a, b) // the first that has this address space tells of it
		}
		if own[i], err = c.sides[i].In.Contents(id); err != nil {
			return nil, err
		}
		defer own[i].Close()
	}
	c.rseq = rseqAreas(b)
	defer func() { c.rseq = nil }()
	maps := [2][]mapping{c.sides[0].mappings(a), c.sides[1].mappings(b)}
	var out []MemoryPart
	at := map[string]int{} // in out, by mapping
	err := c.contents(own, borders(maps), func(addr uint64, n Amount) {
		name := nameAt(maps, addr)
		i, ok := at[name]
		if !ok {
			i = len(out)
			at[name] = i
			out = append(out, MemoryPart{Mapping: name})
		}
		out[i].add(n)
	})
	if err != nil {
		return nil, err
	}
	more, err := c.shared(a, b)
	return append(out, more...), err
}

// nameAt names the mapping at an address, in the second image if there is one.
func nameAt(maps [2][]mapping, addr uint64) string {
	for _, ms := range [][]mapping{maps[1], maps[0]} {
		i := sort.Search(len(ms), func(i int) bool { return ms[i].end > addr })
		if i < len(ms) && ms[i].start <= addr {
			return ms[i].String()
		}
	}
	return fmt.Sprintf("%#x, not mapped", addr)
}

// borders are the ends of mappings, in order: runs of pages go beyond them.
func borders(maps [2][]mapping) []uint64 {
	var out []uint64
	for _, ms := range maps {
		for _, m := range ms {
			out = append(out, m.start, m.end)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// contents compares what both have, and tells of each piece that differs. No piece
// goes beyond one of borders, which are in order.
func (c *comparer) contents(both [2]*image.Contents, borders []uint64, tell func(addr uint64, n Amount)) error {
	const to = math.MaxInt64 // above all addresses
	for at := uint64(0); at < to; {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		for len(borders) > 0 && borders[0] <= at {
			borders = borders[1:]
		}
		inA, endA := piece(both[0], at)
		inB, endB := piece(both[1], at)
		end := min(endA, endB)
		if len(borders) > 0 {
			end = min(end, borders[0])
		}
		n := end - at
		switch {
		case inA && inB:
			n = min(n, atOnce)
			changed, err := c.changed(both, at, n)
			if err != nil {
				return err
			}
			if changed > 0 {
				tell(at, Amount{Changed: changed})
			}
		case inA:
			tell(at, Amount{Removed: n})
		case inB:
			tell(at, Amount{Added: n})
		}
		if inB {
			c.phase.Add(n)
		}
		at += n
	}
	return nil
}

// piece tells whether the image has the page at an address, and up to where that
// is so.
func piece(c *image.Contents, at uint64) (has bool, end uint64) {
	i := c.First(at)
	switch {
	case i == len(c.Runs):
		return false, math.MaxInt64
	case c.Runs[i].Vaddr > at:
		return false, c.Runs[i].Vaddr
	}
	return true, c.Runs[i].End()
}

// changed counts the bytes of pages that differ, of n bytes from at on that both
// have.
func (c *comparer) changed(both [2]*image.Contents, at, n uint64) (sum uint64, err error) {
	if both[0].Same(both[1], at, n) {
		return 0, nil
	}
	for i := range both {
		if c.bufs[i] == nil {
			c.bufs[i] = make([]byte, atOnce)
		}
		if _, err := both[i].ReadAt(c.bufs[i][:n], int64(at)); err != nil {
			return 0, err
		}
	}
	a, b := c.bufs[0][:n], c.bufs[1][:n]
	for _, area := range c.rseq {
		if area >= at && area-at <= n-rseqSize {
			written(b[area-at:], a[area-at:])
		}
	}
	for ; len(a) > 0; a, b = a[image.PageSize:], b[image.PageSize:] {
		if !bytes.Equal(a[:image.PageSize], b[:image.PageSize]) {
			sum += image.PageSize
		}
	}
	return sum, nil
}

// rseqSize is the size of the first struct rseq (rseq(2)), in bytes, which is
// aligned to it.
const rseqSize = 32

// rseqAreas are the addresses of what the kernel writes to whenever a thread
// comes back to the program, though it runs no further.
func rseqAreas(p *inspect.Process) (out []uint64) {
	for _, t := range p.Threads {
		if at := t.Core.GetThreadCore().GetRseqEntry().GetRseqAbiPointer(); at != 0 && at%rseqSize == 0 {
			out = append(out, at)
		}
	}
	return out
}

// written copies the fields of struct rseq that tell of the processor: cpu_id_start
// and cpu_id, node_id and mm_cid.
func written(to, from []byte) {
	copy(to[:8], from[:8])
	copy(to[20:28], from[20:28])
}

// shared compares the shared memory that both map at the same address.
func (c *comparer) shared(a, b *inspect.Process) ([]MemoryPart, error) {
	before := map[uint64]mapping{}
	for _, m := range c.sides[0].mappings(a) {
		before[m.start] = m
	}
	var out []MemoryPart
	for _, m := range c.sides[1].mappings(b) {
		o, mapped := before[m.start]
		if m.shmid == 0 || !mapped || o.shmid == 0 || c.seen[[2]uint64{o.shmid, m.shmid}] {
			continue
		}
		c.seen[[2]uint64{o.shmid, m.shmid}] = true
		part, err := c.object(o.shmid, m.shmid)
		if err != nil {
			return nil, err
		}
		if part != (Amount{}) {
			out = append(out, MemoryPart{m.String(), part})
		}
	}
	return out, nil
}

// object compares one piece of shared memory.
func (c *comparer) object(a, b uint64) (sum Amount, err error) {
	var both [2]*image.Contents
	for i, id := range []uint64{a, b} {
		if both[i], err = c.sides[i].In.Contents("shmem-" + strconv.FormatUint(id, 10)); err != nil {
			return sum, err
		}
		defer both[i].Close()
	}
	return sum, c.contents(both, nil, func(_ uint64, n Amount) { sum.add(n) })
}

// Bits of vma_entry.status (CRIU's image.h).
const (
	vmaStack    = 1 << 1
	vmaVsyscall = 1 << 2
	vmaVDSO     = 1 << 3
	vmaHeap     = 1 << 5
	vmaFile     = 1<<6 | 1<<7
	vmaAnonShm  = 1 << 8
	vmaSysV     = 1 << 10
	vmaVVAR     = 1 << 12
)

// mapping is one of an address space.
type mapping struct {
	start, end uint64
	what       string // "rw-p /lib/x.so +0x1000"
	shmid      uint64 // of shared memory; 0: none
}

func (m mapping) String() string { return fmt.Sprintf("%#x-%#x %s", m.start, m.end, m.what) }

func (s *side) mappings(p *inspect.Process) []mapping {
	var out []mapping
	extra := map[uint64]*image.VMA{}
	for _, x := range p.Task.GetVmas() {
		extra[x.GetStart()] = x
	}
	for _, v := range p.MM.GetVmas() {
		m := mapping{start: v.GetStart(), end: v.GetEnd(), what: modes(v)}
		if name := s.nameOf(v, extra[v.GetStart()]); name != "" {
			m.what += " " + name
		}
		if v.GetStatus()&vmaFile != 0 && v.GetPgoff() != 0 {
			m.what += fmt.Sprintf(" +%#x", v.GetPgoff())
		}
		if v.GetStatus()&(vmaAnonShm|vmaSysV) != 0 {
			m.shmid = v.GetShmid()
		} else if fd := s.Files[uint32(v.GetShmid())].GetMemfd(); fd != nil && v.GetStatus()&vmaFile != 0 {
			m.shmid = uint64(s.Memfds[uint64(fd.GetInodeId())].GetShmid())
		}
		out = append(out, m)
	}
	return out
}

// modes are as in /proc/PID/maps, and what madvise(2) has asked for.
func modes(v *vma.VmaEntry) string {
	b := []byte("---p")
	for i, c := range "rwx" {
		if v.GetProt()>>i&1 != 0 {
			b[i] = byte(c)
		}
	}
	const mapShared = 1
	if v.GetFlags()&mapShared != 0 {
		b[3] = 's'
	}
	if v.GetMadv() != 0 {
		return fmt.Sprintf("%s (advice %#x)", b, v.GetMadv())
	}
	return string(b)
}

func (s *side) nameOf(v *vma.VmaEntry, x *image.VMA) string {
	st := v.GetStatus()
	for _, k := range []struct {
		bit  uint32
		name string
	}{{vmaVDSO, "[vdso]"}, {vmaVVAR, "[vvar]"}, {vmaVsyscall, "[vsyscall]"}, {vmaHeap, "[heap]"}, {vmaStack, "[stack]"}, {vmaSysV, "System V shared memory"}, {vmaAnonShm, "shared memory"}} {
		if st&k.bit != 0 {
			return k.name
		}
	}
	if st&vmaFile != 0 {
		e := s.Files[uint32(v.GetShmid())]
		if m := e.GetMemfd(); m != nil {
			return "memfd:" + s.Memfds[uint64(m.GetInodeId())].GetName()
		}
		return e.GetReg().GetName()
	}
	return x.GetName()
}

// mappingChanges are the mappings that only one image has, and those that are
// another kind, or longer or shorter, at the same address.
func mappingChanges(a, b []mapping) []Change {
	var out []Change
	before := map[uint64]mapping{}
	for _, m := range a {
		before[m.start] = m
	}
	after := map[uint64]bool{}
	for _, m := range b {
		after[m.start] = true
		o, there := before[m.start]
		switch {
		case !there:
			out = append(out, Change{What: "mapping", Is: m.String()})
		case o.String() != m.String():
			out = append(out, Change{"mapping", o.String(), m.String()})
		}
	}
	for _, m := range a {
		if !after[m.start] {
			out = append(out, Change{What: "mapping", Was: m.String()})
		}
	}
	return out
}
