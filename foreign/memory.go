package foreign

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
)

// Status bits of vma_entry (CRIU's image.h) that are looked at here, and all
// that are carried.
const (
	vdso        = 1 << 3
	filePrivate = 1 << 6
	fileShared  = 1 << 7
	anonShared  = 1 << 8
	socket      = 1 << 11
	vvar        = 1 << 12
	aioRing     = 1 << 13
	memfdBit    = 1 << 14
	statuses    = 1<<0 | 1<<1 | 1<<2 | vdso | 1<<5 | filePrivate | fileShared | anonShared | 1<<9 | 1<<10 | socket | vvar | aioRing | memfdBit
)

// memory refuses what memory of a process is not carried.
func (t *translation) memory(p *process) error {
	if len(p.mm.GetAios()) > 0 {
		t.refuseOf(p, "", notCarried("its AIO contexts (io_setup(2)) are not carried from an image of criu's"))
	}
	if t.sharesMemory(p) {
		return nil
	}
	return t.kernelCode(p)
}

func where(v *vma.VmaEntry) string { return fmt.Sprintf("mapping %#x-%#x", v.GetStart(), v.GetEnd()) }

// sharesMemory tells whether a process before p has the same address space.
func (t *translation) sharesMemory(p *process) bool {
	for _, o := range t.procs {
		if o == p {
			break
		}
		if !o.zombie() && o.ids.GetVmId() == p.ids.GetVmId() {
			return true
		}
	}
	return false
}

func checkMapping(v *vma.VmaEntry) error {
	switch more := v.GetStatus() &^ statuses; {
	case more != 0:
		return notCarried("it is of a sort (%#x) that is not known", more)
	case v.GetStatus()&socket != 0:
		return notCarried("the rings of a packet socket are not carried from an image of criu's")
	case v.GetFlags()&unix.MAP_HUGETLB != 0:
		return notCarried("huge pages are not carried from an image of criu's")
	}
	return nil
}

// kernelCode takes the sum of the vDSO, as the manifest has it, from the pages
// that CRIU saves of it.
func (t *translation) kernelCode(p *process) error {
	i := slices.IndexFunc(p.mm.GetVmas(), func(v *vma.VmaEntry) bool { return v.GetStatus()&vdso != 0 })
	if i < 0 {
		return nil
	}
	v := p.mm.GetVmas()[i]
	if slices.ContainsFunc(p.mm.GetVmas()[i+1:], func(v *vma.VmaEntry) bool { return v.GetStatus()&vdso != 0 }) {
		t.refuseOf(p, "", failure.Mark(failure.ErrIncompatible, fmt.Errorf("it has code of two kernels (vDSO), as criu leaves it after a restore on another one")))
		return nil
	}
	code, err := t.pages(p, v)
	if err != nil {
		return err
	}
	if code == nil {
		t.refuseOf(p, "", failure.Mark(failure.ErrIncompatible, fmt.Errorf("the image lacks the code of the kernel it ran on (vDSO), so that it is not known whether this one has the same")))
		return nil
	}
	sum := sha256.Sum256(code)
	if have := t.m.Machine.GetVdso(); have != nil && !bytes.Equal(have, sum[:]) {
		t.refuseOf(p, "", failure.Mark(failure.ErrIncompatible, fmt.Errorf("it has code of another kernel (vDSO) than the other processes")))
	}
	t.m.Machine.Vdso = sum[:]
	return nil
}

// maxVDSO bounds what is read of it, in bytes: it is two pages.
const maxVDSO = 1 << 20

// pages reads the contents of a mapping; nil: the image has not all of them.
func (t *translation) pages(p *process, v *vma.VmaEntry) ([]byte, error) {
	size := v.GetEnd() - v.GetStart()
	if size > maxVDSO {
		return nil, failure.Damagedf("mm-%s.img: a vDSO of %d bytes", p.id(), size)
	}
	pages, err := image.PageRuns(t.r, p.id())
	if err != nil {
		return nil, err
	}
	defer pages.Close()
	b := make([]byte, size)
	at := v.GetStart()
	for _, r := range pages.Runs {
		if r.Vaddr > at || r.End() <= at {
			continue
		}
		n := min(r.End(), v.GetEnd()) - at
		if err := r.Read(at, b[at-v.GetStart():][:n]); err != nil {
			return nil, fmt.Errorf("pid %s: %w", p.id(), err)
		}
		if at += n; at == v.GetEnd() {
			return b, nil
		}
	}
	return nil, nil
}
