package pidns

import (
	"errors"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/procfs"
)

// Member is what tells in which pid namespace a process lives.
type Member struct {
	IDs    Chain
	Parent int // index of its parent among the members; -1: outside
	// Link is that of /proc/PID/ns/pid; "" where it cannot be read, as that of
	// a zombie that was not dumpable.
	Link string
}

// Spaces are the pid namespaces of a container by the id of the first process
// of each: Init is the container's own. A namespace that has any process has
// its first: all others die with that one (pid_namespaces(7)).
type Spaces struct {
	// Of each member of FindSpaces.
	Of     []VPID
	around map[VPID]VPID
}

// FindSpaces finds the pid namespace of each member; parents come first.
func FindSpaces(members []Member) (*Spaces, error) {
	inits := map[string]VPID{}
	for _, m := range members {
		if len(m.IDs) > 1 && m.IDs.Own() == Init && m.Link != "" {
			inits[m.Link] = m.IDs.Outer()
		}
	}
	s := &Spaces{around: map[VPID]VPID{}}
	for i, m := range members {
		outer := Init // that of its parent
		if m.Parent >= 0 && m.Parent < i {
			outer = s.Of[m.Parent]
		}
		space := Init
		switch {
		case len(m.IDs) <= 1:
		case m.IDs.Own() == Init:
			space = m.IDs.Outer()
			s.around[space] = outer
		case inits[m.Link] != 0:
			space = inits[m.Link]
		case m.Link == "" && s.Level(outer) == len(m.IDs)-1:
			space = outer
		default:
			return nil, failure.WithHint(failure.Unsupportedf("pid %d lives in a pid namespace whose first process is out of sight", m.IDs.Outer()),
				"let the program that started it end")
		}
		s.Of = append(s.Of, space)
	}
	return s, nil
}

// Level is how many namespaces there are from the container's own down to space.
func (s *Spaces) Level(space VPID) int {
	n := 0
	for ; space != Init && space != 0; space = s.around[space] {
		n++
	}
	return n
}

// At is the namespace around space, or space itself, at a level.
func (s *Spaces) At(space VPID, level int) VPID {
	for s.Level(space) > level {
		space = s.around[space]
	}
	return space
}

// SpaceLink is the Link of a Member: it is asked for only where the namespace
// is not the container's own.
func SpaceLink(ids Chain, p *procfs.Proc) (string, error) {
	if len(ids) <= 1 {
		return "", nil
	}
	l, err := p.Link("ns/pid")
	if errors.Is(err, unix.EACCES) {
		return "", nil
	}
	return l, err
}
