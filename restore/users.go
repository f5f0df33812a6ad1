package restore

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// place is where a bare child is just now.
type place struct {
	user   uint32            // its user namespace; 0: the container's
	spaces map[string]uint32 // those of its other namespaces that are not the container's, by sort
	path   []pidns.VPID      // the pid namespaces from below the container's down to its own
	open   uint64            // descriptors that it has beside those of the container's init
}

// far tells whether it is in a user namespace made inside: it has no rights
// over ckpt and over what belongs to the container.
func (p place) far() bool { return p.user > image.NamespaceID }

// in is the id of its namespace of a sort.
func (p place) in(sort string) uint32 { return max(p.spaces[sort], image.NamespaceID) }

// born is the place of a child, in a pid namespace of its own if space is not 0.
func (p place) born(space pidns.VPID) place {
	spaces := map[string]uint32{}
	maps.Copy(spaces, p.spaces)
	p.spaces, p.path = spaces, slices.Clone(p.path)
	if space != 0 {
		p.path = append(p.path, space)
	}
	return p
}

// owners is what the image says of user namespaces made inside.
type owners struct {
	users []*image.UserNamespace
	owns  map[space]uint32
}

func newOwners(m *image.Manifest) (owners, error) {
	o := owners{m.GetUserNamespaces(), map[space]uint32{}}
	for i, n := range o.users {
		if n.GetId() != image.NamespaceID+1+uint32(i) || n.GetAround() < image.NamespaceID || n.GetAround() >= n.GetId() {
			return o, failure.Damagedf("user namespace %d lies in %d, or out of order", n.GetId(), n.GetAround())
		}
		for _, at := range n.GetOwns() {
			o.owns[space{at.GetSort(), at.GetId()}] = n.GetId()
		}
	}
	return o, nil
}

// of is the user namespace that a namespace belongs to.
func (o owners) of(at space) uint32 {
	if id := o.owns[at]; id != 0 {
		return id
	}
	return image.NamespaceID
}

// way are the user namespaces from below from, down to to. ok is false where to
// does not lie in from.
func (o owners) way(from, to uint32) (way []uint32, ok bool) {
	for id := to; id > image.NamespaceID; id = o.users[id-image.NamespaceID-1].GetAround() {
		if id == from {
			break
		}
		if id-image.NamespaceID > uint32(len(o.users)) {
			return nil, false
		}
		way = append(way, id)
	}
	slices.Reverse(way)
	return way, from <= image.NamespaceID || to == from || len(way) > 0 && o.users[way[0]-image.NamespaceID-1].GetAround() == from
}

// alone: see tree.Row. A process in a user namespace made inside cannot go back
// into what belongs to one around it.
func (s *session) alone(t *kind.Target) bool {
	own := t.IDs.GetUserNsId()
	if own <= image.NamespaceID {
		return false
	}
	for _, o := range s.live() {
		if _, below := s.owners.way(own, o.IDs.GetUserNsId()); !below {
			continue
		}
		for _, n := range sorts {
			at := space{n.name, max(n.id(o), image.NamespaceID)}
			if _, below := s.owners.way(own, s.owners.of(at)); at.id != max(n.id(t), image.NamespaceID) && !below {
				return true
			}
		}
	}
	return false
}

// descend brings a bare child, on behalf of t, into a user namespace, and on
// the way into those of t's other namespaces that belong to the ones that it
// leaves. Whoever comes first makes what is not there yet.
func (s *session) descend(v pidns.VPID, t *kind.Target, to uint32) error {
	way, ok := s.owners.way(max(s.places[v].user, image.NamespaceID), to)
	if !ok {
		return failure.Damagedf("pid %d cannot come from user namespace %d into %d", v, s.places[v].user, to)
	}
	for _, id := range way {
		if err := s.enterOwned(v, t); err != nil {
			return err
		}
		if v == t.VPID {
			if err := s.childrensTime(t); err != nil {
				return err
			}
		}
		if err := s.enterUser(v, t, id); err != nil {
			return fmt.Errorf("user namespace: %w", err)
		}
	}
	return nil
}

// enterUser brings a bare child into a user namespace just below its own.
func (s *session) enterUser(v pidns.VPID, t *kind.Target, id uint32) error {
	at, n := space{"user", id}, s.owners.users[id-image.NamespaceID-1]
	if !s.places[v].far() {
		if err := s.leave(v, t); err != nil {
			return err
		}
	}
	if s.spaces[at] != nil {
		if err := s.setns(v, at, unix.CLONE_NEWUSER); err != nil {
			return err
		}
	} else if err := s.makeUser(v, at, n); err != nil {
		return err
	}
	here := s.places[v]
	here.user = id
	s.places[v] = here
	return nil
}

// leave lets the kinds do what takes rights over the container.
func (s *session) leave(v pidns.VPID, t *kind.Target) error {
	return s.bare(v, t, func(k *kind.Process) passage { return k.Leave })
}

// arrive lets the kinds do what is to be done first in a user namespace made
// inside.
func (s *session) arrive(t *kind.Target) error {
	if !s.places[t.VPID].far() {
		return nil
	}
	s.found(t)
	return s.bare(t.VPID, t, func(k *kind.Process) passage { return k.Arrive })
}

// passage is kind.Process.Leave or Arrive.
type passage = func(*kind.Restore, *kind.Target, *tracee.Script) error

// bare runs what the kinds have to do on behalf of t in a bare child.
func (s *session) bare(v pidns.VPID, t *kind.Target, what func(*kind.Process) passage) error {
	sc := tracee.NewScript(s.root.Site.Base)
	if err := s.within(func() error {
		for i := range s.kinds.Processes {
			k := &s.kinds.Processes[i]
			add := what(k)
			if add == nil {
				continue
			}
			if err := add(s.r, t, sc); err != nil {
				return fmt.Errorf("%s: %w", k.Name, err)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return s.runBare(v, sc)
}

// makeUser makes a user namespace as the user who made the one that was saved.
func (s *session) makeUser(v pidns.VPID, at space, n *image.UserNamespace) error {
	const same = uint64(^uint32(0))
	around := s.spaces[space{"user", n.GetAround()}]
	sc := tracee.NewScript(s.root.Site.Base)
	if int(n.GetOwner()) != os.Geteuid() {
		owner, ok := image.UserNumber(s.owners.users, n.GetAround(), false, n.GetOwner())
		if !ok {
			return failure.Damagedf("user %d has made a user namespace in number %d, where he has no number", n.GetOwner(), n.GetAround())
		}
		sc.Note(sc.Must(unix.SYS_SETRESUID, same, uint64(owner), same), "be the user who made it")
	}
	sc.Note(sc.Must(unix.SYS_UNSHARE, unix.CLONE_NEWUSER), "make it")
	if err := s.runBare(v, sc); err != nil {
		return err
	}
	if err := s.openSpace(v, at, "user"); err != nil {
		return err
	}
	return s.writeMaps(around, s.stubs[v].PID, n)
}

// writeMaps writes uid_map, gid_map and setgroups of a process's user
// namespace. That takes who is in the one around it (proc_uid_map_write() in
// kernel/user_namespace.c): ckpt itself, or a bare child that enters it.
func (s *session) writeMaps(around *os.File, host int, n *image.UserNamespace) error {
	type file struct{ name, text string }
	var files []file
	if n.GetNoSetgroups() {
		files = append(files, file{"setgroups", "deny"})
	}
	for _, m := range []struct {
		name    string
		extents []*image.IDExtent
	}{{"uid_map", n.GetUids()}, {"gid_map", n.GetGids()}} {
		var text strings.Builder
		for _, e := range m.extents {
			fmt.Fprintf(&text, "%d %d %d\n", e.GetInside(), e.GetOutside(), e.GetCount())
		}
		if text.Len() > 0 {
			files = append(files, file{m.name, text.String()})
		}
	}
	if len(files) == 0 {
		return nil
	}
	var give []*os.File
	if around != nil {
		give = append(give, around)
	}
	stub, site, err := tracee.StartStub(tracee.StubOptions{Files: give})
	if err != nil {
		return err
	}
	const at = 3 // what it is given
	sc := tracee.NewScript(site.Base)
	if around != nil {
		sc.Note(sc.Must(unix.SYS_SETNS, at, unix.CLONE_NEWUSER), "enter the user namespace around it")
		sc.Must(unix.SYS_CLOSE, at)
	}
	for _, f := range files {
		sc.Note(sc.Must(unix.SYS_OPENAT, tracee.AtCwd, sc.Str(fmt.Sprintf("/proc/%d/%s", host, f.name)), unix.O_WRONLY|unix.O_CLOEXEC), "open "+f.name)
		sc.Note(sc.Must(unix.SYS_WRITE, at, sc.Str(f.text), uint64(len(f.text))), "write "+f.name)
		sc.Must(unix.SYS_CLOSE, at)
	}
	return errors.Join(stub.Run(site, sc), stub.Kill())
}

// setns brings a bare child into a namespace that is there.
func (s *session) setns(v pidns.VPID, at space, flag uint64) error {
	sc := tracee.NewScript(s.root.Site.Base)
	s.takeIn(v, sc, s.spaces[at])
	n := s.free(v)
	sc.Note(sc.Must(unix.SYS_SETNS, n, flag), "enter it")
	sc.Must(unix.SYS_CLOSE, n)
	return s.runBare(v, sc)
}

// runBare runs a script in a bare child.
func (s *session) runBare(v pidns.VPID, sc *tracee.Script) error {
	s.deliver(sc)
	return s.stubs[v].Run(s.root.Site, sc)
}

// giveNumbers lets the next birth take those of its ids that its forker has no
// right to choose: clone3(2) with set_tid takes CAP_CHECKPOINT_RESTORE or
// CAP_SYS_ADMIN in the user namespace that each pid namespace belongs to. It
// gives those that the forker has: the innermost ones.
//
// Nothing else is born meanwhile: every process in these pid namespaces is
// stopped, or one of ckpt's.
func (s *session) giveNumbers(by pidns.VPID, path []pidns.VPID, ids pidns.Chain) ([]int32, error) {
	own := max(s.places[by].user, image.NamespaceID)
	rights := len(ids)
	for rights > 0 {
		in := pidns.Init
		if rights > 1 {
			in = path[rights-2]
		}
		if _, ok := s.owners.way(own, s.owners.of(space{"pid", uint32(in)})); !ok {
			break
		}
		rights--
	}
	for level, id := range ids[:rights] {
		in := pidns.Init
		if level > 0 {
			in = path[level-1]
		}
		if err := s.setLastPID(in, int(id)-1); err != nil {
			return nil, fmt.Errorf("have it born as %d in the pid namespace of pid %d: %w", id, in, err)
		}
	}
	return setTID(ids[rights:]), nil
}
