package memory

import (
	"bytes"
	"errors"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

// refuseChanged refuses a vDSO that the program has written to: it comes back
// as the kernel has it. Behind the code ckpt itself may have left something.
func refuseChanged(p *kind.Proc, m *procfs.Map) error {
	if !m.IsVDSO() || m.Anonymous == 0 {
		return nil
	}
	code, err := kernel.VDSOCode()
	if err != nil {
		return err
	}
	code = bytes.TrimRight(code, "\x00")
	is := make([]byte, len(code))
	if uint64(len(code)) > m.Len() || tracee.ReadMemory(int(p.Lead().Host), m.Start, is) != nil || bytes.Equal(code, is) {
		return nil
	}
	return failure.WithHint(failure.Unsupportedf("the program has changed the kernel's code in it"), "let the program leave the vDSO as it is")
}

// joinVvar makes e, the second mapping of the vDSO's data ([vvar_vclock], since
// Linux 6.13), one with the first if that is the last of all: CRIU has an entry for
// both.
func joinVvar(all []*vma.VmaEntry, e *vma.VmaEntry) bool {
	if len(all) == 0 || e.GetStatus()&vvar == 0 {
		return false
	}
	last := all[len(all)-1]
	if last.GetStatus() != e.GetStatus() || last.GetEnd() != e.GetStart() || last.GetProt() != e.GetProt() ||
		last.GetFlags() != e.GetFlags() || last.GetMadv() != e.GetMadv() {
		return false
	}
	last.End = e.End
	return true
}

// vdso writes the kernel's code: CRIU compares it with what its own kernel has.
// ckpt's scripts may have left something behind it in the program's.
func (c *copier) vdso(m *procfs.Map) error {
	code, err := kernel.VDSOCode()
	if err != nil || uint64(len(code)) != m.Len() {
		return err // another size: the program has unmapped a part
	}
	n, err := writePages(c.out, code, m.Start, false)
	c.written += n
	return err
}

// vdsoPart is one mapping of the image's vDSO, and those that the bare child has
// for it, which are parked at an address of their own meanwhile.
type vdsoPart struct {
	saved  *vma.VmaEntry
	live   []procfs.Map
	parked uint64
}

// parkVDSO moves the bare child's vDSO out of the way: it is the present
// kernel's and cannot be made anew. What the program has unmapped of it is left
// where it is, to be unmapped with all else.
func (b *space) parkVDSO() (parts []vdsoPart, err error) {
	at := b.r.Park.Start
	for _, v := range b.savedVDSO() {
		p := vdsoPart{v, livePart(b.t.StubMaps, v), at}
		if p.live == nil {
			return nil, incompatibleVDSO()
		}
		parts = append(parts, p)
		for _, m := range p.live {
			if at+m.Len() > b.r.Park.End {
				return nil, errors.New("the kernel's vDSO is larger than expected")
			}
			step := b.s.Must(unix.SYS_MREMAP, m.Start, m.Len(), m.Len(), moveHere, at)
			b.s.Note(step, "park "+m.Path)
			b.s.Explain(step, func(errno unix.Errno) error {
				if errno != unix.EPERM {
					return nil
				}
				return failure.WithHint(failure.Unsupportedf("this kernel lets nobody move its vDSO (CONFIG_MSEAL_SYSTEM_MAPPINGS)"), "restore under a kernel built without that option")
			})
			at += m.Len()
		}
	}
	return parts, nil
}

// livePart are the mappings of the bare child that the image has as v: the code, or
// as much of the data, in one mapping or two that follow each other. nil: none has
// that size.
func livePart(stub []procfs.Map, v *vma.VmaEntry) []procfs.Map {
	is := (*procfs.Map).IsVvar
	if v.GetStatus()&vdso != 0 {
		is = (*procfs.Map).IsVDSO
	}
	for i := range stub {
		size := v.GetEnd() - v.GetStart()
		for j := i; j < len(stub) && is(&stub[j]) && stub[j].Len() <= size; j++ {
			if size -= stub[j].Len(); size == 0 {
				return stub[i : j+1]
			}
		}
	}
	return nil
}

// placeVDSO moves the parked vDSO to where the program knows it.
func (b *space) placeVDSO(parts []vdsoPart) {
	for _, p := range parts {
		parked, start := p.parked, p.saved.GetStart()
		for _, m := range p.live {
			b.s.Note(b.s.Must(unix.SYS_MREMAP, parked, m.Len(), m.Len(), moveHere, start), "place "+m.Path)
			if uint64(p.saved.GetProt()) != uint64(m.Prot()) {
				b.s.Note(b.s.Must(unix.SYS_MPROTECT, start, m.Len(), uint64(p.saved.GetProt())), "protect "+m.Path)
			}
			parked, start = parked+m.Len(), start+m.Len()
		}
		b.advise(p.saved)
		b.seal(p.saved)
	}
}

// kernels are the address ranges whose contents the kernel provides, whatever the
// image has of them.
func (b *space) kernels() (out []kind.Range) {
	for _, v := range b.savedVDSO() {
		out = append(out, rangeOf(v))
	}
	return out
}

// savedVDSO are the mappings of the image's vDSO, code and data.
func (b *space) savedVDSO() (out []*vma.VmaEntry) {
	for _, v := range b.t.MM.GetVmas() {
		if v.GetStatus()&(vdso|vvar) != 0 {
			out = append(out, v)
		}
	}
	return out
}

func incompatibleVDSO() error {
	return failure.WithHint(failure.Mark(failure.ErrIncompatible, errors.New("the program holds the vDSO of another kernel")),
		"restore it under the kernel it was dumped on (ckpt inspect tells which)")
}
