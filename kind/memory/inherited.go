package memory

import (
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"

	"ckpt/kind"
)

// has tells whether the bare child has inherited a mapping.
func (b *space) has(v *vma.VmaEntry) bool { return b.kept[v.GetStart()] }

// takeInherited finds what the bare child has inherited of its mappings, and of
// their pages. Those of others are dropped, its own need not be read.
func (b *space) takeInherited() error {
	e := b.m.estates[b.t.Heir]
	if e == nil {
		return nil
	}
	in, err := b.m.inherited(b.r)
	if err != nil {
		return err
	}
	there := map[*area]bool{}
	for _, a := range e.areas {
		there[a] = true
	}
	b.kept = map[uint64]bool{}
	var kept []kind.Range
	for _, v := range b.own() {
		if there[in.areas[b.t.VPID][v.GetStart()].whole()] {
			b.kept[v.GetStart()] = true
			kept = append(kept, rangeOf(v))
		}
	}
	var own []kind.Range
	for _, s := range e.pages {
		for len(kept) > 0 && kept[0].End <= s.Start {
			kept = kept[1:]
		}
		for _, k := range kept {
			if k.Start >= s.End {
				break
			}
			for _, p := range split(cut(s.Range, k), in.pages[b.t.VPID], b.t.VPID) {
				if p.of == s.of {
					own = append(own, p.Range)
					continue
				}
				b.s.Note(b.s.Must(unix.SYS_MADVISE, p.Start, p.Len(), unix.MADV_DONTNEED), "drop the pages of another")
			}
		}
	}
	own = merge(own)
	if _, err := pick(b.runs, own); err != nil {
		return err
	}
	b.runs = leave(b.runs, own)
	return nil
}
