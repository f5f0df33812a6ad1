package container

import (
	"cmp"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/pidns"
	"ckpt/procfs"
)

// Member is a process of a container, found by the host id of one of its threads.
type Member struct {
	Container *Container
	Process
	Thread // the one asked for: the leader, where it was the process's own id
}

// Whose finds the container that the process or thread with this host id
// belongs to; nil: none of the store. No process or thread at all is ESRCH.
//
// A process of a pid namespace is below its vpid 1, so the way up from it
// leads there: also from a zombie, and from a container inside the container.
func (s *Store) Whose(id int) (*Member, error) {
	st, err := statusOf(id)
	if err != nil {
		return nil, err
	}
	inits, err := s.inits()
	if err != nil {
		return nil, err
	}
	above, err := procfs.Ancestors(st.Tgid)
	if err != nil {
		return nil, err
	}
	for i, pid := range above {
		if c := inits[pid]; c != nil {
			return c.member(st, above[:i+1])
		}
	}
	return nil, nil
}

// member reads the process of the thread st; path leads from it up to vpid 1.
func (c *Container) member(st *procfs.Status, path []int) (*Member, error) {
	parents, err := statuses(path[min(1, len(path)-1):])
	if err != nil {
		return nil, err
	}
	w := walker{full: true, depth: len(parents[len(parents)-1].NSpid) - 1}
	var parent pidns.VPID // of vpid 1: none
	if len(path) > 1 {
		parent = at(parents[0].NSpid, w.depth)
	}
	p, err := procfs.Open(st.Tgid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	leader, err := p.Status()
	if err != nil {
		return nil, err
	}
	q, err := w.process(p, st.Tgid, parent, leader)
	return &Member{c, q, Thread{at(st.NSpid, w.depth), pidns.HostPID(st.Pid)}}, err
}

func statuses(pids []int) (out []*procfs.Status, err error) {
	for _, pid := range pids {
		st, err := statusOf(pid)
		if err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, nil
}

// statusOf reads the status of a process or thread.
func statusOf(id int) (*procfs.Status, error) {
	p, err := procfs.Open(id)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return p.Status()
}

// inits are the containers that are alive, by the host pid of vpid 1.
func (s *Store) inits() (map[int]*Container, error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	out := map[int]*Container{}
	for _, c := range all {
		alive, err := c.alive()
		if err != nil {
			return nil, err
		}
		if alive {
			out[c.Init] = c
		}
	}
	return out, nil
}

// Below finds the containers that are below a process of the host: those whose
// supervisor it is or has in its tree.
func (s *Store) Below(pid int) ([]*Container, error) {
	inits, err := s.inits()
	if err != nil {
		return nil, err
	}
	var out []*Container
	for init, c := range inits {
		above, err := procfs.Ancestors(init)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if slices.Contains(above, pid) {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *Container) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}
