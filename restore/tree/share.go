package tree

import (
	"slices"
	"sort"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// class is a set of processes that use one object.
type class struct {
	flag    uint64 // CLONE_VM, ...
	name    string
	members []node // two or more; those nearest to init first
}

// kinds of objects that clone(2) can share, in the order classes are placed.
var kinds = []struct {
	flag uint64
	name string
	of   func(*Row) uint64
}{
	{unix.CLONE_VM, "memory", func(r *Row) uint64 { return r.VM }},
	{unix.CLONE_SIGHAND, "signal handlers", func(r *Row) uint64 { return r.Sighand }},
	{unix.CLONE_FILES, "file descriptors", func(r *Row) uint64 { return r.Files }},
	{unix.CLONE_FS, "working directory", func(r *Row) uint64 { return r.FS }},
}

func (f *forest) findClasses() []class {
	var out []class
	for _, k := range kinds {
		by := map[uint64][]node{}
		var ids []uint64
		for n := initial; n < len(f.nodes); n++ {
			id := k.of(&f.nodes[n].Row)
			if id == 0 {
				continue
			}
			if by[id] == nil {
				ids = append(ids, id)
			}
			by[id] = append(by[id], n)
		}
		for _, id := range ids {
			if m := by[id]; len(m) > 1 {
				sort.SliceStable(m, func(i, j int) bool { return f.depth(m[i]) < f.depth(m[j]) })
				out = append(out, class{k.flag, k.name, m})
			}
		}
	}
	return out
}

func (f *forest) depth(n node) int {
	d := 0
	for ; n != nobody; n = f.nodes[n].parent {
		d++
	}
	return d
}

// checkSighand: the kernel has no shared signal handlers without shared
// memory (clone(2): CLONE_SIGHAND needs CLONE_VM).
func (f *forest) checkSighand() error {
	for _, c := range f.classes {
		if c.flag != unix.CLONE_SIGHAND {
			continue
		}
		a := f.nodes[c.members[0]]
		for _, m := range c.members[1:] {
			if b := f.nodes[m]; a.VM == 0 || a.VM != b.VM {
				return failure.Damagedf("pid %d and pid %d share signal handlers, but not memory", a.VPID, b.VPID)
			}
		}
	}
	return nil
}

// maxRootChoices bounds the combinations tried of which member of each class
// is the first.
const maxRootChoices = 64

// rootChoices are the sets of wishes for births: in every class one member, or
// one that will be dead, is the ancestor of the others, or none. The last set
// wishes for nothing.
func (f *forest) rootChoices() [][][2]node {
	choices := [][][2]node{nil}
	mortal := f.mortal()
	for _, c := range f.classes {
		var next [][][2]node
		for _, root := range slices.Concat(c.members, mortal, []node{nobody}) {
			for _, ch := range choices {
				if len(next) == maxRootChoices {
					break
				}
				next = append(next, append(append([][2]node(nil), ch...), c.below(root)...))
			}
		}
		choices = next
	}
	if len(choices[len(choices)-1]) > 0 {
		choices = append(choices, nil)
	}
	return choices
}

// mortal are those that die in the end, and so can hold for a while what they
// have in no row: zombies and dead leaders.
func (f *forest) mortal() (out []node) {
	for n := initial; n < len(f.nodes); n++ {
		if p := &f.nodes[n]; p.dead || p.Zombie {
			out = append(out, n)
		}
	}
	return out
}

func (c class) below(root node) [][2]node {
	var out [][2]node
	for _, m := range c.members {
		if root != nobody && m != root {
			out = append(out, [2]node{root, m})
		}
	}
	return out
}

// sharing is what the classes ask of a tree of births.
type sharing struct {
	// flags a node is forked with by its parent by birth.
	flags []uint64
	// unshare: what a node only carried from one to another.
	unshare []uint64
}

// share finds the flags. Between the members of a class everybody has to have
// the object; those who are no members die, or unshare it at the end.
func (f *forest) share(b *births) (*sharing, error) {
	s := &sharing{flags: make([]uint64, len(f.nodes)), unshare: make([]uint64, len(f.nodes))}
	holds := map[uint64]map[node]int{} // flag -> node -> class + 1
	for i, c := range f.classes {
		if holds[c.flag] == nil {
			holds[c.flag] = map[node]int{}
		}
		for _, m := range c.members {
			holds[c.flag][m] = i + 1
		}
	}
	for i, c := range f.classes {
		held := holds[c.flag]
		path, top := b.span(c.members)
		for _, n := range path {
			if n != top {
				s.flags[n] |= c.flag
			}
			if held[n] == i+1 {
				continue
			}
			p := &f.nodes[n]
			mortal := p.dead || p.Zombie
			if held[n] != 0 || !mortal && c.flag&(unix.CLONE_VM|unix.CLONE_SIGHAND) != 0 {
				return nil, f.unshareable(c, p)
			}
			held[n] = i + 1
			if !mortal {
				s.unshare[n] |= c.flag
			}
		}
	}
	return s, nil
}

func (f *forest) unshareable(c class, between *proc) error {
	return failure.WithHint(failure.Unsupportedf("%s and %s share their %s, with %s between them, which cannot pass it on",
		f.nodes[c.members[0]].who(), f.nodes[c.members[1]].who(), c.name, between.who()),
		"dump when one of the two has ended, or has executed a program")
}

// span is the smallest connected part of the births that has all members, and
// its topmost node.
func (b *births) span(members []node) (path []node, top node) {
	below := map[node]int{}
	for _, m := range members {
		for n := m; n != nobody; n = b.parent[n] {
			below[n]++
		}
	}
	top = members[0]
	for below[top] < len(members) {
		top = b.parent[top]
	}
	for n := b.parent[top]; n != nobody; n = b.parent[n] {
		delete(below, n)
	}
	for n := range below {
		path = append(path, n)
	}
	sort.Ints(path)
	return path, top
}
