package memory

import (
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/procfs"
)

// parkVDSO moves the bare child's vDSO out of the way: it is the present
// kernel's and cannot be made anew. A program without one gets none.
func (b *space) parkVDSO() (live []procfs.Map, err error) {
	for _, m := range b.t.StubMaps {
		if m.IsVDSO() || m.IsVvar() {
			live = append(live, m)
		}
	}
	saved := b.savedVDSO()
	if len(saved) == 0 || len(live) == 0 {
		if len(saved) != len(live) && len(live) == 0 {
			return nil, incompatibleVDSO()
		}
		return nil, nil
	}
	if len(saved) != len(live) {
		return nil, incompatibleVDSO()
	}
	first, last := live[0].Start, live[len(live)-1].End
	if last-first > b.r.Park.Len() {
		return nil, fmt.Errorf("the kernel's vDSO takes %d bytes, more than expected", last-first)
	}
	for i, m := range live {
		if v := saved[i]; m.Len() != v.GetEnd()-v.GetStart() || m.IsVDSO() != (v.GetStatus()&vdso != 0) {
			return nil, incompatibleVDSO()
		}
		step := b.s.Must(unix.SYS_MREMAP, m.Start, m.Len(), m.Len(), moveHere, b.r.Park.Start+m.Start-first)
		b.s.Note(step, "park "+m.Path)
	}
	return live, nil
}

// placeVDSO moves the parked vDSO to where the program knows it.
func (b *space) placeVDSO(live []procfs.Map) {
	for i, v := range b.savedVDSO() {
		if i >= len(live) {
			return
		}
		m := &live[i]
		b.s.Note(b.s.Must(unix.SYS_MREMAP, b.r.Park.Start+m.Start-live[0].Start, m.Len(), m.Len(), moveHere, v.GetStart()), "place "+m.Path)
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
	return failure.WithHint(failure.Mark(failure.ErrIncompatible, fmt.Errorf("the program holds the vDSO of another kernel")),
		"restore it under the kernel it was dumped on (ckpt inspect tells which)")
}
