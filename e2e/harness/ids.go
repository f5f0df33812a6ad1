package harness

import (
	"fmt"
	"slices"

	"github.com/google/go-cmp/cmp"
)

// Ps is one container of `ckpt ps --json`.
type Ps struct {
	Name      string    `json:"name"`
	State     string    `json:"state"`
	Processes []Process `json:"processes"`
	Saves     *Saves    `json:"saves"` // nil: it is not saved by itself
}

// Saves is how a container is saved by itself.
type Saves struct {
	Every  int64 `json:"every_ns"`
	OnTerm int64 `json:"on_term_ns"`
	Keep   int
	To     string
	Saver  int // host pid
	Last   *struct{ Image, Left string }
	Failed *struct{ Reason string }
}

// Process is one process of a container: v ids are those inside, the others
// the host's.
type Process struct {
	VPID    int      `json:"vpid"`
	PID     int      `json:"pid"`
	VPPID   int      `json:"vppid"`
	VPGID   int      `json:"vpgid"`
	VSID    int      `json:"vsid"`
	Comm    string   `json:"comm"`
	State   string   `json:"state"`
	Threads []Thread `json:"threads"`
}

// Thread is one thread of a Process.
type Thread struct {
	VTID int `json:"vtid"`
	TID  int `json:"tid"`
}

// Ps asks what runs in the container.
func (c *Container) Ps() Ps {
	c.Env.T.Helper()
	var all []Ps
	c.Env.JSON(&all, "ps", c.Name)
	if len(all) != 1 || all[0].Name != c.Name {
		c.Env.T.Fatalf("ckpt ps %s: told of %+v", c.Name, all)
	}
	return all[0]
}

// Churn says which ids of a container may differ between two looks at it,
// because its program starts and ends processes or threads all the time.
type Churn struct {
	// Comms are the names of processes that may have come or gone since.
	Comms []string
	// Threads: a process may have got more threads since; never fewer.
	Threads bool
}

// SameInside compares two looks at a container, before a dump and after a
// restore: every id inside is the same, every id of the host another one.
func SameInside(before, after Ps, churn Churn) error {
	b, a := byVPID(before), byVPID(after)
	drop(b, a, churn)
	drop(a, b, churn)
	for vpid, p := range a { // one that has run a program since
		if q, ok := b[vpid]; ok && slices.Contains(churn.Comms, p.Comm) && slices.Contains(churn.Comms, q.Comm) {
			p.Comm = q.Comm
			a[vpid] = p
		}
	}
	if len(b) == 0 {
		return fmt.Errorf("no process before the dump: %+v", before)
	}
	all := func(int, int) bool { return true }
	keep := all
	if churn.Threads {
		keep = func(vpid, vtid int) bool { return hasThread(b[vpid], vtid) }
	}
	if d := cmp.Diff(inside(b, all), inside(a, keep)); d != "" {
		return fmt.Errorf("ids inside differ (-before +after):\n%s", d)
	}
	return anotherOutside(b, a)
}

func byVPID(ps Ps) map[int]Process {
	m := map[int]Process{}
	for _, p := range ps.Processes {
		m[p.VPID] = p
	}
	return m
}

// drop takes out of ps what the other look does not have and need not have.
// A process that both have must be the same, whatever it is.
func drop(ps, other map[int]Process, churn Churn) {
	for vpid, p := range ps {
		if _, ok := other[vpid]; !ok && slices.Contains(churn.Comms, p.Comm) {
			delete(ps, vpid)
		}
	}
}

// anotherOutside: no process or thread is one of those before.
func anotherOutside(b, a map[int]Process) error {
	for vpid, p := range b {
		if p.PID == a[vpid].PID {
			return fmt.Errorf("pid %d inside (%s) is host pid %d before and after: the same process?", vpid, p.Comm, p.PID)
		}
		for _, t := range p.Threads {
			if slices.ContainsFunc(a[vpid].Threads, func(u Thread) bool { return t.TID == u.TID }) {
				return fmt.Errorf("pid %d inside (%s): host thread id %d before and after: the same thread?", vpid, p.Comm, t.TID)
			}
		}
	}
	return nil
}

// identity is what a process's relatives know of it.
type identity struct {
	VPPID, VPGID, VSID int
	Comm               string
	Threads            []int
}

// inside reduces processes to their ids inside, without the threads that
// keep says no to.
func inside(ps map[int]Process, keep func(vpid, vtid int) bool) map[int]identity {
	out := map[int]identity{}
	for vpid, p := range ps {
		id := identity{VPPID: p.VPPID, VPGID: p.VPGID, VSID: p.VSID, Comm: p.Comm}
		for _, t := range p.Threads {
			if keep(vpid, t.VTID) {
				id.Threads = append(id.Threads, t.VTID)
			}
		}
		slices.Sort(id.Threads)
		out[vpid] = id
	}
	return out
}

func hasThread(p Process, vtid int) bool {
	return slices.ContainsFunc(p.Threads, func(t Thread) bool { return t.VTID == vtid })
}
