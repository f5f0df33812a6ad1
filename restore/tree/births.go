package tree

import (
	"math/bits"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// births is the tree of who forked whom.
type births struct {
	parent []node // the forker, a node (helpers between the two are not shown)
	// session is the leader of the session a node is born in.
	session  []node
	children [][]node
}

// maxTries bounds the search. Trees of real programs need a handful.
const maxTries = 20000

// search is a partial answer: for every node, the set of nodes known to be
// its ancestors by birth.
type search struct {
	f       *forest
	anc     []set
	never   []set  // those who cannot be; nil: nobody is in a pid namespace of its own
	session []node // known birth session; nobody: a leader's, still open
	tries   *int
}

// births finds a tree of births. above lists pairs of which the first must be
// an ancestor of the second by birth.
func (f *forest) births(above [][2]node) (*births, error) {
	s := &search{f: f, anc: make([]set, len(f.nodes)), session: make([]node, len(f.nodes)), tries: new(int)}
	if slices.ContainsFunc(f.nodes, func(p proc) bool { return p.space != initial }) {
		s.never = make([]set, len(f.nodes))
	}
	for n := range f.nodes {
		s.anc[n] = newSet(len(f.nodes))
		if s.never != nil {
			s.never[n] = f.strangers(n)
		}
		s.session[n] = nobody
		p := &f.nodes[n]
		if n != initial {
			s.anc[n].add(initial)
			s.anc[n].add(f.home(n))
		}
		if p.parent != nobody {
			s.anc[n].add(p.parent)
		}
		if p.leader != n {
			s.session[n] = p.leader
		}
	}
	for _, a := range above {
		s.anc[a[1]].add(a[0])
	}
	if done := s.solve(); done != nil {
		return done.finish(), nil
	}
	if *s.tries > maxTries {
		return nil, failure.WithHint(failure.Unsupportedf("the process tree is too tangled to be built again (%d ways were tried)", maxTries),
			"dump when some of its processes have ended")
	}
	return nil, errNoBirths
}

// errNoBirths: no tree of births gives these rows.
var errNoBirths = failure.Unsupportedf("no order of births gives this tree")

// solve completes s, or returns nil.
func (s *search) solve() *search {
	if *s.tries++; *s.tries > maxTries || !s.propagate() {
		return nil
	}
	a, b, ok := s.incomparable()
	if !ok {
		if s.misborn() {
			return nil
		}
		return s
	}
	for _, pair := range [][2]node{{a, b}, {b, a}} {
		t := s.clone()
		t.anc[pair[1]].add(pair[0])
		if done := t.solve(); done != nil {
			return done
		}
	}
	return nil
}

func (s *search) clone() *search {
	t := &search{f: s.f, never: s.never, session: append([]node(nil), s.session...), tries: s.tries}
	for _, a := range s.anc {
		t.anc = append(t.anc, append(set(nil), a...))
	}
	return t
}

// propagate draws every conclusion; false: they contradict each other.
func (s *search) propagate() bool {
	for changed := true; changed; {
		changed = false
		for n := initial; n < len(s.anc); n++ {
			c, ok := s.settle(n)
			if !ok {
				return false
			}
			changed = changed || c
		}
	}
	return true
}

// settle draws the conclusions of what is known of n.
func (s *search) settle(n node) (changed, ok bool) {
	lead := s.session[n]
	if lead != nobody && s.anc[n].add(lead) {
		changed = true
	}
	for _, a := range s.anc[n].members() {
		if s.anc[n].union(s.anc[a]) {
			changed = true
		}
	}
	if s.anc[n].has(n) || s.never != nil && s.anc[n].meets(s.never[n]) {
		return false, false
	}
	if lead == nobody {
		return changed, true
	}
	for _, a := range s.anc[n].members() {
		if a != lead && s.placeBetween(a, lead) {
			changed = true
		}
	}
	return changed, true
}

// placeBetween: a is an ancestor of a node that was born in lead's session.
// Either a is above lead, or it was in that session when it forked.
func (s *search) placeBetween(a, lead node) (changed bool) {
	switch p := &s.f.nodes[a]; {
	case p.leader != a && p.leader != lead, // never in that session
		p.leader == a && s.session[a] != nobody && s.session[a] != lead:
		return s.anc[lead].add(a)
	case p.leader == a && s.session[a] == nobody && s.anc[a].has(lead):
		s.session[a] = lead
		return true
	}
	return false // settled, or a choice between the two will follow
}

// incomparable finds two ancestors of one node of which neither is the
// other's: the ancestors of a node are a line. The more likely upper one comes
// first: the leader of the session the node was born in, as its parent then was born in that
// session, and no subreaper is needed.
func (s *search) incomparable() (a, b node, found bool) {
	for n := initial; n < len(s.anc); n++ {
		low := s.lowest(n)
		for _, x := range s.anc[n].members() {
			if x == low || s.anc[low].has(x) {
				continue
			}
			if low == s.session[n] {
				return low, x, true
			}
			return x, low, true
		}
	}
	return 0, 0, false
}

// misborn tells of a node whose exit signal tells that it never changed its
// parent, yet whose forker is neither this parent nor a sibling with that
// signal (CLONE_PARENT).
func (s *search) misborn() bool {
	for n := initial; n < len(s.anc); n++ {
		p := &s.f.nodes[n]
		if p.ExitSignal == unix.SIGCHLD || p.parent == nobody {
			continue
		}
		low := s.lowest(n)
		up := &s.f.nodes[low]
		sibling := low != initial && s.lowest(low) == p.parent &&
			(up.dead || up.parent == p.parent && up.ExitSignal == p.ExitSignal)
		if low != p.parent && !sibling {
			return true
		}
	}
	return false
}

// lowest is the ancestor of n with the most ancestors.
func (s *search) lowest(n node) node {
	low, most := nobody, -1
	for _, x := range s.anc[n].members() {
		if k := s.anc[x].len(); k > most {
			low, most = x, k
		}
	}
	return low
}

func (s *search) finish() *births {
	b := &births{parent: make([]node, len(s.anc)), session: s.session, children: make([][]node, len(s.anc))}
	b.parent[initial], b.session[initial] = nobody, initial
	for n := initial + 1; n < len(s.anc); n++ {
		b.parent[n] = s.lowest(n)
		b.children[b.parent[n]] = append(b.children[b.parent[n]], n)
	}
	for n := initial + 1; n < len(s.anc); n++ {
		if b.session[n] == nobody { // free to choose: what its forker is in at last
			b.session[n] = s.f.nodes[b.parent[n]].leader
		}
	}
	return b
}

// set is a set of nodes.
type set []uint64

func newSet(n int) set { return make(set, (n+63)/64) }

func (s set) has(n node) bool { return s[n/64]&(1<<(n%64)) != 0 }

func (s set) add(n node) (changed bool) {
	changed = !s.has(n)
	s[n/64] |= 1 << (n % 64)
	return changed
}

func (s set) union(o set) (changed bool) {
	for i := range s {
		if o[i]&^s[i] != 0 {
			s[i] |= o[i]
			changed = true
		}
	}
	return changed
}

func (s set) meets(o set) bool {
	for i := range s {
		if s[i]&o[i] != 0 {
			return true
		}
	}
	return false
}

func (s set) len() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

func (s set) members() []node {
	var out []node
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			out = append(out, i*64+bits.TrailingZeros64(w))
		}
	}
	return out
}
