package restore

import (
	"errors"
	"fmt"
	"maps"
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
			return err
		}
		if id := t.Extra.GetChildrenTimeNs(); id != 0 {
			if err := s.makeTime(t, id); err != nil {
				return s.fail(t, "the time namespace of its children", err)
			}
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
		if err := s.fillSpace(at, s.first[at]); err != nil {
			return s.fail(s.first[at], "its "+at.sort+" namespace", err)
		}
	}
	return nil
}

// enterSpaces brings a process into its namespaces, out of those it was born
// in: the first in one makes it (unshare(2)), the others enter it. A process
// does so as long as it has one thread and shares nothing with its children:
// setns(2) is refused to others, and moves but the thread that calls it.
func (s *session) enterSpaces(t *kind.Target) error {
	for _, n := range sorts {
		at := space{n.name, max(n.id(t), image.NamespaceID)}
		if now := max(s.where[t.VPID][n.name], image.NamespaceID); now == at.id {
			continue
		}
		if err := s.enterSpace(t, at, n.flag); err != nil {
			return s.fail(t, "its "+n.name+" namespace", err)
		}
		if s.where[t.VPID] == nil {
			s.where[t.VPID] = map[string]uint32{}
		}
		s.where[t.VPID][n.name] = at.id
	}
	return nil
}

// inherit notes in which namespaces a child is born, and lets it leave those
// that are not its own while it is alone.
func (s *session) inherit(parent, child pidns.VPID) error {
	if len(s.where[parent]) == 0 {
		delete(s.where, child) // another helper had the number
		return nil
	}
	s.where[child] = maps.Clone(s.where[parent])
	if t := s.target(child); t != nil && !t.Zombie {
		return s.enterSpaces(t)
	}
	return nil
}

// enterSpace brings a process into a namespace, which is made if it is not
// there yet.
func (s *session) enterSpace(t *kind.Target, at space, flag uint64) error {
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
			if err := s.makeTime(t, at.id); err != nil {
				return err
			}
			break
		}
		if err := s.call(t.VPID, unix.SYS_UNSHARE, flag); err != nil {
			return fmt.Errorf("make it: %w", err)
		}
		return s.openSpace(t, at, at.sort)
	}
	fd := uint64(s.spaces[at].Fd())
	return s.asHere(t.VPID, func(sc *tracee.Script) error {
		take := sc.Must(unix.SYS_PIDFD_GETFD, container.SelfFD, fd, 0)
		enter := sc.Must(unix.SYS_SETNS, 0, flag)
		sc.Feed(take, enter, 0)
		sc.Note(enter, "enter it")
		// The lowest free descriptor is known: nothing else was opened.
		sc.Must(unix.SYS_CLOSE, container.StatusFD+1)
		return nil
	}, nil)
}

// openOwn opens one of the container's own namespaces.
func (s *session) openOwn(at space) (err error) {
	file := at.sort
	if file == "time" && !s.r.Manifest.GetNoInit() {
		file = "time_for_children" // ckpt's init itself stays in the host's
	}
	s.spaces[at], err = os.OpenFile(fmt.Sprintf("/proc/%d/ns/%s", s.root.HostPID, file), unix.O_RDONLY, 0)
	return err
}

// makeTime makes a time namespace for the children of a process, which is not
// in it itself (time_namespaces(7)).
func (s *session) makeTime(t *kind.Target, id uint32) error {
	if err := s.call(t.VPID, unix.SYS_UNSHARE, unix.CLONE_NEWTIME); err != nil {
		return fmt.Errorf("make it: %w", err)
	}
	mono, boot, err := s.kinds.Clocks(s.in, id)
	if err != nil {
		return err
	}
	p, err := procfs.Open(s.stubs[t.VPID].PID)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Write("timens_offsets", container.TimeOffsets(mono, boot)); err != nil {
		return fmt.Errorf("set its clocks: %w", err)
	}
	return s.openSpace(t, space{"time", id}, "time_for_children")
}

func (s *session) openSpace(t *kind.Target, at space, file string) (err error) {
	s.spaces[at], err = os.OpenFile(fmt.Sprintf("/proc/%d/ns/%s", s.stubs[t.VPID].PID, file), unix.O_RDONLY, 0)
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
	return s.on(n, fn)
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
