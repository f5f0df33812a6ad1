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

// Read builds the table of a running container from its first process.
func Read(init HostPID) (*Table, error) {
	pids, err := Walk(init)
	if err != nil {
		return nil, err
	}
	r := reader{level: -1, index: map[int]int{}}
	for _, h := range pids {
		if err := r.read(h); err != nil && !(gone(err) && h != init) {
			return nil, err
		}
	}
	return r.table()
}

// reader gathers what /proc shows of each process.
type reader struct {
	level   int // of the container's pid namespace
	seen    []process
	members []Member
	index   map[int]int // of a host pid in both
}

type process struct {
	row            Row
	group, session Chain
	threads        []Row
}

func (r *reader) read(h HostPID) error {
	p, err := procfs.Open(int(h))
	if err != nil {
		return err
	}
	defer p.Close()
	st, err := p.Status()
	if err != nil {
		return err
	}
	if r.level < 0 { // vpid 1 comes first
		r.level = Level(st.NSpid)
	}
	tids, err := p.Tasks()
	if err != nil {
		return err
	}
	ids := ChainOf(st.NSpid, r.level)
	m := Member{IDs: ids, Parent: -1}
	if m.Link, err = SpaceLink(ids, p); err != nil {
		return err
	}
	q := process{group: ChainOf(st.NSpgid, r.level), session: ChainOf(st.NSsid, r.level)}
	q.row = Row{ID: ids.Outer(), Host: h, TGID: ids.Outer(), PGID: q.group.Outer(), SID: q.session.Outer(),
		Nested: ids.Nested(), Zombie: st.Zombie() && len(tids) == 1}
	if i, ok := r.index[st.PPid]; ok { // parents come first; outside: 0
		m.Parent, q.row.PPID = i, r.seen[i].row.ID
	}
	for _, tid := range tids {
		if tid == int(h) {
			continue
		}
		ids, err := r.threadIDs(p, tid)
		if gone(err) {
			continue
		}
		if err != nil {
			return err
		}
		t := q.row
		t.ID, t.Nested, t.Host = ids.Outer(), ids.Nested(), HostPID(tid)
		q.threads = append(q.threads, t)
	}
	r.index[int(h)] = len(r.seen)
	r.seen, r.members = append(r.seen, q), append(r.members, m)
	return nil
}

func (r *reader) threadIDs(p *procfs.Proc, tid int) (Chain, error) {
	th, err := p.Thread(tid)
	if err != nil {
		return nil, err
	}
	defer th.Close()
	st, err := th.Status()
	if err != nil {
		return nil, err
	}
	return ChainOf(st.NSpid, r.level), nil
}

func (r *reader) table() (*Table, error) {
	spaces, err := FindSpaces(r.members)
	if err != nil {
		return nil, err
	}
	t := New()
	for i, q := range r.seen {
		for _, row := range append([]Row{q.row}, q.threads...) {
			row.Space = spaces.Of[i]
			if err := t.Add(row); err != nil {
				return nil, err
			}
		}
	}
	for i, q := range r.seen {
		for _, id := range []Chain{q.group, q.session} {
			t.Hold(id, spaces, spaces.Of[i])
		}
	}
	return t, nil
}
