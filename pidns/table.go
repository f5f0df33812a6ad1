package pidns

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"ckpt/failure"
	"ckpt/image"
)

// Row is one id of a container: a process (ID == TGID), one of its threads,
// or, with TGID 0, an id that no task has any more but a group or session
// still holds.
type Row struct {
	ID   VPID
	Host HostPID // 0: no living task
	TGID VPID
	PPID VPID // 0: the parent is outside
	PGID VPID // 0: the group is from outside
	SID  VPID // 0: the session is from outside
	// Zombie: it has exited and nobody has waited for it.
	Zombie bool
	// Nested are its ids in the pid namespaces below the container's, outer
	// ones first (Chain.Nested).
	Nested []VPID
	// Space is the pid namespace it lives in, by the id of that one's first
	// process: Init for the container's own.
	Space VPID
}

// Held tells whether the id is one that only a group or session holds.
func (r Row) Held() bool { return r.TGID == 0 }

// Table is the remap table: both ways between virtual and host ids.
type Table struct {
	byID   map[VPID]Row
	byHost map[HostPID]VPID
}

// New is an empty table.
func New() *Table { return &Table{byID: map[VPID]Row{}, byHost: map[HostPID]VPID{}} }

// Add enters a task. An id is given once.
func (t *Table) Add(r Row) error {
	if old, ok := t.byID[r.ID]; ok {
		return fmt.Errorf("id %d is given twice: to host pid %d and to %d", r.ID, old.Host, r.Host)
	}
	t.byID[r.ID] = r
	if r.Host != 0 {
		t.byHost[r.Host] = r.ID
	}
	return nil
}

// Hold enters the id of a group or session, if its leader is gone: as long as
// a member lives, the kernel gives it to nobody (pid_namespaces(7)). The member
// lives in the namespace of; each is to tell, for one that lives elsewhere sees
// less of the ids. A group or session made outside has none: it is not held.
func (t *Table) Hold(id Chain, spaces *Spaces, of VPID) {
	if len(id) == 0 {
		return
	}
	v := id.Outer()
	if r, ok := t.byID[v]; ok && (!r.Held() || len(r.Nested) >= len(id)-1) {
		return
	}
	t.byID[v] = Row{ID: v, Nested: id.Nested(), Space: spaces.At(of, len(id)-1)}
}

// Host translates a virtual id; false for one that no living task has.
func (t *Table) Host(v VPID) (HostPID, bool) {
	r, ok := t.byID[v]
	return r.Host, ok && r.Host != 0
}

// Virtual translates a host id; false for one that is not the container's.
func (t *Table) Virtual(h HostPID) (VPID, bool) {
	v, ok := t.byHost[h]
	return v, ok
}

// Rows are all ids, ascending.
func (t *Table) Rows() []Row {
	return slices.SortedFunc(maps.Values(t.byID), func(a, b Row) int { return cmp.Compare(a.ID, b.ID) })
}

// Identities are the rows as an image holds them: the virtual side only.
// Without withInit ckpt's own init is left out, which is not part of an image.
func (t *Table) Identities(withInit bool) []*image.Identity {
	var out []*image.Identity
	for _, r := range t.Rows() {
		if r.ID == Init && !withInit {
			continue
		}
		w := &image.Identity{Id: uint32(r.ID), Tgid: uint32(r.TGID), Ppid: uint32(r.PPID),
			Pgid: uint32(r.PGID), Sid: uint32(r.SID), Zombie: r.Zombie}
		for _, id := range r.Nested {
			w.Nested = append(w.Nested, uint32(id))
		}
		if r.Space != Init {
			w.Namespace = uint32(r.Space)
		}
		out = append(out, w)
	}
	return out
}

// Verify proves that the container has the ids an image says, each with the
// same process, parent, group and session, and no other one. It names the
// first that differs.
func (t *Table) Verify(want []*image.Identity) error {
	expected := map[VPID]*image.Identity{}
	for _, w := range want {
		if expected[VPID(w.GetId())] != nil {
			return failure.Damagedf("id %d stands twice in the table of ids", w.GetId())
		}
		expected[VPID(w.GetId())] = w
	}
	for _, id := range slices.Sorted(maps.Keys(expected)) {
		r, ok := t.byID[id]
		if !ok {
			return fmt.Errorf("id %d is missing", id)
		}
		if err := r.differs(expected[id]); err != nil {
			return err
		}
	}
	for _, r := range t.Rows() {
		if expected[r.ID] == nil && r.ID != Init {
			return fmt.Errorf("id %d (host pid %d) is there and not in the image", r.ID, r.Host)
		}
	}
	return nil
}

func (r Row) differs(w *image.Identity) error {
	for _, f := range []struct {
		name      string
		got, want VPID
	}{
		{"process", r.TGID, VPID(w.GetTgid())}, {"parent", r.PPID, VPID(w.GetPpid())},
		{"group", r.PGID, VPID(w.GetPgid())}, {"session", r.SID, VPID(w.GetSid())},
	} {
		if f.got != f.want {
			return fmt.Errorf("the %s of id %d is %d, the image says %d", f.name, r.ID, f.got, f.want)
		}
	}
	if r.Zombie != w.GetZombie() {
		return fmt.Errorf("id %d: zombie is %t, the image says %t", r.ID, r.Zombie, w.GetZombie())
	}
	if want := ids(w.GetNested()); !slices.Equal(r.Nested, want) {
		return fmt.Errorf("id %d is %v in the pid namespaces below, the image says %v", r.ID, r.Nested, want)
	}
	space := VPID(w.GetNamespace())
	if space == 0 {
		space = Init
	}
	if r.Space != space {
		return fmt.Errorf("id %d lives in the pid namespace of %d, the image says in that of %d", r.ID, r.Space, space)
	}
	return nil
}

func ids(us []uint32) (out []VPID) {
	for _, u := range us {
		out = append(out, VPID(u))
	}
	return out
}

// ChainIn is the chain of an id of an image.
func ChainIn(w *image.Identity) Chain { return append(Chain{VPID(w.GetId())}, ids(w.GetNested())...) }
