package tree

import (
	"fmt"
	"slices"
	"sort"

	"golang.org/x/sys/unix"

	"ckpt/pidns"
)

// model is a pid namespace: the rules of fork(2), setsid(2), setpgid(2),
// exit, wait(2), PR_SET_CHILD_SUBREAPER and of pid numbers
// (kernel/{fork,sys,exit,pid}.c), and nothing else.
type model struct {
	procs   map[pidns.VPID]*task
	nested  map[pidns.VPID][]pidns.VPID // what each id ever given is below the container's namespace,
	below   map[pidns.VPID][]pidns.VPID // and in which namespaces
	owner   map[pidns.VPID]uint32       // the user namespace that a pid namespace belongs to
	objects uint64
	pidMax  pidns.VPID
}

type task struct {
	pid, pgid, sid pidns.VPID
	parent         pidns.VPID
	space          pidns.VPID // first process of its pid namespace
	user           uint32     // its user namespace
	dead           bool
	status         unix.WaitStatus
	leader         bool // signal->leader
	subreaper      bool
	exitSignal     unix.Signal
	told           []unix.Signal     // by children that ended, but for SIGCHLD
	obj            map[uint64]uint64 // clone flag -> object
}

var shareFlags = []uint64{unix.CLONE_VM, unix.CLONE_SIGHAND, unix.CLONE_FILES, unix.CLONE_FS}

// newModel starts a namespace whose init leads session and group 1.
func newModel() *model {
	m := &model{procs: map[pidns.VPID]*task{}, nested: map[pidns.VPID][]pidns.VPID{}, below: map[pidns.VPID][]pidns.VPID{}, owner: map[pidns.VPID]uint32{}, pidMax: defaultPIDMax}
	t := &task{pid: 1, pgid: 1, sid: 1, space: 1, leader: true, exitSignal: unix.SIGCHLD, obj: map[uint64]uint64{}}
	for _, f := range shareFlags {
		t.obj[f] = m.object()
	}
	m.procs[1] = t
	return m
}

func (m *model) object() uint64 { m.objects++; return m.objects }

func (m *model) alive(p pidns.VPID) (*task, error) {
	t := m.procs[p]
	if t == nil || t.dead {
		return nil, fmt.Errorf("pid %d: not alive", p)
	}
	return t, nil
}

// inUse: a number stays taken while any task is attached to it as pid, group
// or session (free_pid after the last detach).
func (m *model) inUse(id pidns.VPID) bool {
	if m.procs[id] != nil {
		return true
	}
	for _, t := range m.procs {
		if t.pgid == id || t.sid == id {
			return true
		}
	}
	return false
}

// spaces are the pid namespaces from the container's down to space.
func (m *model) spaces(space pidns.VPID) []pidns.VPID {
	if space == pidns.Init {
		return []pidns.VPID{space}
	}
	return append(m.spaces(m.procs[m.procs[space].parent].space), space)
}

// sees is what t knows of an id of the container: cut where t's namespaces, or
// those of the id, end.
func (m *model) sees(t *task, id pidns.VPID) []pidns.VPID {
	n := 0
	for i, space := range m.spaces(t.space)[1:] {
		if i < len(m.below[id]) && m.below[id][i] == space {
			n++
		}
	}
	return m.nested[id][:n]
}

// given tells whether an id of a pid namespace is in use there.
func (m *model) given(space pidns.VPID, id pidns.VPID) bool {
	level := len(m.spaces(space)) - 2
	for _, t := range m.procs {
		if !slices.Contains(m.spaces(t.space), space) {
			continue
		}
		for _, has := range []pidns.VPID{t.pid, t.pgid, t.sid} {
			if sees := m.sees(t, has); len(sees) > level && sees[level] == id {
				return true
			}
		}
	}
	return false
}

func (m *model) fork(parent, child pidns.VPID, nested []pidns.VPID, flags uint64, sig unix.Signal) error {
	p, err := m.alive(parent)
	switch {
	case err != nil:
		return err
	case child <= 1 || child >= m.pidMax:
		return fmt.Errorf("EINVAL: set_tid %d", child)
	case m.inUse(child):
		return fmt.Errorf("EEXIST: set_tid %d", child)
	case flags&unix.CLONE_SIGHAND != 0 && flags&unix.CLONE_VM == 0:
		return fmt.Errorf("EINVAL: CLONE_SIGHAND without CLONE_VM")
	case flags&unix.CLONE_PARENT != 0 && (sig != 0 || p.space == parent):
		return fmt.Errorf("EINVAL: CLONE_PARENT of pid %d, signal %d", parent, sig)
	}
	below := m.spaces(p.space)[1:]
	if flags&unix.CLONE_NEWPID != 0 {
		below = append(below, child)
	}
	if len(nested) != len(below) {
		return fmt.Errorf("set_tid of %d ids at level %d", len(nested)+1, len(below))
	}
	for i, space := range below {
		if space != child && m.given(space, nested[i]) || space == child && nested[i] != 1 {
			return fmt.Errorf("EEXIST: set_tid %d in the namespace of %d", nested[i], space)
		}
	}
	t := &task{pid: child, pgid: p.pgid, sid: p.sid, parent: parent, space: p.space, user: p.user, exitSignal: sig, obj: map[uint64]uint64{}}
	if flags&unix.CLONE_NEWPID != 0 {
		t.space, m.owner[child] = child, p.user
	}
	if flags&unix.CLONE_PARENT != 0 {
		t.parent, t.exitSignal = p.parent, p.exitSignal
	}
	for _, f := range shareFlags {
		if flags&f != 0 {
			t.obj[f] = p.obj[f]
		} else {
			t.obj[f] = m.object()
		}
	}
	m.procs[child], m.nested[child], m.below[child] = t, nested, below
	return nil
}

func (m *model) setsid(pid pidns.VPID) error {
	p, err := m.alive(pid)
	if err != nil {
		return err
	}
	for _, t := range m.procs {
		if p.leader || t.pgid == pid {
			return fmt.Errorf("EPERM: setsid of pid %d", pid)
		}
	}
	p.pgid, p.sid, p.leader = pid, pid, true
	return nil
}

// setpgidOf: a parent moves its child, which has run no program yet.
func (m *model) setpgidOf(by, pid, pgid pidns.VPID) error {
	if p := m.procs[pid]; p == nil || p.parent != by || m.procs[by].sid != p.sid {
		return fmt.Errorf("ESRCH: setpgid of %d by %d", pid, by)
	}
	return m.setpgidAs(by, pid, pgid)
}

func (m *model) setpgid(pid, pgid pidns.VPID) error { return m.setpgidAs(pid, pid, pgid) }

func (m *model) setpgidAs(by, pid, pgid pidns.VPID) error {
	p, err := m.alive(pid)
	if err != nil {
		return err
	}
	if p.leader || pgid <= 0 {
		return fmt.Errorf("EPERM: setpgid of leader %d", pid)
	}
	if caller := m.procs[by]; len(m.sees(caller, pgid)) < len(m.spaces(caller.space))-1 {
		return fmt.Errorf("EPERM: pid %d has no name for group %d", by, pgid)
	}
	if pgid != pid {
		found := false
		for _, t := range m.procs {
			found = found || t.pgid == pgid && t.sid == p.sid
		}
		if !found {
			return fmt.Errorf("EPERM: setpgid of pid %d: no group %d in session %d", pid, pgid, p.sid)
		}
	}
	p.pgid = pgid
	return nil
}

func (m *model) exit(pid pidns.VPID, status unix.WaitStatus) error {
	p, err := m.alive(pid)
	if err != nil || pid == 1 {
		return fmt.Errorf("exit of pid %d: %v", pid, err)
	}
	reaper := p.space
	if reaper == pid { // and all in its namespace dies
		for _, t := range m.procs {
			if t != p && slices.Contains(m.spaces(t.space), pid) {
				return fmt.Errorf("exit of pid %d, which is not alone", pid)
			}
		}
	}
	for a := p.parent; a > pidns.Init && m.procs[a].space == p.space; a = m.procs[a].parent {
		if t := m.procs[a]; t.subreaper && !t.dead {
			reaper = a
			break
		}
	}
	for _, t := range m.procs {
		if t.parent == pid {
			t.parent, t.exitSignal = reaper, unix.SIGCHLD
		}
	}
	p.dead, p.status = true, status
	if s := p.exitSignal; s != 0 && s != unix.SIGCHLD {
		m.procs[p.parent].told = append(m.procs[p.parent].told, s)
	}
	return nil
}

func (m *model) reap(parent, child pidns.VPID) error {
	if _, err := m.alive(parent); err != nil {
		return err
	}
	if c := m.procs[child]; c == nil || !c.dead || c.parent != parent {
		return fmt.Errorf("ECHILD: pid %d waits for %d", parent, child)
	}
	delete(m.procs, child)
	return nil
}

func (m *model) unshare(pid pidns.VPID, flags uint64) error {
	p, err := m.alive(pid)
	if err != nil {
		return err
	}
	if flags&^(unix.CLONE_FILES|unix.CLONE_FS) != 0 || flags == 0 {
		return fmt.Errorf("EINVAL: unshare %#x", flags)
	}
	for _, f := range shareFlags {
		if flags&f != 0 {
			p.obj[f] = m.object()
		}
	}
	return nil
}

func (m *model) subreaper(pid pidns.VPID, on bool) error {
	p, err := m.alive(pid)
	if err == nil {
		p.subreaper = on
	}
	return err
}

// settled: nobody has ended yet, nor have the leaders of the container's own
// groups and sessions.
func (m *model) settled() error {
	for _, t := range m.procs {
		for _, id := range []pidns.VPID{t.pid, t.pgid, t.sid} {
			if p := m.procs[id]; (p == nil || p.dead) && len(m.below[id]) == 0 {
				return fmt.Errorf("pid %d does not linger", id)
			}
		}
	}
	return nil
}

// run does what an executor does.
func (m *model) run(steps []Step) error {
	for i, s := range steps {
		var err error
		switch s := s.(type) {
		case Fork:
			err = m.fork(s.Parent, s.Child, s.Nested, s.Flags, s.ExitSignal)
		case Enter:
			m.procs[s.P].user = s.User
		case Setsid:
			err = m.setsid(s.P)
		case Setpgid:
			err = m.setpgid(s.P, s.PGID)
			if s.By != 0 {
				err = m.setpgidOf(s.By, s.P, s.PGID)
			}
		case Exit:
			err = m.exit(s.P, s.Status)
		case Reap:
			err = m.reap(s.Parent, s.Child)
		case Unshare:
			err = m.unshare(s.P, s.Flags)
		case Subreaper:
			err = m.subreaper(s.P, s.On)
		case Settled:
			err = m.settled()
		}
		if err != nil {
			return fmt.Errorf("step %d (%v): %w", i, s, err)
		}
	}
	return nil
}

// rows is what a dump would see. Without init, vpid 1 is left out.
func (m *model) rows(init bool) []Row {
	var out []Row
	for _, t := range m.procs {
		if t.pid == 1 && !init {
			continue
		}
		r := Row{VPID: t.pid, PPID: t.parent, PGID: t.pgid, SID: t.sid, Zombie: t.dead, Status: t.status,
			Subreaper: t.subreaper && !t.dead, ExitSignal: t.exitSignal, Space: t.space, Owner: m.owner[t.space],
			Nested: m.sees(t, t.pid), GroupNested: m.sees(t, t.pgid), SessionNested: m.sees(t, t.sid)}
		if !t.dead { // a zombie has given its objects back
			r.VM, r.Files, r.FS, r.Sighand = t.obj[unix.CLONE_VM], t.obj[unix.CLONE_FILES], t.obj[unix.CLONE_FS], t.obj[unix.CLONE_SIGHAND]
		}
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].VPID < out[j].VPID })
	return normal(out)
}

// normal numbers the objects in the order of first sight, as equal partitions
// look equal then; threads are not the model's business.
func normal(rows []Row) []Row {
	rows = append([]Row(nil), rows...)
	for i, pick := range []func(*Row) *uint64{
		func(r *Row) *uint64 { return &r.VM }, func(r *Row) *uint64 { return &r.Files },
		func(r *Row) *uint64 { return &r.FS }, func(r *Row) *uint64 { return &r.Sighand }} {
		seen := map[uint64]uint64{}
		lone := uint64(i+1) << 32
		for j := range rows {
			v := pick(&rows[j])
			if rows[j].Zombie {
				*v = 0
				continue
			}
			if *v == 0 {
				lone++
				*v = lone
			}
			if seen[*v] == 0 {
				seen[*v] = uint64(len(seen) + 1)
			}
			*v = seen[*v]
		}
	}
	for i := range rows {
		rows[i].Threads, rows[i].ByThread, rows[i].Users = nil, 0, nil
		if rows[i].PPID == 0 && rows[i].VPID != 1 {
			rows[i].PPID = 1
		}
		rows[i].Space = max(rows[i].Space, pidns.Init)
		for _, ids := range []*[]pidns.VPID{&rows[i].Nested, &rows[i].GroupNested, &rows[i].SessionNested} {
			if len(*ids) == 0 {
				*ids = nil
			}
		}
	}
	return rows
}
