package tree

import (
	"slices"
	"sort"

	"golang.org/x/sys/unix"

	"ckpt/pidns"
)

// emitter turns a tree of births into steps.
type emitter struct {
	f     *forest
	b     *births
	s     *sharing
	steps []Step
	ends  []Step              // of those that linger
	taken map[pidns.VPID]bool // by living helpers
	// home: the node's parent is already the one of today (of a dead leader:
	// the one by birth).
	home []bool
	// heir of a dead leader: who gets the children it leaves.
	heir []node
	// stay: while it is being built, somebody below the node still has to find
	// the node's forker above itself.
	stay []bool
	// outer is, of the first process of a pid namespace, the group from outside
	// that some of this namespace are in, other than their session's: they
	// cannot join it later. 0: none.
	outer []pidns.VPID
	born  []bool
	// started: the group exists, and goes on to.
	started map[pidns.VPID]bool
}

func (f *forest) emit(b *births) ([]Step, error) {
	s, err := f.share(b)
	if err != nil {
		return nil, err
	}
	e := &emitter{f: f, b: b, s: s, taken: map[pidns.VPID]bool{},
		home: make([]bool, len(f.nodes)), heir: make([]node, len(f.nodes)), stay: make([]bool, len(f.nodes)),
		born: make([]bool, len(f.nodes)), started: map[pidns.VPID]bool{}}
	if e.outer, err = f.outerGroups(); err != nil {
		return nil, err
	}
	e.born[initial] = true
	e.prepareDead()
	e.prepareStay()
	if err := e.build(initial); err != nil {
		return nil, err
	}
	if err := e.groups(); err != nil {
		return nil, err
	}
	e.last()
	if f.linger {
		e.add(Settled{})
		e.add(e.ends...)
	}
	return e.steps, nil
}

func (e *emitter) add(s ...Step) { e.steps = append(e.steps, s...) }

func (e *emitter) vpid(n node) pidns.VPID { return e.f.nodes[n].VPID }

// prepareDead decides for dead leaders who inherits their children, and which
// exit signal and which thread as a parent they hand on by CLONE_PARENT.
func (e *emitter) prepareDead() {
	for n := initial; n < len(e.f.nodes); n++ {
		p := &e.f.nodes[n]
		e.heir[n] = nobody
		if !p.dead {
			continue
		}
		p.ExitSignal, p.ByThread = unix.SIGCHLD, 0 // a former attempt may have changed them
		count := map[node]int{}
		for _, c := range e.b.children[n] {
			child := &e.f.nodes[c]
			if child.dead {
				continue
			}
			if child.parent == e.b.parent[n] {
				if child.ExitSignal != unix.SIGCHLD {
					p.ExitSignal = child.ExitSignal
				}
				if child.ByThread != 0 {
					p.ByThread = child.ByThread
				}
				continue
			}
			count[child.parent]++
			if h := e.heir[n]; h == nobody || count[child.parent] > count[h] {
				e.heir[n] = child.parent
			}
		}
	}
}

// prepareStay finds the nodes that CLONE_PARENT would take away from under
// their forker too early: it is the parent of today of somebody further down.
func (e *emitter) prepareStay() {
	for n := initial + 1; n < len(e.f.nodes); n++ {
		parent := e.f.nodes[n].parent
		if parent == nobody {
			continue
		}
		c := n
		for e.b.parent[c] != parent {
			c = e.b.parent[c]
		}
		e.stay[c] = e.stay[c] || c != n
	}
}

// build makes everybody below u, which exists.
func (e *emitter) build(u node) error {
	p := &e.f.nodes[u]
	var early, late []node
	for _, c := range e.b.children[u] {
		if e.b.session[c] == p.leader {
			late = append(late, c)
		} else {
			early = append(early, c) // inherits the session u was born in
		}
	}
	early, waitEarly := e.waiting(u, early)
	late, waitLate := e.waiting(u, late)
	if e.carries(u, late) {
		early, waitEarly = append(early, waitEarly...), nil // of the leading thread, then
	}
	if err := e.fork(u, early, waitEarly); err != nil {
		return err
	}
	if p.leader == u && u != initial {
		e.add(Setsid{p.VPID})
	}
	return e.fork(u, late, waitLate)
}

// waiting parts those children of threads of u that can be born when u has
// unshared what it only carried: a thread made before would keep it.
func (e *emitter) waiting(u node, children []node) (rest, wait []node) {
	for _, c := range children {
		if p := &e.f.nodes[c]; e.s.unshare[u] != 0 && p.parent == u && p.ByThread != 0 && e.s.flags[c]&e.s.unshare[u] == 0 {
			wait = append(wait, c)
		} else {
			rest = append(rest, c)
		}
	}
	return rest, wait
}

// carries tells whether one of the children gets from u what that will unshare.
func (e *emitter) carries(u node, children []node) bool {
	return slices.ContainsFunc(children, func(c node) bool { return e.s.flags[c]&e.s.unshare[u] != 0 })
}

// fork makes children by birth of u, with all below them, and behind those the
// ones that wait until u has unshared what it carries.
func (e *emitter) fork(u node, children, wait []node) error {
	if err := e.forkAll(u, children); err != nil || len(wait) == 0 {
		return err
	}
	e.unshare(u)
	return e.forkAll(u, wait)
}

func (e *emitter) forkAll(u node, children []node) error {
	type orphans struct {
		heir  node
		flags uint64
	}
	var order []orphans
	through := map[orphans][]node{}
	for _, c := range children {
		direct, flags := e.route(u, c)
		if !direct {
			o := orphans{e.f.nodes[c].parent, flags}
			if through[o] == nil {
				order = append(order, o)
			}
			through[o] = append(through[o], c)
			continue
		}
		if err := e.birth(u, e.vpid(u), c, flags); err != nil {
			return err
		}
	}
	for _, o := range order {
		if err := e.throughHelper(u, o.heir, o.flags, through[o]); err != nil {
			return err
		}
	}
	return nil
}

// route tells whether u itself can fork c, and with which flags.
func (e *emitter) route(u, c node) (direct bool, flags uint64) {
	up, child := &e.f.nodes[u], &e.f.nodes[c]
	flags = e.s.flags[c]
	if child.parent == u || child.dead {
		e.home[c] = true
		return true, flags
	}
	now := up.parent
	if up.dead {
		now = e.b.parent[u]
	}
	// A namespace's init may not use CLONE_PARENT (clone(2), EINVAL); its
	// parent is outside anyway.
	if !e.f.first(u) && e.home[u] && !e.stay[c] && e.outer[c] == 0 && now == child.parent && up.ExitSignal == child.ExitSignal {
		e.home[c] = true
		return true, flags | unix.CLONE_PARENT
	}
	return up.dead && e.heir[u] == child.parent && child.ExitSignal == unix.SIGCHLD, flags
}

// birth forks c from the process by, which is u or a helper below it.
func (e *emitter) birth(u node, by pidns.VPID, c node, flags uint64) error {
	p := &e.f.nodes[c]
	sig := p.ExitSignal
	if flags&unix.CLONE_PARENT != 0 {
		sig = 0
	}
	if e.f.first(c) {
		flags |= unix.CLONE_NEWPID
	}
	fork := Fork{Parent: by, Child: p.VPID, Nested: p.Nested, Flags: flags, ExitSignal: sig, Helper: p.dead}
	// A thread made this early keeps what its process unshares in the end.
	if by == e.vpid(u) && (p.parent == u || p.dead) && e.s.unshare[u] == 0 && !e.f.nodes[u].Alone && e.within(u, u) {
		fork.Thread = p.ByThread
	}
	if e.outer[c] == 0 {
		if err := e.addFork(u, fork); err != nil {
			return err
		}
	} else if err := e.birthInGroup(u, fork, e.outer[c]); err != nil {
		return err
	}
	e.born[c] = true
	if err := e.build(c); err != nil {
		return err
	}
	if p.dead {
		e.bury(p.VPID, u, e.vpid(u), e.heir[c], e.f.linger)
	}
	return nil
}

// within tells whether all born below n are in the user namespaces of u. If not,
// u enters its own when all are born, for which it must have one thread.
func (e *emitter) within(u, n node) bool {
	want, p := e.f.nodes[u].Users, &e.f.nodes[n]
	if !p.dead && !p.Zombie && (len(p.Users) < len(want) || !slices.Equal(p.Users[:len(want)], want)) {
		return false
	}
	return !slices.ContainsFunc(e.b.children[n], func(c node) bool { return !e.within(u, c) })
}

// throughHelper makes children whose parent of today is heir, an ancestor of
// u: a helper forks them and dies.
func (e *emitter) throughHelper(u, heir node, flags uint64, children []node) error {
	for _, c := range children {
		if p := &e.f.nodes[c]; p.ExitSignal != unix.SIGCHLD {
			return signalLost(&p.Row)
		}
	}
	h, err := e.helper(u, flags)
	if err != nil {
		return err
	}
	pending := len(e.ends)
	for _, c := range children {
		if err := e.birth(u, h, c, flags); err != nil {
			return err
		}
	}
	// Who lingers below it still has to find its heir above itself.
	e.bury(h, u, e.vpid(u), heir, len(e.ends) > pending)
	return nil
}

// helper forks a helper from by.
func (e *emitter) helper(by node, flags uint64) (pidns.VPID, error) {
	h, err := e.f.helperID(e.taken)
	if err != nil {
		return 0, err
	}
	e.taken[h] = true
	e.add(Fork{Parent: e.vpid(by), Child: h, Nested: slices.Repeat([]pidns.VPID{h}, e.f.level(e.f.nodes[by].space)),
		Flags: flags, ExitSignal: unix.SIGCHLD, Helper: true})
	return h, nil
}

// bury ends a helper that lives beside near, and whose children go to heir: at
// once, or, if it lingers, when its time has come. No other subreaper is set at
// this time, and the first of a namespace needs no setting.
func (e *emitter) bury(h pidns.VPID, near node, parent pidns.VPID, heir node, lingers bool) {
	steps := []Step{Exit{P: h}, Reap{parent, h}}
	if heir != nobody && heir != e.f.nodes[near].space {
		steps = append([]Step{Subreaper{e.vpid(heir), true}}, append(steps, Subreaper{e.vpid(heir), false})...)
	}
	if lingers {
		e.ends = append(e.ends, steps...)
		return
	}
	e.add(steps...)
	delete(e.taken, h)
}

// end adds what comes at the end of somebody who is no helper.
func (e *emitter) end(steps ...Step) {
	if e.f.linger {
		e.ends = append(e.ends, steps...)
	} else {
		e.add(steps...)
	}
}

// unshare gives a process its own of what it has carried from one to another.
func (e *emitter) unshare(n node) {
	if flags := e.s.unshare[n]; flags != 0 {
		e.add(Unshare{e.vpid(n), flags})
		e.s.unshare[n] = 0
	}
}

// last does what must not disturb the rest.
func (e *emitter) last() {
	for n := initial; n < len(e.f.nodes); n++ {
		p := &e.f.nodes[n]
		e.unshare(n)
		if p.Subreaper && !p.Zombie {
			e.end(Subreaper{p.VPID, true}) // when no helper leaves children any more
		}
	}
	for _, p := range e.f.nodes {
		if p.Zombie {
			e.end(Exit{p.VPID, p.Status})
		}
	}
}

// groups makes the process groups that are not those of a session leader:
// into these everybody is born.
func (e *emitter) groups() error {
	members := map[pidns.VPID][]node{}
	var ids []pidns.VPID
	for n := initial; n < len(e.f.nodes); n++ {
		p := &e.f.nodes[n]
		if p.PGID == p.SID {
			continue
		}
		if members[p.PGID] == nil {
			ids = append(ids, p.PGID)
		}
		members[p.PGID] = append(members[p.PGID], n)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	var helpers []Reap
	for _, g := range ids {
		h, err := e.startGroup(g, members[g])
		if err != nil {
			return err
		}
		helpers = append(helpers, h...)
	}
	for n := initial; n < len(e.f.nodes); n++ {
		p := &e.f.nodes[n]
		moved := members[p.VPID] != nil && p.PGID != p.VPID
		if !e.f.names(n) {
			if moved {
				return e.f.outerGroup(n)
			}
			continue // born in it
		}
		if moved || p.PGID != p.SID && p.PGID != p.VPID {
			e.add(Setpgid{P: p.VPID, PGID: p.PGID})
		}
	}
	for _, h := range helpers {
		e.bury(h.Child, initial, h.Parent, nobody, e.f.linger && !e.taken[h.Child])
	}
	return nil
}

// startGroup makes group g exist until the helpers it returns are buried:
// only the process with that number can make it.
func (e *emitter) startGroup(g pidns.VPID, members []node) (helpers []Reap, err error) {
	n, alive := e.f.index[g]
	if e.started[g] && !alive {
		return nil, nil
	}
	if !alive {
		near := e.f.beside(members)
		by := e.vpid(near)
		e.add(Fork{Parent: by, Child: g, Nested: e.f.nodes[near].GroupNested, ExitSignal: unix.SIGCHLD, Helper: true}, Setpgid{P: g, PGID: g})
		return []Reap{{by, g}}, nil
	}
	p := &e.f.nodes[n]
	hold := func() error {
		h, err := e.helper(n, 0)
		helpers = append(helpers, Reap{g, h})
		return err
	}
	if p.PGID == p.SID && e.f.nodes[p.leader].dead {
		if err := hold(); err != nil { // keeps the group it will come back to
			return nil, err
		}
	}
	e.add(Setpgid{P: g, PGID: g})
	if p.PGID != g {
		err = hold() // keeps the group it will leave
	}
	return helpers, err
}
