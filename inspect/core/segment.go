package core

import (
	"debug/elf"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"

	"ckpt/image"
)

// Bits of coredump_filter (core(5)).
const (
	anonPrivateBit = 1 << iota
	anonSharedBit
	mappedPrivateBit
	mappedSharedBit
	elfHeadersBit
	hugePrivateBit
	hugeSharedBit

	byDefault = anonPrivateBit | anonSharedBit | elfHeadersBit | hugePrivateBit
)

// span is a part of a mapping: known, or left to the file that is mapped there.
type span struct {
	part
	known bool
}

// segments are the mappings in order. One that the image has only parts of, with
// others between that are not known, becomes several.
func (s *space) segments() ([]segment, error) {
	var out []segment
	for _, v := range s.p.MM.GetVmas() {
		spans, err := s.spans(v)
		if err != nil {
			return nil, err
		}
		out = append(out, cut(v, spans)...)
	}
	return out, nil
}

// cut makes segments of spans: each what is known, and behind it what is not.
func cut(v *vma.VmaEntry, spans []span) []segment {
	var flags elf.ProgFlag
	for prot, flag := range map[uint32]elf.ProgFlag{unix.PROT_READ: elf.PF_R, unix.PROT_WRITE: elf.PF_W, unix.PROT_EXEC: elf.PF_X} {
		if v.GetProt()&prot != 0 {
			flags |= flag
		}
	}
	var out []segment
	at := v.GetStart()
	open := false // the last segment takes more that is known
	for _, sp := range spans {
		if len(out) == 0 || sp.known && !open {
			out = append(out, segment{start: at, end: at, flags: flags})
		}
		last := &out[len(out)-1]
		if sp.known {
			last.parts = append(last.parts, sp.part)
		}
		open = sp.known
		at += sp.size
		last.end = at
	}
	return out
}

// spans tells what the file has of a mapping.
func (s *space) spans(v *vma.VmaEntry) ([]span, error) {
	size := v.GetEnd() - v.GetStart()
	none := []span{{part: part{size: size}}}
	st, has := v.GetStatus(), func(bit uint32) bool { return s.filter&bit != 0 }
	huge, dontdump := v.GetFlags()&unix.MAP_HUGETLB != 0, v.GetMadv()>>unix.MADV_DONTDUMP&1 != 0
	switch {
	case st&vdso != 0:
		return s.vdsoSpans(v), nil
	case st&(vsyscall|vvar|aioRing) != 0, dontdump:
		return none, nil
	case st&(anonShared|sysv) != 0:
		if huge && !has(hugeSharedBit) || !huge && !has(anonSharedBit) {
			return none, nil
		}
		return s.objectSpans(v.GetShmid(), v.GetPgoff(), size)
	case st&fileShared != 0:
		return s.sharedFileSpans(v)
	}
	written := s.written(v)
	switch {
	case st&filePrivate == 0:
		if huge && !has(hugePrivateBit) || !huge && !has(anonPrivateBit) || !written && !worth(v) {
			return none, nil
		}
	case written && has(anonPrivateBit), has(mappedPrivateBit):
	default:
		return s.headerSpans(v)
	}
	return s.privateSpans(v)
}

// worth tells, of memory that is all zero, whether it is more than a reservation.
func worth(v *vma.VmaEntry) bool {
	return v.GetProt()&unix.PROT_READ != 0 && v.GetFlags()&unix.MAP_NORESERVE == 0
}

// written tells whether the image has pages of a private mapping.
func (s *space) written(v *vma.VmaEntry) bool {
	i := s.own.First(v.GetStart())
	return i < len(s.own.Runs) && s.own.Runs[i].Vaddr < v.GetEnd()
}

// privateSpans are the pages of the image, and between them zeros or what is
// mapped.
func (s *space) privateSpans(v *vma.VmaEntry) ([]span, error) {
	var out []span
	at := v.GetStart()
	gap := func(end uint64) error {
		if at == end {
			return nil
		}
		between, err := s.behind(v, v.GetPgoff()+at-v.GetStart(), end-at)
		out = append(out, between...)
		return err
	}
	for i := s.own.First(at); i < len(s.own.Runs) && s.own.Runs[i].Vaddr < v.GetEnd(); i++ {
		start, end := max(s.own.Runs[i].Vaddr, at), min(s.own.Runs[i].End(), v.GetEnd())
		if err := gap(start); err != nil {
			return nil, err
		}
		out = append(out, span{part{end - start, s.own, int64(start)}, true})
		at = end
	}
	return out, gap(v.GetEnd())
}

// behind is what a mapping shows where nothing was written.
func (s *space) behind(v *vma.VmaEntry, offset, size uint64) ([]span, error) {
	if v.GetStatus()&filePrivate == 0 {
		return []span{{part{size: size}, true}}, nil
	}
	return s.fileSpans(uint32(v.GetShmid()), offset, size)
}

// objectSpans are the contents of shared memory.
func (s *space) objectSpans(id, offset, size uint64) ([]span, error) {
	c, err := s.shared.open(id)
	if err != nil {
		return nil, err
	}
	var out []span
	at, end := offset, offset+size
	for i := c.First(at); i < len(c.Runs) && c.Runs[i].Vaddr < end; i++ {
		from, to := max(c.Runs[i].Vaddr, at), min(c.Runs[i].End(), end)
		if from > at {
			out = append(out, span{part{size: from - at}, true})
		}
		out = append(out, span{part{to - from, object{&s.shared, id}, int64(from)}, true})
		at = to
	}
	if at < end {
		out = append(out, span{part{size: end - at}, true})
	}
	return out, nil
}

// vdsoSpans are the kernel's own code: what the image has of it (criu saves it),
// or this kernel's, if it is the same.
func (s *space) vdsoSpans(v *vma.VmaEntry) []span {
	size := v.GetEnd() - v.GetStart()
	switch {
	case s.written(v):
		return []span{{part{size, s.own, int64(v.GetStart())}, true}}
	case uint64(len(s.vdso)) >= size:
		return []span{{part{size, bytesAt(s.vdso), 0}, true}}
	}
	return []span{{part: part{size: size}}}
}

// headerSpans is the first page of a program or library, by which a debugger
// knows it.
func (s *space) headerSpans(v *vma.VmaEntry) ([]span, error) {
	size := v.GetEnd() - v.GetStart()
	none := []span{{part: part{size: size}}}
	if s.filter&elfHeadersBit == 0 || v.GetPgoff() != 0 {
		return none, nil
	}
	f, err := s.file(uint32(v.GetShmid()))
	if err != nil || !f.isELF() {
		return none, err
	}
	first, err := s.fileSpans(uint32(v.GetShmid()), 0, image.PageSize)
	if err != nil || size == image.PageSize {
		return first, err
	}
	return append(first, span{part: part{size: size - image.PageSize}}), nil
}
