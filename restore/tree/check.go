package tree

import (
	"fmt"

	"ckpt/failure"
	"ckpt/pidns"
)

// checkIDs refuses rows (sorted) that no kernel can show, and sessions from outside.
func checkIDs(rows []Row, o Options) error {
	owner := map[pidns.VPID]pidns.VPID{}
	for i := range rows {
		r := &rows[i]
		if err := checkRow(r, o); err != nil {
			return err
		}
		if i > 0 && rows[i-1].VPID == r.VPID {
			return failure.Damagedf("pid %d is there twice", r.VPID)
		}
		for _, id := range append([]pidns.VPID{r.VPID}, r.Threads...) {
			if p, ok := owner[id]; ok && p != r.VPID {
				return failure.Damagedf("id %d belongs to pid %d and to pid %d", id, p, r.VPID)
			}
			owner[id] = r.VPID
		}
	}
	if _, ok := owner[pidns.Init]; o.NoInit && !ok {
		return failure.Damagedf("pid 1 is missing")
	}
	return checkGroups(rows, owner)
}

func checkRow(r *Row, o Options) error {
	if err := checkMax(r, o.PIDMax); err != nil {
		return err
	}
	for _, t := range r.Threads {
		if t < pidns.Init || t == pidns.Init && r.VPID != pidns.Init {
			return failure.Damagedf("pid %d cannot have a thread %d", r.VPID, t)
		}
	}
	switch {
	case r.VPID < pidns.Init || r.VPID == pidns.Init && !o.NoInit:
		return failure.Damagedf("pid %d cannot be a process of the tree", r.VPID)
	case r.VPID == pidns.Init && r.Zombie:
		return failure.Damagedf("pid 1 is a zombie")
	case r.VPID == pidns.Init && r.PPID != 0:
		return failure.Damagedf("pid 1 is a child of pid %d", r.PPID)
	case r.SID == 0:
		return failure.WithHint(failure.Unsupportedf("its session was started outside the container (%s has session 0)", r.who()),
			"start it in a session of its own: setsid CMD")
	case r.PGID == 0:
		return failure.WithHint(failure.Unsupportedf("its process group was made outside the container (%s has group 0)", r.who()),
			"start it in a session of its own: setsid CMD")
	case r.VPID == pidns.Init && r.SID != pidns.Init:
		return failure.Damagedf("pid 1 is in session %d, which it did not start", r.SID)
	case r.SID < 0 || r.PGID < 0:
		return failure.Damagedf("pid %d has group %d, session %d", r.VPID, r.PGID, r.SID)
	case r.SID == r.VPID && r.PGID != r.VPID:
		return failure.Damagedf("pid %d leads session %d, but is in group %d", r.VPID, r.SID, r.PGID)
	}
	return nil
}

// Highest is the greatest id of all rows.
func Highest(rows []Row) int {
	most := pidns.VPID(0)
	for i := range rows {
		for _, id := range rows[i].ids() {
			most = max(most, id.vpid)
		}
	}
	return int(most)
}

type namedID struct {
	what string
	vpid pidns.VPID
}

// ids are all that belong to a process, the dead leaders of its group and
// session among them: those are born too.
func (r *Row) ids() []namedID {
	ids := []namedID{{"", r.VPID}, {"group", r.PGID}, {"session", r.SID}}
	for _, t := range r.Threads {
		ids = append(ids, namedID{"thread", t})
	}
	return ids
}

func checkMax(r *Row, pidMax int) error {
	for _, id := range r.ids() {
		if pidMax == 0 || int(id.vpid) < pidMax {
			continue
		}
		what := r.who()
		if id.vpid != r.VPID {
			what = fmt.Sprintf("%s %d of %s", id.what, id.vpid, what)
		}
		return failure.WithHint(failure.Unsupportedf("%s is too high: ids end below kernel.pid_max, which is %d here", what, pidMax),
			"raise it: sysctl -w kernel.pid_max=4194304")
	}
	return nil
}

// checkGroups: a group lies in one session, and its leader, while that lives,
// is in this session too, since setsid(2) is refused while a group with the
// caller's number exists.
func checkGroups(rows []Row, owner map[pidns.VPID]pidns.VPID) error {
	session := map[pidns.VPID]pidns.VPID{} // of a group
	sid := map[pidns.VPID]pidns.VPID{}     // of a process
	isSID := map[pidns.VPID]bool{}
	for i := range rows {
		sid[rows[i].VPID] = rows[i].SID
		isSID[rows[i].SID] = true
	}
	if _, ok := owner[pidns.Init]; !ok { // ckpt's own init
		sid[pidns.Init], isSID[pidns.Init] = pidns.Init, true
	}
	for i := range rows {
		r := &rows[i]
		if s, ok := session[r.PGID]; ok && s != r.SID {
			return failure.Damagedf("group %d is in session %d and in session %d (pid %d)", r.PGID, s, r.SID, r.VPID)
		}
		session[r.PGID] = r.SID
		if isSID[r.PGID] && r.PGID != r.SID {
			return failure.Damagedf("pid %d of session %d is in group %d, which is that of another session", r.VPID, r.SID, r.PGID)
		}
		for _, id := range []pidns.VPID{r.PGID, r.SID} {
			if p, ok := owner[id]; ok && p != id {
				return failure.Damagedf("pid %d has group %d, session %d, but %d is a thread of pid %d", r.VPID, r.PGID, r.SID, id, p)
			}
		}
		if s, ok := sid[r.SID]; ok && s != r.SID {
			return failure.Damagedf("pid %d is in session %d, whose leader is in session %d", r.VPID, r.SID, s)
		}
		if s, ok := sid[r.PGID]; ok && s != r.SID {
			return failure.Damagedf("pid %d of session %d is in group %d, whose leader is in session %d", r.VPID, r.SID, r.PGID, s)
		}
	}
	return nil
}
