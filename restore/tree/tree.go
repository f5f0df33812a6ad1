// Package tree compiles a process tree into the steps that build it: who
// forks whom under which id, who becomes a session leader when, who has to
// live for a moment and die so that another is an orphan.
//
// The package is pure: rows in, steps out. The same Compile refuses at dump
// time what a restore could not build.
//
// # How
//
// Which process *forked* a process is not what getppid(2) tells: parents die,
// and the orphan goes to a living ancestor (the nearest subreaper, else the
// namespace's init). It only ever moves up. So the compiler looks for a tree
// of births in which
//
//   - the parent of today is an ancestor,
//   - the leader of the session, dead or alive, is an ancestor, and everybody
//     on the way down from it was in that session when it forked. A process
//     changes its session once at most (setsid(2) is refused to leaders), so
//     each has the session it was born in and perhaps one of its own.
//
// Dead session leaders are nodes of that tree: helpers born with the very
// pid. Where the forker is not the parent of today, a helper between the two
// dies, and the orphan goes to an ancestor that is a subreaper for just that
// moment; or the child is made by CLONE_PARENT. Groups come last, since
// setpgid(2) is free within a session and setsid(2) is refused while a group
// with the caller's number exists.
//
// # What cannot be built
//
// Every tree that fork, setsid, setpgid, exit, wait and PR_SET_CHILD_SUBREAPER
// can produce is built, and so is one with pid namespaces that clone(2) has
// made (CLONE_NEWPID). Refused are:
//
//   - a process whose parent is outside its pid namespace, other than the first
//     in it: it was born there after setns(2), or after another one when its
//     parent had called unshare(2);
//   - the first process of a pid namespace in a group that was made inside, not
//     by itself: as it waits at its end for all ids to be free, it never ends;
//   - a zombie that was the first in its pid namespace, killed by a signal other
//     than SIGKILL, as by a fault: no other that is sent kills it;
//   - a process in a group that is not its session's own and whose leader lives
//     or lived outside its pid namespace: it has no name for it;
//   - a process whose session or group came from outside the pid namespace
//     (NSsid or NSpgid 0);
//   - an exit signal other than SIGCHLD of a process that the present parent
//     cannot have forked, directly or by CLONE_PARENT of a sibling that has
//     the same exit signal still (execve(2) puts SIGCHLD there): reparenting
//     would set SIGCHLD;
//   - memory or signal handlers shared by processes that are connected only
//     through living ones that do not share (there is no unshare(2) for these);
//   - file tables or working directories shared across a process which shares
//     its own with somebody else: that one would have to hold two.
package tree

import (
	"errors"
	"fmt"
	"sort"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/pidns"
)

// Row is one process of the tree.
type Row struct {
	VPID pidns.VPID
	// Comm is its name, for what is said of it; "": none.
	Comm string
	// PPID 1 is the namespace's init; so is 0 (a parent outside the namespace).
	PPID pidns.VPID
	PGID pidns.VPID
	SID  pidns.VPID
	// ByThread is the thread of its parent that it is a child of, for the
	// kernel knows which: it tells PR_SET_PDEATHSIG and __WNOTHREAD whose end
	// and whose wait is meant. 0 is the leading thread.
	ByThread pidns.VPID
	// Threads are the ids of its threads; the leader's may be among them.
	Threads []pidns.VPID
	// Space is the pid namespace it lives in, by the id of that one's first
	// process; 0 and 1 are the container's own.
	Space pidns.VPID
	// Owner is the user namespace that Space belongs to; 0: the
	// container's.
	Owner uint32
	// Users are the user namespaces it is in, from below the container's own
	// down.
	Users []uint32
	// Alone: who is born of it once it is in its own namespaces could not come
	// into the right ones. So it enters them when all are born.
	Alone bool
	// Nested, GroupNested and SessionNested are what VPID, PGID and SID are in
	// the pid namespaces below the container's, outer ones first, as far as
	// the process sees them. ThreadsNested are the like of all its threads.
	Nested, GroupNested, SessionNested, ThreadsNested []pidns.VPID
	// Zombie: it has exited with wait status Status and nobody waited for it.
	Zombie bool
	Status unix.WaitStatus
	// Subreaper is PR_GET_CHILD_SUBREAPER.
	Subreaper bool
	// VM, Files, FS and Sighand name the objects it uses: equal numbers
	// within a field mean the same object; 0 is one of its own.
	VM, Files, FS, Sighand uint64
	// ExitSignal is what its parent gets at its death; 0 is none
	// (field 38 of /proc/PID/stat).
	ExitSignal unix.Signal
}

// who names the process in a message.
func (r *Row) who() string {
	if r.Comm == "" {
		return fmt.Sprintf("pid %d", r.VPID)
	}
	return fmt.Sprintf("pid %d (%s)", r.VPID, r.Comm)
}

// Options of Compile.
type Options struct {
	// NoInit: vpid 1 is one of the rows. Otherwise it is ckpt's own init.
	// Either way it exists before the first step, and leads session 1 and
	// group 1.
	NoInit bool
	// PIDMax is the first number that no process can have; helpers get the
	// highest free ones. 0: 32768, the smallest default of the kernel, and
	// larger ids are let pass.
	PIDMax int
	// Linger: zombies and the dead leaders of groups and sessions end after all
	// other steps, behind a step Settled, so that they can do something before.
	Linger bool
}

const defaultPIDMax = 32768

// Compile returns the steps that make a tree of these rows, starting from
// vpid 1 alone.
func Compile(rows []Row, o Options) ([]Step, error) {
	f, err := newForest(rows, o)
	if err != nil {
		return nil, err
	}
	for _, above := range f.rootChoices() {
		var b *births
		if b, err = f.births(above); err != nil {
			continue
		}
		var steps []Step
		if steps, err = f.emit(b); err == nil {
			return steps, nil
		}
	}
	if errors.Is(err, errNoBirths) {
		return nil, f.blame(o)
	}
	return nil, err // of the last choice, which wished for least
}

// blame finds what makes the tree impossible: the first process, from init
// downwards, with which those before it cannot be built any more; or else the
// first whose exit signal does.
func (f *forest) blame(o Options) error {
	var rows []Row
	for n := initial; n < len(f.nodes); n++ {
		if p := f.nodes[n]; !p.given && !p.dead {
			rows = append(rows, p.Row)
		}
	}
	depth := func(i int) int { return f.depth(f.index[rows[i].VPID]) }
	sort.SliceStable(rows, func(i, j int) bool { return depth(i) < depth(j) })
	plain := append([]Row(nil), rows...)
	for i := range plain {
		plain[i].ExitSignal = unix.SIGCHLD
	}
	if i := sort.Search(len(rows), func(i int) bool { return !possible(plain[:i+1], o) }); i < len(rows) {
		return failure.WithHint(failure.Unsupportedf("no order of births gives this tree: %s, with parent %d and session %d, fits nowhere",
			rows[i].who(), rows[i].PPID, rows[i].SID), "dump when it has ended")
	}
	if i := sort.Search(len(rows), func(i int) bool {
		return !possible(append(append([]Row(nil), rows[:i+1]...), plain[i+1:]...), o)
	}); i < len(rows) {
		return signalLost(&rows[i])
	}
	return errNoBirths
}

func possible(rows []Row, o Options) bool {
	f, err := newForest(rows, o)
	if err == nil {
		_, err = f.births(nil)
	}
	return err == nil
}

func signalLost(r *Row) error {
	return failure.WithHint(failure.Unsupportedf("%s has exit signal %d, but its parent %d cannot have forked it "+
		"(a process that comes to a new parent gets exit signal %d)", r.who(), r.ExitSignal, r.PPID, unix.SIGCHLD), "dump when it has ended")
}

// node indexes forest.nodes.
type node = int

const (
	initial node = 0 // vpid 1
	nobody  node = -1
)

// proc is a node: a row, or the dead leader of a living session.
type proc struct {
	Row
	parent node // today's; nobody: init's and that of dead ones
	leader node // of its session; itself for a leader
	space  node // the first process of its pid namespace; itself for such a one
	dead   bool
	given  bool // ckpt's own init, no row
}

type forest struct {
	nodes   []proc
	index   map[pidns.VPID]node
	used    map[pidns.VPID]bool // ids a helper must not have
	classes []class
	pidMax  int
	linger  bool
}

func newForest(rows []Row, o Options) (*forest, error) {
	f := &forest{index: map[pidns.VPID]node{}, used: map[pidns.VPID]bool{}, pidMax: o.PIDMax, linger: o.Linger}
	if f.pidMax == 0 {
		f.pidMax = defaultPIDMax
	}
	rows = append([]Row(nil), rows...)
	sort.Slice(rows, func(i, j int) bool { return rows[i].VPID < rows[j].VPID })
	if err := checkIDs(rows, o); err != nil {
		return nil, err
	}
	if !o.NoInit {
		f.nodes = append(f.nodes, proc{Row: Row{VPID: pidns.Init, PGID: pidns.Init, SID: pidns.Init,
			ExitSignal: unix.SIGCHLD}, leader: initial, given: true})
	}
	for _, r := range rows {
		f.nodes = append(f.nodes, proc{Row: r})
	}
	for n := initial; n < len(f.nodes); n++ {
		f.index[f.nodes[n].VPID] = n
	}
	f.addDeadLeaders()
	if err := f.connect(); err != nil {
		return nil, err
	}
	if err := f.findSpaces(); err != nil {
		return nil, err
	}
	f.reserve()
	f.classes = f.findClasses()
	return f, f.checkSighand()
}

// addDeadLeaders makes a node of every session leader that is no process any more.
func (f *forest) addDeadLeaders() {
	var dead []pidns.VPID
	for _, p := range f.nodes[initial:] {
		if _, ok := f.index[p.SID]; !ok {
			f.index[p.SID] = nobody
			dead = append(dead, p.SID)
		}
	}
	sort.Slice(dead, func(i, j int) bool { return dead[i] < dead[j] })
	for _, s := range dead {
		f.index[s] = len(f.nodes)
		f.nodes = append(f.nodes, proc{Row: Row{VPID: s, PGID: s, SID: s, ExitSignal: unix.SIGCHLD}, dead: true})
	}
}

// connect finds everybody's parent and session leader.
func (f *forest) connect() error {
	for n := initial; n < len(f.nodes); n++ {
		p := &f.nodes[n]
		p.leader = f.index[p.SID]
		p.parent = nobody
		if p.dead || n == initial {
			continue
		}
		if p.PPID == 0 {
			p.PPID = pidns.Init
		}
		parent, ok := f.index[p.PPID]
		switch {
		case !ok || f.nodes[parent].dead:
			return failure.Damagedf("pid %d has parent %d, which is no process of the tree", p.VPID, p.PPID)
		case f.nodes[parent].Zombie:
			return failure.Damagedf("pid %d has parent %d, which is a zombie and can have no children", p.VPID, p.PPID)
		}
		p.parent = parent
	}
	return f.checkLoops()
}

func (f *forest) checkLoops() error {
	for n := initial; n < len(f.nodes); n++ {
		steps := 0
		for a := n; a != nobody; a = f.nodes[a].parent {
			if steps++; steps > len(f.nodes) {
				return failure.Damagedf("pid %d is its own ancestor", f.nodes[n].VPID)
			}
		}
	}
	return nil
}

// reserve marks every number that is in use in any of the pid namespaces: no
// helper may have it, who goes by the same number in all.
func (f *forest) reserve() {
	for _, p := range f.nodes {
		for _, ids := range [][]pidns.VPID{{p.VPID, p.PGID, p.SID}, p.Threads,
			p.Nested, p.GroupNested, p.SessionNested, p.ThreadsNested} {
			for _, id := range ids {
				f.used[id] = true
			}
		}
	}
}

// helperID is the highest number that nobody has.
func (f *forest) helperID(taken map[pidns.VPID]bool) (pidns.VPID, error) {
	for id := pidns.VPID(f.pidMax - 1); id > pidns.Init; id-- {
		if !f.used[id] && !taken[id] {
			return id, nil
		}
	}
	return 0, fmt.Errorf("no pid below %d is free for a helper process", f.pidMax)
}
