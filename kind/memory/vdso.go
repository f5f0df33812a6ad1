package memory

import (
	"bytes"
	"errors"
	"slices"

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

// vdsoPart is one mapping of the vDSO: where the program has it, and where the bare
// child has it, which is parked at an address of its own meanwhile.
type vdsoPart struct {
	saved  *vma.VmaEntry
	live   *procfs.Map
	parked uint64
}

// parkVDSO moves the bare child's vDSO out of the way: it is the present
// kernel's and cannot be made anew. What the program has unmapped of it is left
// where it is, to be unmapped with all else.
func (b *space) parkVDSO() (parts []vdsoPart, err error) {
	at := b.r.Park.Start
	for _, v := range b.savedVDSO() {
		i := slices.IndexFunc(b.t.StubMaps, func(m procfs.Map) bool { return isPart(&m, v) })
		if i < 0 {
			return nil, incompatibleVDSO()
		}
		m := &b.t.StubMaps[i]
		if at+m.Len() > b.r.Park.End {
			return nil, errors.New("the kernel's vDSO is larger than expected")
		}
		parts = append(parts, vdsoPart{v, m, at})
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
	return parts, nil
}

// isPart tells whether a mapping of the bare child is the one that the image has
// as v: those with data differ in size.
func isPart(m *procfs.Map, v *vma.VmaEntry) bool {
	if v.GetStatus()&vdso != 0 {
		return m.IsVDSO() && m.Len() == v.GetEnd()-v.GetStart()
	}
	return m.IsVvar() && m.Len() == v.GetEnd()-v.GetStart()
}

// placeVDSO moves the parked vDSO to where the program knows it.
func (b *space) placeVDSO(parts []vdsoPart) {
	for _, p := range parts {
		start, size := p.saved.GetStart(), p.live.Len()
		b.s.Note(b.s.Must(unix.SYS_MREMAP, p.parked, size, size, moveHere, start), "place "+p.live.Path)
		b.advise(p.saved)
		if uint64(p.saved.GetProt()) != uint64(p.live.Prot()) {
			b.s.Note(b.s.Must(unix.SYS_MPROTECT, start, size, uint64(p.saved.GetProt())), "protect "+p.live.Path)
		}
		b.seal(p.saved)
	}
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
