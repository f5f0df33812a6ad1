package memory

import (
	"cmp"
	queue "container/heap"
	"slices"

	"ckpt/kind"
)

// apart divides what areas of one process cover among them, as there can be but
// one mapping at an address: areas that overlap are of different origin, since a
// mapping of one process and one of another can have become neighbours of the same
// pages. The one of which others have most has all of it. The pieces are by
// address.
func apart(areas []*area) (out []piece) {
	slices.SortFunc(areas, func(a, b *area) int {
		return cmp.Or(byStart(a.Range, b.Range), cmp.Compare(a.End, b.End), a.compare(b.origin))
	})
	var here largest // those that cover at, and some that end below it
	at := uint64(0)
	// until gives what lies below an address.
	until := func(end uint64) {
		for len(here) > 0 && at < end {
			if here[0].End <= at {
				queue.Pop(&here)
				continue
			}
			r := kind.Range{Start: at, End: min(here[0].End, end)}
			if n := len(out); n > 0 && out[n-1].area == here[0] && out[n-1].End == r.Start {
				out[n-1].End = r.End
			} else {
				out = append(out, piece{r, here[0]})
			}
			at = r.End
		}
		at = end
	}
	for _, a := range areas {
		until(a.Start)
		queue.Push(&here, a)
	}
	until(taskSize)
	return out
}

// largest is a heap of areas (container/heap): that of which others have most is
// the first.
type largest []*area

func (l largest) Len() int      { return len(l) }
func (l largest) Swap(i, j int) { l[i], l[j] = l[j], l[i] }
func (l *largest) Push(a any)   { *l = append(*l, a.(*area)) }
func (l largest) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(l[j].gives, l[i].gives), byStart(l[i].Range, l[j].Range), l[i].compare(l[j].origin)) < 0
}
func (l *largest) Pop() any {
	last := (*l)[len(*l)-1]
	*l = (*l)[:len(*l)-1]
	return last
}
