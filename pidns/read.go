package pidns

import (
	"errors"

	"golang.org/x/sys/unix"

	"ckpt/procfs"
)

// Walk lists a container's first process and all its descendants, parents
// first. Every process of a pid namespace is a descendant of its vpid 1:
// orphans are given to it, and ckpt exec too makes its processes there. What
// ends meanwhile is left out; a list is exact only while nothing runs.
func Walk(init HostPID) ([]HostPID, error) {
	pids := []HostPID{init}
	seen := map[HostPID]bool{init: true}
	for i := 0; i < len(pids); i++ {
		children, err := childrenOf(pids[i])
		if err != nil {
			if i > 0 && gone(err) {
				continue
			}
			return nil, err
		}
		for _, c := range children {
			// One that comes to a subreaper meanwhile is met twice.
			if h := HostPID(c); !seen[h] {
				seen[h] = true
				pids = append(pids, h)
			}
		}
	}
	return pids, nil
}

func childrenOf(h HostPID) ([]int, error) {
	p, err := procfs.Open(int(h))
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return p.Children()
}

func gone(err error) bool { return errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) }

// Read builds the table of a running container.
func Read(init HostPID) (*Table, error) {
	pids, err := Walk(init)
	if err != nil {
		return nil, err
	}
	t := New()
	for _, h := range pids {
		if err := t.read(h); err != nil && !(gone(err) && h != init) {
			return nil, err
		}
	}
	t.Hold()
	return t, nil
}

func (t *Table) read(h HostPID) error {
	p, err := procfs.Open(int(h))
	if err != nil {
		return err
	}
	defer p.Close()
	st, err := p.Status()
	if err != nil {
		return err
	}
	tids, err := p.Tasks()
	if err != nil {
		return err
	}
	ppid, _ := t.Virtual(HostPID(st.PPid)) // parents come first; outside: 0
	row := Row{TGID: innermost(st.NSpid), PPID: ppid, PGID: innermost(st.NSpgid), SID: innermost(st.NSsid)}
	for _, tid := range tids {
		r := row
		r.ID, r.Host = row.TGID, h
		if tid != int(h) {
			if r.ID, err = threadID(p, tid); err != nil {
				if gone(err) {
					continue
				}
				return err
			}
			r.Host = HostPID(tid)
		}
		r.Zombie = st.Zombie() && len(tids) == 1
		if err := t.Add(r); err != nil {
			return err
		}
	}
	return nil
}

func threadID(p *procfs.Proc, tid int) (VPID, error) {
	th, err := p.Thread(tid)
	if err != nil {
		return 0, err
	}
	defer th.Close()
	st, err := th.Status()
	if err != nil {
		return 0, err
	}
	return innermost(st.NSpid), nil
}

// innermost is a task's id in its own pid namespace; 0: it is outside that.
func innermost(ns []int) VPID {
	if len(ns) == 0 {
		return 0
	}
	return VPID(ns[len(ns)-1])
}
