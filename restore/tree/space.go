package tree

import (
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/pidns"
)

// A pid namespace is a part of the tree: all in it descend by birth from its
// first process, which the others call 1, and nobody outside does.

// findSpaces finds everybody's pid namespace.
func (f *forest) findSpaces() error {
	for n := initial; n < len(f.nodes); n++ {
		p := &f.nodes[n]
		if p.dead {
			p.space = initial // as yet: findDeadSpaces
			continue
		}
		p.space = initial
		if p.Space > pidns.Init {
			first, ok := f.index[p.Space]
			if !ok || f.nodes[first].dead || f.nodes[first].Space != p.Space {
				return failure.Damagedf("pid %d lives in the pid namespace of pid %d, which is not the first of any", p.VPID, p.Space)
			}
			p.space = first
		}
	}
	if err := f.checkAround(); err != nil {
		return err
	}
	for n := initial; n < len(f.nodes); n++ {
		if err := f.checkSpace(n); err != nil {
			return err
		}
	}
	return f.findDeadSpaces()
}

// checkAround: every namespace lies in another one, up to the container's.
func (f *forest) checkAround() error {
	for n := initial + 1; n < len(f.nodes); n++ {
		steps := 0
		for space := n; f.nodes[n].space == n && space != initial; space = f.around(space) {
			if steps++; steps > len(f.nodes) {
				return failure.Damagedf("pid %d is the first of a pid namespace that lies in itself", f.nodes[n].VPID)
			}
		}
	}
	return nil
}

// checkSpace: n has as many ids as its namespace is deep, and its parent of
// today is where it was born.
func (f *forest) checkSpace(n node) error {
	p := &f.nodes[n]
	if p.dead {
		return nil
	}
	if len(p.Nested) != f.level(p.space) {
		return failure.Damagedf("pid %d has ids in %d pid namespaces below the container's, and lives in number %d", p.VPID, len(p.Nested), f.level(p.space))
	}
	if p.space == n && n != initial && p.Nested[len(p.Nested)-1] != pidns.Init {
		return failure.Damagedf("pid %d is the first of its pid namespace, but not pid 1 there", p.VPID)
	}
	if p.space == n && p.Zombie && p.Status.Signaled() && p.Status.Signal() != unix.SIGKILL {
		return failure.WithHint(failure.Unsupportedf("%s, the first of its pid namespace, was killed by signal %d, which cannot be sent to it again (pid_namespaces(7))",
			p.who(), p.Status.Signal()), "dump when its parent has waited for it")
	}
	if p.space == n && n != initial && !p.Zombie && p.PGID != p.VPID && f.names(n) {
		return failure.WithHint(failure.Unsupportedf("%s, the first of its pid namespace, is in group %d, which was made inside: Linux never ends such a namespace, and no dump could (zap_pid_ns_processes() in kernel/pid_namespace.c waits until all its ids are free)",
			p.who(), p.PGID), "let it leave that group before the dump: setpgid(0, 0)")
	}
	if p.parent != nobody && f.nodes[p.parent].space != f.home(n) {
		return failure.WithHint(failure.Unsupportedf("%s lives in the pid namespace of pid %d, and its parent %d outside of it (setns(2), as nsenter(1) does, or unshare(2) and a second fork); that is not carried yet",
			p.who(), f.nodes[p.space].VPID, f.nodes[p.parent].VPID), "dump when it has ended")
	}
	return nil
}

// findDeadSpaces places dead session leaders: where their sessions' members
// see them.
func (f *forest) findDeadSpaces() error {
	for n := initial; n < len(f.nodes); n++ {
		d := &f.nodes[n]
		if !d.dead {
			continue
		}
		for m := initial; m < len(f.nodes); m++ {
			p := &f.nodes[m]
			if p.dead || p.SID != d.VPID || len(p.SessionNested) < len(d.Nested) {
				continue
			}
			space := p.space
			for f.level(space) > len(p.SessionNested) {
				space = f.around(space)
			}
			if f.level(space) != len(p.SessionNested) {
				return failure.Damagedf("pid %d sees session %d in %d pid namespaces below the container's", p.VPID, p.SID, len(p.SessionNested))
			}
			d.space, d.Nested = space, slices.Clone(p.SessionNested)
		}
	}
	return nil
}

// outerGroups finds, for the first process of each pid namespace, the group
// made outside of it that members of it are in. All have it from their birth,
// and so have one and the same.
func (f *forest) outerGroups() ([]pidns.VPID, error) {
	out := make([]pidns.VPID, len(f.nodes))
	for n := initial; n < len(f.nodes); n++ {
		p := &f.nodes[n]
		if p.dead || f.names(n) {
			continue
		}
		for space := p.space; f.level(space) > len(p.GroupNested); space = f.around(space) {
			if out[space] != 0 && out[space] != p.PGID {
				return nil, f.outerGroup(n)
			}
			out[space] = p.PGID
		}
	}
	for space, g := range out {
		for n := initial; n < len(f.nodes) && g != 0; n++ {
			if p := &f.nodes[n]; p.PGID == g && p.SID == g {
				out[space] = 0 // their session's own: everybody is born in that
			}
		}
	}
	return out, nil
}

// addFork adds a birth by u, or by a helper below it. A pid namespace that
// belongs to another user namespace than the one around it is made by a process
// that is in that: by a helper, which has the child by CLONE_PARENT in place of
// its own parent.
func (e *emitter) addFork(u node, fork Fork) error {
	c := e.f.index[fork.Child]
	if !e.f.first(c) || e.f.nodes[c].Owner == e.f.nodes[e.f.around(c)].Owner {
		e.add(fork)
		return nil
	}
	h, err := e.f.helperID(e.taken)
	if err != nil {
		return err
	}
	helper := fork
	helper.Child, helper.Helper, helper.Flags = h, true, fork.Flags&^unix.CLONE_NEWPID
	helper.Nested = slices.Repeat([]pidns.VPID{h}, e.f.level(e.f.nodes[u].space))
	parent := fork.Parent
	if fork.Flags&unix.CLONE_PARENT != 0 {
		parent = e.vpid(e.f.nodes[c].parent)
	}
	fork.Parent, fork.Thread, fork.ExitSignal = h, 0, 0
	fork.Flags |= unix.CLONE_PARENT
	e.add(helper, Enter{P: h, For: fork.Child, User: e.f.nodes[c].Owner}, fork, Exit{P: h}, Reap{parent, h})
	return nil
}

func (f *forest) outerGroup(n node) error {
	p := &f.nodes[n]
	return failure.WithHint(failure.Unsupportedf("%s is in group %d, which was made outside of its pid namespace, and not all there are; that is not carried yet", p.who(), p.PGID),
		"start it in a session of its own: setsid CMD")
}

// birthInGroup forks the first process of a pid namespace so that it is in a
// group of those outside. u, or a helper below it, forks.
func (e *emitter) birthInGroup(u node, fork Fork, g pidns.VPID) error {
	c := e.f.index[fork.Child]
	p := &e.f.nodes[u]
	if e.outer[p.space] == g && len(e.f.groupIDs(g)) < e.f.level(p.space) {
		return e.addFork(u, fork) // its parent is in it, and has no name for it either
	}
	join := Setpgid{P: fork.Child, PGID: g, By: fork.Parent}
	n, there := e.f.index[g]
	switch {
	case !there && e.started[g]:
		if err := e.addFork(u, fork); err != nil {
			return err
		}
		e.add(join)
	case !there:
		e.add(Fork{Parent: e.vpid(u), Child: g, Nested: e.f.groupIDs(g), ExitSignal: unix.SIGCHLD, Helper: true}, Setpgid{P: g, PGID: g})
		if err := e.addFork(u, fork); err != nil {
			return err
		}
		e.add(join)
		e.end(Exit{P: g}, Reap{e.vpid(u), g})
	case !e.born[n] || len(e.f.nodes[n].SessionNested) < e.f.level(e.f.nodes[n].space):
		return e.f.outerGroup(e.f.memberInside(c, g))
	default:
		// Those that its leader has yet to fork are to be born in the
		// session's group.
		l := &e.f.nodes[n]
		e.add(Setpgid{P: g, PGID: g})
		if err := e.addFork(u, fork); err != nil {
			return err
		}
		e.add(join, Setpgid{P: g, PGID: l.SID})
	}
	e.started[g] = true
	return nil
}

// memberInside is one of a group who lives in the pid namespace of first, or
// below it, and has no number for the group.
func (f *forest) memberInside(first node, g pidns.VPID) node {
	for n := range f.nodes {
		if p := &f.nodes[n]; p.PGID == g && !f.names(n) && f.encloses(first, p.space) {
			return n
		}
	}
	return first
}

// groupIDs are the ids of a group in the pid namespaces below the container's.
func (f *forest) groupIDs(g pidns.VPID) (ids []pidns.VPID) {
	for _, p := range f.nodes {
		if p.PGID == g && len(p.GroupNested) > len(ids) {
			ids = p.GroupNested
		}
	}
	return ids
}

// names tells whether n has a number for its group.
func (f *forest) names(n node) bool { return len(f.nodes[n].GroupNested) >= f.level(f.nodes[n].space) }

// beside is the member of a group that lives in the pid namespace of its
// leader: the one that sees most of that one's ids.
func (f *forest) beside(members []node) node {
	return slices.MaxFunc(members, func(a, b node) int {
		x, y := len(f.nodes[a].GroupNested), len(f.nodes[b].GroupNested)
		if x == y { // of those that see as much, the one that lives higher up
			return f.level(f.nodes[b].space) - f.level(f.nodes[a].space)
		}
		return x - y
	})
}

// first tells whether n is the first process of a pid namespace.
func (f *forest) first(n node) bool { return f.nodes[n].space == n }

// around is the namespace in which that of space was made.
func (f *forest) around(space node) node {
	if space == initial {
		return initial
	}
	return f.nodes[f.nodes[space].parent].space
}

// level is how many namespaces there are between space and the container's own.
func (f *forest) level(space node) int {
	n := 0
	for ; space != initial; space = f.around(space) {
		n++
	}
	return n
}

// home is the namespace in which n was forked.
func (f *forest) home(n node) node {
	if f.first(n) {
		return f.around(n)
	}
	return f.nodes[n].space
}

// encloses tells whether the namespace inner is outer or one below it.
func (f *forest) encloses(outer, inner node) bool {
	for inner != outer && inner != initial {
		inner = f.around(inner)
	}
	return inner == outer
}

// strangers are those of which nobody is an ancestor by birth of n: they live
// in namespaces that do not enclose the one n was forked in.
func (f *forest) strangers(n node) set {
	out := newSet(len(f.nodes))
	for m := initial; m < len(f.nodes); m++ {
		if !f.encloses(f.nodes[m].space, f.home(n)) {
			out.add(m)
		}
	}
	return out
}
