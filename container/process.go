package container

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/pidns"
	"ckpt/procfs"
)

// Process is one process of a container, by both its numbers.
type Process struct {
	VPID    pidns.VPID
	PID     pidns.HostPID
	VPPID   pidns.VPID // 1 for a child of the container's init, 0 for vpid 1 itself
	VPGID   pidns.VPID
	VSID    pidns.VPID
	Comm    string
	State   byte     // as in /proc/PID/stat: R, S, D, T, t, Z, X, I
	Command []string // the arguments; nil for a zombie
	Threads []Thread // by VTID
	Memory  uint64   // bytes, see memoryOf
	start   uint64   // clock ticks since boot
}

// Thread is one thread by both its numbers.
type Thread struct {
	VTID pidns.VPID
	TID  pidns.HostPID
}

// Processes are the container's processes, parents before children, each
// level by vpid. ckpt's own init is not one of them. A container that is not
// alive has none. What starts or ends meanwhile may be missing.
func (c *Container) Processes() ([]Process, error) { return c.walk(true) }

// walk: full reads what a person wants to see and a decision does not need.
func (c *Container) walk(full bool) ([]Process, error) {
	root, err := c.openInit()
	if err != nil || root == nil {
		return nil, err
	}
	defer root.Close()
	w := walker{full: full, depth: -1}
	if err := w.visit(root, c.Init, 0, !c.NoInit); err != nil {
		return nil, fmt.Errorf("list the processes of %s: %w", c.Name, err)
	}
	return w.out, nil
}

// openInit opens the container's first process, or gives nil if it is dead.
func (c *Container) openInit() (*procfs.Proc, error) {
	if c.Init <= 0 {
		return nil, nil
	}
	p, st, err := openAlive(c.Init)
	if err != nil || p == nil {
		return nil, err
	}
	same, err := c.recognise(st)
	if err != nil || !same {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// initFD gives a pidfd of the container's first process; ESRCH: it has ended.
func (c *Container) initFD() (*os.File, error) {
	p, err := c.openInit()
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, unix.ESRCH
	}
	defer p.Close()
	return openSame(c.Init, c.InitStart)
}

// recognise tells whether st is of the container's first process. Where that
// started at another time, or before another boot, it was itself restored with
// a container around it, and its supervisor with it: that one lives, and is its
// parent.
func (c *Container) recognise(st *procfs.Stat) (bool, error) {
	boot, err := bootID()
	if err != nil {
		return false, err
	}
	if boot == c.BootID && st.StartTime == c.InitStart {
		return true, nil
	}
	if st.PPid != c.Supervisor {
		return false, nil
	}
	if supervised, err := c.Supervised(); err != nil || !supervised {
		return false, err
	}
	args, err := argsOf(c.Supervisor)
	if err != nil {
		return false, err
	}
	// Not by the state directory: the same may be named by another path now.
	if name, _, ok := supervises(args); !ok || name != c.Name {
		return false, nil
	}
	c.BootID, c.InitStart = boot, st.StartTime
	return true, nil
}

// openAlive gives nil for a process that does not exist or is a zombie. One
// whose leader alone has exited lives: its other threads go on.
func openAlive(pid int) (*procfs.Proc, *procfs.Stat, error) {
	p, err := procfs.Open(pid)
	if errors.Is(err, unix.ESRCH) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	st, err := p.Stat()
	if errors.Is(err, unix.ESRCH) || err == nil && (st.State == 'X' || st.State == 'Z' && st.NumThreads <= 1) {
		return nil, nil, p.Close()
	}
	if err != nil {
		p.Close()
		return nil, nil, err
	}
	return p, st, nil
}

type walker struct {
	full  bool
	depth int // of the container's pid namespace among those of its first process
	out   []Process
}

// visit adds p and what descends from it. A process of a pid namespace below
// the container's shows the number it has in the container's.
func (w *walker) visit(p *procfs.Proc, pid int, parent pidns.VPID, hide bool) error {
	st, err := p.Status()
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	if w.depth < 0 {
		w.depth = len(st.NSpid) - 1
	}
	if w.depth >= len(st.NSpid) {
		return fmt.Errorf("host pid %d is in no pid namespace of the container", pid)
	}
	vpid := pidns.VPID(st.NSpid[w.depth])
	if !hide {
		q, err := w.process(p, pid, parent, st)
		if err != nil {
			return notGone(err)
		}
		w.out = append(w.out, q)
	}
	children, err := p.Children()
	if err != nil {
		return notGone(err)
	}
	first := len(w.out)
	for _, c := range children {
		cp, err := procfs.Open(c)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return err
		}
		err = w.visit(cp, c, vpid, false)
		cp.Close()
		if err != nil {
			return err
		}
	}
	sortSiblings(w.out[first:], vpid)
	return nil
}

// process reads one process; ESRCH: it has ended, and been waited for, meanwhile.
func (w *walker) process(p *procfs.Proc, pid int, parent pidns.VPID, st *procfs.Status) (Process, error) {
	q := Process{VPID: at(st.NSpid, w.depth), PID: pidns.HostPID(pid), VPPID: parent, Comm: st.Name, State: st.State,
		VPGID: at(st.NSpgid, w.depth), VSID: at(st.NSsid, w.depth)}
	return q, w.more(p, &q)
}

func at(ids []int, depth int) pidns.VPID {
	if depth >= len(ids) {
		return 0
	}
	return pidns.VPID(ids[depth])
}

// sortSiblings orders subtrees below parent by the vpid of their roots.
func sortSiblings(ps []Process, parent pidns.VPID) {
	var subs [][]Process
	for i := range ps {
		if ps[i].VPPID == parent || i == 0 {
			subs = append(subs, nil)
		}
		subs[len(subs)-1] = append(subs[len(subs)-1], ps[i])
	}
	slices.SortStableFunc(subs, func(a, b []Process) int { return int(a[0].VPID - b[0].VPID) })
	copy(ps, slices.Concat(subs...))
}

// notGone drops the error of a process that ended meanwhile.
func notGone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

func (w *walker) more(p *procfs.Proc, q *Process) error {
	st, err := p.Stat()
	if err != nil {
		return err
	}
	q.start = st.StartTime
	if !w.full {
		return nil
	}
	if q.Threads, err = w.threads(p); err != nil {
		return err
	}
	if q.Command, err = p.Cmdline(); err != nil {
		return err
	}
	q.Memory = memoryOf(p)
	return nil
}

func (w *walker) threads(p *procfs.Proc) (out []Thread, err error) {
	tids, err := p.Tasks()
	if err != nil {
		return nil, err
	}
	for _, tid := range tids {
		t, err := p.Thread(tid)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return nil, err
		}
		ts, err := t.Status()
		t.Close()
		if notGone(err) != nil {
			return nil, err
		}
		if err == nil && w.depth < len(ts.NSpid) {
			out = append(out, Thread{VTID: pidns.VPID(ts.NSpid[w.depth]), TID: pidns.HostPID(tid)})
		}
	}
	if len(out) == 0 { // even a zombie has its leader
		return nil, unix.ESRCH
	}
	slices.SortFunc(out, func(a, b Thread) int { return int(a.VTID - b.VTID) })
	return out, nil
}

// memoryOf is the process's part of the memory in use: what is its own, and
// of shared pages the size divided by the number of processes that map them
// (Pss of smaps_rollup, 4.14), so that the sum over a container counts every
// page once. Swapped pages count too. 0 where that cannot be read.
func memoryOf(p *procfs.Proc) uint64 {
	b, err := p.Read("smaps_rollup")
	if err != nil {
		return 0
	}
	var sum uint64
	for l := range strings.Lines(string(b)) {
		var kb uint64
		for _, f := range []string{"Pss: %d kB", "SwapPss: %d kB"} {
			if n, _ := fmt.Sscanf(l, f, &kb); n == 1 {
				sum += kb << 10
			}
		}
	}
	return sum
}
