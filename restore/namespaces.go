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

// makeSpaces gives the bare children their own namespaces: the first in one
// makes it (unshare(2)), the others enter it. Then the kinds fill them.
func (s *session) makeSpaces() error {
	first := map[space]*kind.Target{}
	var order []space
	for _, t := range s.live() {
		for _, n := range sorts {
			at := space{n.name, n.id(t)}
			if at.id <= image.NamespaceID {
				continue
			}
			if first[at] == nil {
				first[at] = t
				order = append(order, at)
			}
			if err := s.enterSpace(t, at, n.flag); err != nil {
				return s.fail(t, "its "+n.name+" namespace", err)
			}
		}
		if id := t.Extra.GetChildrenTimeNs(); id != 0 {
			if err := s.makeTime(t, id); err != nil {
				return s.fail(t, "the time namespace of its children", err)
			}
		}
	}
	for _, at := range order {
		if at.sort != "mnt" {
			continue
		}
		n, err := newInner([]entered{{at.sort, unix.CLONE_NEWNS, int(s.spaces[at].Fd())}})
		if err != nil {
			return s.fail(first[at], "its mount namespace", err)
		}
		s.mounters[at.id] = n
	}
	for _, at := range order {
		if err := s.fillSpace(at, first[at]); err != nil {
			return s.fail(first[at], "its "+at.sort+" namespace", err)
		}
	}
	return nil
}

// enterSpace brings a process into a namespace, which is made if it is not
// there yet.
func (s *session) enterSpace(t *kind.Target, at space, flag uint64) error {
	if s.spaces[at] == nil && at.sort == "time" {
		if err := s.makeTime(t, at.id); err != nil {
			return err
		}
	} else if s.spaces[at] == nil {
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
	p, err := procfs.Open(int(t.Host))
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
	s.spaces[at], err = os.OpenFile(fmt.Sprintf("/proc/%d/ns/%s", t.Host, file), unix.O_RDONLY, 0)
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
