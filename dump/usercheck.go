package dump

import (
	"fmt"
	"slices"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
)

// checkUser refuses a process that a restore could not bring into its user
// namespace, or into the other ones from there.
func (s *session) checkUser(p *kind.Proc) error {
	own, born := s.users.of[p], s.bornIn(p)
	if own == 0 || p.Zombie {
		return nil // it has ended, while only checking
	}
	path := s.users.around(own)
	refuse := func(format string, a ...any) error {
		return s.fail(p, "", failure.WithHint(failure.Unsupportedf(format+"; that is not carried yet", a...),
			"start it in namespaces of one program only: unshare(1), or a container tool, without nsenter(1)"))
	}
	if !slices.Contains(path, born) {
		return refuse("its pid namespace belongs to a user namespace that it is not in (setns(2), as nsenter(1) does)")
	}
	if p.VPID == p.Space && own != born {
		return refuse("it is the first process of its pid namespace, and in a user namespace below the one that this belongs to")
	}
	first := s.firstOf(p)
	for _, n := range sorts {
		ids := map[uint32]uint32{**n.id(p): **n.id(first)}
		if n.file == "time" && p.Extra.ChildrenTimeNs != 0 {
			ids[p.Extra.ChildrenTimeNs] = 0
		}
		for id, firsts := range ids {
			owner := s.ownerOf(n.file, id)
			switch at := slices.Index(path, owner); {
			case at < 0:
				return refuse("its %s namespace belongs to a user namespace that it is not in (setns(2), as nsenter(1) does)", n.file)
			case at > slices.Index(path, born) && id != firsts:
				return refuse("its %s namespace belongs to a user namespace above that of its pid namespace, whose first process, pid %d, has another", n.file, first.VPID)
			}
		}
	}
	if own == image.NamespaceID {
		return nil
	}
	if err := s.checkAlone(p, own != born); err != nil {
		return err
	}
	return s.checkIDs(p)
}

// firstOf is the first process of the pid namespace of p; p itself in the
// container's.
func (s *session) firstOf(p *kind.Proc) *kind.Proc {
	for _, q := range s.d.Procs {
		if q.VPID == p.Space && !q.Zombie && q.VPID != pidns.Init {
			return q
		}
	}
	return p
}

// checkAlone: the kernel lets a process that shares its directories, memory or
// handlers into no other user namespace (setns(2), unshare(2)).
func (s *session) checkAlone(p *kind.Proc, enters bool) error {
	for _, q := range s.d.Procs {
		if q == p || q.Zombie || !enters && s.users.of[q] == s.users.of[p] || s.out == nil && (forking(p.Lead()) || forking(q.Lead())) {
			continue // while only checking a vfork(2) may be under way, which passes
		}
		if p.IDs.GetFsId() == q.IDs.GetFsId() || p.IDs.GetVmId() == q.IDs.GetVmId() || p.IDs.GetSighandId() == q.IDs.GetSighandId() {
			return s.fail(p, "", failure.WithHint(
				failure.Unsupportedf("it is in a user namespace made inside and shares its working directory, memory or signal handlers with pid %d; that is not carried yet", q.VPID),
				"start it without unshare(1), a container tool or a sandbox of its own"))
		}
	}
	return nil
}

// checkIDs refuses ids that a process could not be given again: those that have
// no number in its user namespace it must have before it comes there, and so
// those of who makes that, or of the first process in it.
func (s *session) checkIDs(p *kind.Proc) error {
	own := s.users.of[p]
	if own <= image.NamespaceID {
		return nil
	}
	n, maps := s.users.list[own-image.NamespaceID-1], s.users.maps[own]
	maker, first := n.GetOwner(), p.Lead().Status
	if m := s.users.maps[image.NamespaceID][0]; m != nil {
		maker, _ = m.Outside(maker)
	}
	if s.bornIn(p) == own {
		first = s.firstOf(p).Lead().Status
	}
	for _, t := range p.Threads {
		st := t.Status
		if st.Zombie() {
			continue
		}
		what := ""
		switch {
		case strangers(maps[0], st.Uid[:]) && st.Uid != [4]uint32{maker, maker, maker, maker}:
			what = fmt.Sprintf("user ids %d", st.Uid)
		case strangers(maps[1], st.Gid[:]) && st.Gid != first.Gid:
			what = fmt.Sprintf("group ids %d", st.Gid)
		case (n.GetNoSetgroups() || strangers(maps[1], st.Groups)) && !slices.Equal(st.Groups, first.Groups):
			what = fmt.Sprintf("groups %d", st.Groups)
		default:
			continue
		}
		return s.failThread(p, t, "", failure.WithHint(
			failure.Unsupportedf("its %s (numbers of the host) cannot be chosen in its user namespace, and are not those of who made it; that is not carried yet", what),
			"give that user namespace numbers for them (uid_map, gid_map)"))
	}
	return nil
}

// strangers tells whether one of the ids has no number.
func strangers(m procfs.IDMaps, ids []uint32) bool {
	return slices.ContainsFunc(ids, func(id uint32) bool {
		_, ok := m.Inside(id)
		return !ok
	})
}

// alone: see tree.Row. A process in a user namespace made inside cannot go back
// into what belongs to one around it.
func (s *session) alone(p *kind.Proc) bool {
	own := s.users.of[p]
	if own <= image.NamespaceID {
		return false
	}
	for _, q := range s.d.Procs {
		if q.Zombie || !slices.Contains(s.users.around(s.users.of[q]), own) {
			continue
		}
		for _, n := range sorts {
			its := **n.id(q)
			if its != **n.id(p) && !slices.Contains(s.users.around(s.ownerOf(n.file, its)), own) {
				return true
			}
		}
	}
	return false
}
