package restore

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// space is a namespace made inside the container: its sort, as /proc/PID/ns
// calls it, and its id in the image.
type space struct {
	sort string
	id   uint32
}

// sorts in the order they are entered. That of mounts comes last: it puts the
// process at its root directory.
var sorts = []struct {
	name string
	flag uint64
	id   func(*kind.Target) uint32
}{
	{"time", unix.CLONE_NEWTIME, func(t *kind.Target) uint32 { return t.IDs.GetTimeNsId() }},
	{"ipc", unix.CLONE_NEWIPC, func(t *kind.Target) uint32 { return t.IDs.GetIpcNsId() }},
	{"uts", unix.CLONE_NEWUTS, func(t *kind.Target) uint32 { return t.IDs.GetUtsNsId() }},
	{"mnt", unix.CLONE_NEWNS, func(t *kind.Target) uint32 { return t.IDs.GetMntNsId() }},
}

// makeSpaces gives the bare children their own namespaces. Then the kinds fill
// them.
func (s *session) makeSpaces() error {
	for _, t := range s.live() {
		if err := s.enterSpaces(t); err != nil {
			return s.fail(t, "", err)
		}
		if err := s.childrensTime(t); err != nil {
			return s.fail(t, "", err)
		}
	}
	for _, at := range s.made {
		if at.sort != "mnt" {
			continue
		}
		n, err := newInner([]entered{{at.sort, unix.CLONE_NEWNS, int(s.spaces[at].Fd())}})
		if err != nil {
			return s.fail(s.first[at], "its mount namespace", err)
		}
		s.mounters[at.id] = n
	}
	for _, at := range s.made {
		first := s.firstIn(at)
		if err := s.fillSpace(at, first); err != nil {
			return s.fail(first, "its "+at.sort+" namespace", err)
		}
	}
	return nil
}

// firstIn is the first process in a namespace that has rights over it.
func (s *session) firstIn(at space) *kind.Target {
	for _, t := range s.live() {
		for _, n := range sorts {
			if n.name == at.sort && n.id(t) == at.id && max(t.IDs.GetUserNsId(), image.NamespaceID) == s.owners.of(at) {
				return t
			}
		}
	}
	return s.first[at]
}

// enterSpaces brings a bare child into all its namespaces.
func (s *session) enterSpaces(t *kind.Target) error {
	if err := s.descend(t.VPID, t, max(t.IDs.GetUserNsId(), image.NamespaceID)); err != nil {
		return err
	}
	if err := s.enterOwned(t.VPID, t); err != nil {
		return err
	}
	for _, n := range sorts {
		if at := max(n.id(t), image.NamespaceID); s.places[t.VPID].in(n.name) != at {
			return failure.Damagedf("its %s namespace belongs to a user namespace that it is not in", n.name)
		}
	}
	return s.arrive(t)
}

// enterOwned brings a bare child, on behalf of t, into those of t's namespaces
// that belong to the user namespace it is in, out of those it was born in: the
// first in one makes it (unshare(2)), the others enter it. A process does so as
// long as it has one thread and shares nothing with its children: setns(2) is
// refused to others, and moves but the thread that calls it.
func (s *session) enterOwned(v pidns.VPID, t *kind.Target) error {
	user := max(s.places[v].user, image.NamespaceID)
	for _, n := range sorts {
		at := space{n.name, max(n.id(t), image.NamespaceID)}
		if s.places[v].in(n.name) == at.id || s.owners.of(at) != user {
			continue
		}
		if err := s.enterSpace(v, t, at, n.flag); err != nil {
			return fmt.Errorf("its %s namespace: %w", n.name, err)
		}
		s.places[v].spaces[n.name] = at.id
	}
	return nil
}

// inherit notes in which namespaces a child is born, and lets it leave those
// that are not its own while it is alone. Those that belong to a user namespace
// around its own it has in common with all that are born in this.
func (s *session) inherit(place place, child pidns.VPID) error {
	s.places[child] = place
	t := s.target(child)
	if t == nil || t.Zombie {
		return nil
	}
	for sort, id := range place.spaces {
		if s.owners.of(space{sort, id}) == max(place.user, image.NamespaceID) {
			return s.enterOwned(child, t)
		}
	}
	return nil
}

// enterSpace brings a bare child into a namespace, which is made if it is not
// there yet.
func (s *session) enterSpace(v pidns.VPID, t *kind.Target, at space, flag uint64) error {
	switch {
	case s.spaces[at] != nil:
	case at.id == image.NamespaceID:
		if err := s.openOwn(at); err != nil {
			return err
		}
	default:
		s.first[at] = t
		s.made = append(s.made, at)
		if at.sort == "time" {
			if err := s.makeTime(v, at.id); err != nil {
				return err
			}
			break
		}
		if err := s.call(v, unix.SYS_UNSHARE, flag); err != nil {
			return fmt.Errorf("make it: %w", err)
		}
		return s.openSpace(v, at, at.sort)
	}
	return s.setns(v, at, flag)
}

// openOwn opens one of the container's own namespaces.
func (s *session) openOwn(at space) error {
	file := at.sort
	if file == "time" && !s.r.Manifest.GetNoInit() {
		file = "time_for_children" // ckpt's init itself stays in the host's
	}
	return s.openSpace(pidns.Init, at, file)
}

// childrensTime makes a time namespace for the children of t, if it is to belong
// to the user namespace that t is in just now.
func (s *session) childrensTime(t *kind.Target) error {
	id := t.Extra.GetChildrenTimeNs()
	if id == 0 || s.owners.of(space{"time", id}) != max(s.places[t.VPID].user, image.NamespaceID) {
		return nil
	}
	if err := s.makeTime(t.VPID, id); err != nil {
		return fmt.Errorf("the time namespace of its children: %w", err)
	}
	return nil
}

// makeTime makes a time namespace for the children of a process, which is not
// in it itself (time_namespaces(7)).
func (s *session) makeTime(v pidns.VPID, id uint32) error {
	if err := s.call(v, unix.SYS_UNSHARE, unix.CLONE_NEWTIME); err != nil {
		return fmt.Errorf("make it: %w", err)
	}
	mono, boot, err := s.kinds.Clocks(s.in, id)
	if err != nil {
		return err
	}
	p, err := procfs.Open(s.stubs[v].PID)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Write("timens_offsets", container.TimeOffsets(mono, boot)); err != nil {
		return fmt.Errorf("set its clocks: %w", err)
	}
	return s.openSpace(v, space{"time", id}, "time_for_children")
}

func (s *session) openSpace(v pidns.VPID, at space, file string) error {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/ns/%s", s.stubs[v].PID, file), unix.O_RDONLY, 0)
	if err == nil {
		s.spaces[at] = f
	}
	return err
}

// fillSpace lets the kinds of a sort fill a namespace on a thread that is in
// it; first is the first process in it.
func (s *session) fillSpace(at space, first *kind.Target) error {
	for _, k := range s.kinds.Namespaces {
		if k.Sort != at.sort || k.Restore == nil {
			continue
		}
		r := *s.r
		r.Namespace = at.id
		r.Inside = func(build, read func(*tracee.Script) error) error { return s.as(first.VPID, build, read) }
		err := s.within(func() error { return s.onSpace(at, func() error { return k.Restore(&r) }) })
		if err != nil {
			return fmt.Errorf("%s: %w", k.Name, err)
		}
	}
	return nil
}

// onSpace runs fn on a thread in the namespace. That of the clocks is none to
// enter: what there is to be set is set before anybody comes in.
func (s *session) onSpace(at space, fn func() error) error {
	switch at.sort {
	case "mnt":
		return s.on(s.mounters[at.id], fn)
	case "time":
		return fn()
	}
	n, err := newInner([]entered{{at.sort, anySort, int(s.spaces[at].Fd())}})
	if err != nil {
		return err
	}
	defer n.end()
	return s.on(n, func() error {
		// Files of /proc/sys are written by their owner alone, the first user
		// of the user namespace (ipc_set_ownership() in ipc/ipc_sysctl.c).
		owner := s.owners.of(at)
		if root, ok := image.UserBehind(s.owners.users, owner, 0); owner > image.NamespaceID && ok && int(root) != os.Geteuid() {
			if err := becomeUser(root); err != nil {
				return err
			}
		}
		return fn()
	})
}

// becomeUser changes the effective user id of this thread alone, which keeps its
// capabilities.
func becomeUser(uid uint32) error {
	const same = ^uintptr(0)
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	err := unix.Capget(&hdr, &caps[0])
	if err == nil {
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same); e != 0 {
			err = e
		}
	}
	if err == nil {
		err = unix.Capset(&hdr, &caps[0])
	}
	if err != nil {
		return fmt.Errorf("be user %d: %w", uid, err)
	}
	return nil
}

// fillBorn fills what only those who are born can.
func (s *session) fillBorn() error {
	for _, k := range s.kinds.Namespaces {
		if k.Born == nil {
			continue
		}
		if err := s.within(func() error { return k.Born(s.r) }); err != nil {
			return &failure.Error{Doing: "restore", What: k.Name, Err: err}
		}
	}
	return nil
}

// anySort lets setns(2) take what the descriptor says.
const anySort = 0

// leaveSpaces gives up what holds namespaces made inside.
func (s *session) leaveSpaces() {
	for _, n := range s.mounters {
		n.end()
	}
	for _, f := range s.spaces {
		_ = f.Close()
	}
}

// checkSpaces: an image may say anything.
func checkSpaces(targets []*kind.Target) error {
	var errs []error
	makers := map[uint32]pidns.VPID{}
	for _, t := range targets {
		id := t.Extra.GetChildrenTimeNs()
		if other := makers[id]; id != 0 && other != 0 {
			errs = append(errs, failure.Damagedf("pid %d and pid %d have both made the time namespace %d", other, t.VPID, id))
		}
		makers[id] = t.VPID
	}
	return errors.Join(errs...)
}
