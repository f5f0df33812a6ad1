package memory

import (
	"cmp"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
)

// mostDropped is in how many places pages of others are dropped, a call each: one
// who would have to in more reads all its pages itself.
const mostDropped = 1 << 18

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
	there := map[*area][]kind.Range{}
	for _, p := range e.pieces {
		there[p.area] = append(there[p.area], p.Range)
	}
	for a := range there {
		slices.SortFunc(there[a], byStart)
	}
	b.kept = map[uint64]bool{}
	var kept, own, others []kind.Range
	for _, v := range b.own() {
		a := in.areas[b.t.VPID][v.GetStart()].whole()
		i, _ := slices.BinarySearchFunc(there[a], v.GetStart(), func(r kind.Range, at uint64) int { return cmp.Compare(r.End, at+1) })
		if i == len(there[a]) || cut(there[a][i], rangeOf(v)) != rangeOf(v) {
			continue
		}
		b.kept[v.GetStart()] = true
		kept = append(kept, rangeOf(v))
		if n := len(b.areas); n == 0 || b.areas[n-1] != there[a][i] {
			b.areas = append(b.areas, there[a][i])
		}
	}
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
				} else {
					others = append(others, p.Range)
				}
			}
		}
	}
	others = merge(others)
	if len(others) > mostDropped {
		b.kept, b.areas = nil, nil
		return nil
	}
	for _, r := range others {
		b.s.Note(b.s.Must(unix.SYS_MADVISE, r.Start, r.Len(), unix.MADV_DONTNEED), "drop the pages of another")
	}
	own = merge(own)
	if !slices.Equal(rangesOf(pick(b.runs, own)), own) {
		return failure.Damagedf("pages that it has in common with another are missing")
	}
	b.runs = leave(b.runs, own)
	return nil
}
