package memory

import (
	"cmp"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
)

// Memory that processes share copy-on-write can be made in one way only: by
// fork(2). So a bare child is given, before any other is born of it, the pages
// that its process has in common with those below it, in mappings at their final
// addresses. What is inherited so, and what not, each finds out when it is
// rebuilt: a bare child is not always born of the parent its process has.

// lasting are flags that mmap(2) alone can give a mapping.
const lasting = unix.MAP_GROWSDOWN | unix.MAP_NORESERVE

// hugeAdvice decides on the size of pages when they are written to first, and
// cannot be taken back again.
var hugeAdvice = []int{unix.MADV_HUGEPAGE, unix.MADV_NOHUGEPAGE}

// origin is what mmap(2) has made a mapping of, and fork(2) of another.
type origin struct {
	flags uint32 // those of lasting
	madv  uint64 // those of hugeAdvice, a bit each
	file  uint64 // its id; 0: none
	delta uint64 // what stands at an address of the file's is at that and delta
}

func originOf(v *vma.VmaEntry) origin {
	o := origin{flags: v.GetFlags() & lasting, file: fileOf(v)}
	for _, a := range hugeAdvice {
		o.madv |= v.GetMadv() & (1 << a)
	}
	if o.file != 0 {
		o.delta = v.GetPgoff() - v.GetStart()
	}
	return o
}

// compare puts origins in an order, the same whenever it is asked.
func (o origin) compare(p origin) int {
	return cmp.Or(cmp.Compare(o.flags, p.flags), cmp.Compare(o.madv, p.madv), cmp.Compare(o.file, p.file), cmp.Compare(o.delta, p.delta))
}

// area is one mapping for all the mappings of one family that have pages in
// common: from the lowest address of any of them to the highest.
type area struct {
	kind.Range
	origin
	first int    // index of the target that it is made in, the highest of all
	gives uint64 // bytes in it that processes have from their parents
	into  *area  // the one it has become a part of
}

// whole is the area that a has become a part of.
func (a *area) whole() *area {
	for a != nil && a.into != nil {
		if a.into.into != nil {
			a.into = a.into.into // a shorter way for the next
		}
		a = a.into
	}
	return a
}

// take makes b a part of a.
func (a *area) take(b *area) {
	a.Range, a.first, a.gives, b.into = hull(a.Range, b.Range), min(a.first, b.first), a.gives+b.gives, a
}

// piece is an area, as far as it can be made: where another one lies, it has a gap.
type piece struct {
	kind.Range
	*area
}

// stretch is pages, and the process whose they are: the one highest in the tree
// of those that have them in common.
type stretch struct {
	kind.Range
	of pidns.VPID
}

// estate is what a bare child has.
type estate struct {
	pieces []piece
	pages  []stretch // in them, by address
}

// inheritance is what all processes have in common.
type inheritance struct {
	ready func(file uint64) bool
	areas map[pidns.VPID]map[uint64]*area // of the mappings of each, by their start
	pages map[pidns.VPID][]stretch        // that each has from one above it
	first map[pidns.VPID][]piece          // to be made in each, from which others have them
	given map[pidns.VPID][]kind.Range     // pages of each that others have from it
}

// inherit finds out what processes have in common. targets are parents first;
// ready tells of a file whether it can be mapped before any of them is there.
func inherit(targets []*kind.Target, ready func(file uint64) bool) (*inheritance, error) {
	in := &inheritance{ready, map[pidns.VPID]map[uint64]*area{}, map[pidns.VPID][]stretch{}, map[pidns.VPID][]piece{}, map[pidns.VPID][]kind.Range{}}
	alone := alone(targets)
	for _, t := range targets {
		if err := checkInherited(t.Extra.GetInherited()); err != nil {
			return nil, err
		}
		p, ok := alone[pidns.VPID(t.Entry.GetPpid())]
		if _, own := alone[t.VPID]; !ok || !own || targets[p] == t {
			continue
		}
		for _, r := range t.Extra.GetInherited() {
			in.join(t, targets[p], p, kind.Range{Start: r.GetStart(), End: r.GetEnd()})
		}
	}
	in.unite()
	seen, first := map[*area]bool{}, map[pidns.VPID][]*area{}
	for _, areas := range in.areas {
		for _, a := range areas {
			if a = a.whole(); !seen[a] {
				seen[a] = true
				v := targets[a.first].VPID
				first[v] = append(first[v], a)
			}
		}
	}
	for v, areas := range first {
		in.first[v] = apart(areas)
	}
	for v := range in.given {
		in.given[v] = merge(in.given[v])
	}
	return in, nil
}

// alone are the indexes of processes with an address space of their own.
func alone(targets []*kind.Target) map[pidns.VPID]int {
	users, out := map[uint32]int{}, map[pidns.VPID]int{}
	for _, t := range targets {
		if !t.Zombie {
			users[t.IDs.GetVmId()]++
		}
	}
	for i, t := range targets {
		if !t.Zombie && users[t.IDs.GetVmId()] == 1 {
			out[t.VPID] = i
		}
	}
	return out
}

// checkInherited refuses ranges that are out of order or out of bounds.
func checkInherited(ranges []*image.Range) error {
	end := uint64(0)
	for _, r := range ranges {
		if r.GetStart() < end || r.GetEnd() <= r.GetStart() || r.GetEnd() > taskSize || (r.GetStart()|r.GetEnd())%page != 0 {
			return failure.Damagedf("inherited memory %#x-%#x is out of place", r.GetStart(), r.GetEnd())
		}
		end = r.GetEnd()
	}
	return nil
}

// join notes that t and its parent, the target at index p, have r in common, as
// far as both have mapped it alike.
func (in *inheritance) join(t, parent *kind.Target, p int, r kind.Range) {
	for _, v := range in.forked(t, r) {
		for _, w := range in.forked(parent, cut(r, rangeOf(v))) {
			both := cut(cut(r, rangeOf(v)), rangeOf(w))
			if both.Len() == 0 || originOf(v) != originOf(w) {
				continue
			}
			a := in.areaOf(t.VPID, v, p)
			if b := in.areaOf(parent.VPID, w, p); b != a {
				a.take(b)
			}
			a.gives += both.Len()
			in.share(t, parent, both)
		}
	}
}

// areaOf is the area that a mapping of v's is part of: if of none, of a new one
// that is made in the target at index p.
func (in *inheritance) areaOf(v pidns.VPID, m *vma.VmaEntry, p int) *area {
	areas := in.areas[v]
	if areas == nil {
		areas = map[uint64]*area{}
		in.areas[v] = areas
	}
	a := areas[m.GetStart()].whole()
	if a == nil {
		a = &area{Range: rangeOf(m), origin: originOf(m), first: p}
	}
	areas[m.GetStart()] = a
	return a
}

// unite makes one area of those that overlap where one process has both, if they
// are of one origin: a bare child can have but one mapping at an address.
func (in *inheritance) unite() {
	for found := true; found; {
		found = false
		for _, areas := range in.areas {
			var all []*area
			for _, a := range areas {
				all = append(all, a.whole())
			}
			slices.SortFunc(all, func(a, b *area) int { return byStart(a.Range, b.Range) })
			last := map[origin]*area{}
			for _, a := range all {
				a, b := a.whole(), last[a.origin]
				if b != nil && a != b && cut(a.Range, b.Range).Len() > 0 {
					a.take(b)
					found = true
				}
				last[a.origin] = a
			}
		}
	}
}

// share notes whose the pages are that t has from its parent.
func (in *inheritance) share(t, parent *kind.Target, r kind.Range) {
	for _, s := range split(r, in.pages[parent.VPID], parent.VPID) {
		in.pages[t.VPID] = append(in.pages[t.VPID], s)
		in.given[s.of] = append(in.given[s.of], s.Range)
	}
}

// split divides r by whose pages they are, those of nobody else being v's.
func split(r kind.Range, pages []stretch, v pidns.VPID) (out []stretch) {
	for _, s := range from(pages, r.Start) {
		if s.Start >= r.End {
			break
		}
		if s.Start > r.Start {
			out = append(out, stretch{kind.Range{Start: r.Start, End: s.Start}, v})
		}
		end := min(s.End, r.End)
		out = append(out, stretch{kind.Range{Start: max(s.Start, r.Start), End: end}, s.of})
		r.Start = end
	}
	if r.Len() > 0 {
		out = append(out, stretch{r, v})
	}
	return out
}

// from leaves out the pages below an address.
func from(pages []stretch, at uint64) []stretch {
	i, _ := slices.BinarySearchFunc(pages, at, func(s stretch, at uint64) int {
		if s.End <= at {
			return -1
		}
		return 1
	})
	return pages[i:]
}

// forked are the mappings of t that can have pages from fork(2) in r.
func (in *inheritance) forked(t *kind.Target, r kind.Range) (out []*vma.VmaEntry) {
	vmas := t.MM.GetVmas()
	i, _ := slices.BinarySearchFunc(vmas, r.Start, func(v *vma.VmaEntry, at uint64) int {
		if v.GetEnd() <= at {
			return -1
		}
		return 1
	})
	for _, v := range vmas[i:] {
		if v.GetStart() >= r.End {
			break
		}
		file := fileOf(v)
		if v.GetStatus()&(anonPrivate|filePrivate) != 0 && v.GetStatus()&(vdso|vvar) == 0 && pageSize(v) == page && (file == 0 || in.ready(file)) {
			out = append(out, v)
		}
	}
	return out
}

func rangeOf(v *vma.VmaEntry) kind.Range { return kind.Range{Start: v.GetStart(), End: v.GetEnd()} }

func hull(a, b kind.Range) kind.Range {
	return kind.Range{Start: min(a.Start, b.Start), End: max(a.End, b.End)}
}

// cut is what a and b have in common.
func cut(a, b kind.Range) kind.Range {
	r := kind.Range{Start: max(a.Start, b.Start), End: min(a.End, b.End)}
	if r.End < r.Start {
		return kind.Range{}
	}
	return r
}

func byStart(a, b kind.Range) int { return cmp.Compare(a.Start, b.Start) }

// merge puts ranges in order, and those together that touch.
func merge(ranges []kind.Range) (out []kind.Range) {
	slices.SortFunc(ranges, byStart)
	for _, r := range ranges {
		if n := len(out); n > 0 && out[n-1].End >= r.Start {
			out[n-1].End = max(out[n-1].End, r.End)
		} else {
			out = append(out, r)
		}
	}
	return out
}
