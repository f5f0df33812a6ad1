package shapes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// The descriptors of e2e/program/puppet.c.
const (
	memFD = 100 + iota
	bellFD
	answerFD
)

// op is what a task is told to do; the numbers are those of the program.
type op int32

const (
	_ op = iota
	opFork
	opSetsid
	opSetpgid
	opExit
	opExitThread
	opDie
	opExec
	opWait
	opSubreaper
	opLook
	opKill
	opOpen
	opIsOpen
	opUmask
	opPoke
	opHandle
	opIDs
	opBlock
	opTake
	opUnshare
	opLastPID
	opGone
	opState
	opPeek
	opParent
	opReaped
)

// The slot of a task: turn, pid, tid, op, levels, self (4 bytes each), 4
// arguments, 8 results.
const (
	slotSize = 120
	pidAt    = 4
	opAt     = 12
	levelsAt = 16
	argAt    = 24
	retAt    = 56
)

// answerPatience bounds what a single task is told to do.
const answerPatience = 10 * time.Second

// task is a thread of the container that does what it is told.
type task struct {
	name, proc string // of its leader, though that be dead
	slot       int
	// pid and tid are the container's numbers, self is what getpid(2) gives it:
	// in a pid namespace that many levels below.
	pid, tid     int
	self, levels int
	// space is the pid namespace it lives in: that of the task of this name, or
	// the container's.
	space string
	// at is the number of its process in the pid namespace of its parent.
	at      int
	dead    bool
	stopped bool
}

// first tells whether the task belongs to the first process of a pid namespace
// below the container's: the end of all in it.
func (t *task) first() bool { return t.levels > 0 && t.self == 1 }

// puppet is a container that runs puppet.c. The master is named "root".
type puppet struct {
	t      testing.TB
	c      *harness.Container
	tasks  map[string]*task
	next   int // slot
	master int // slot
	// ended are the pids of processes that may be zombies yet.
	ended []int

	mem, bell, answer *os.File
}

// startPuppet starts a container of which only the command is there yet.
func startPuppet(e *harness.Env, name string, flags []string, args ...string) *puppet {
	e.T.Helper()
	p := &puppet{t: e.T, tasks: map[string]*task{}}
	p.c = e.Start(name, flags, append([]string{harness.Program(e.T, "puppet.c")}, args...)...)
	p.add("root", "root")
	if len(args) > 0 { // "threaded"
		p.add("master", "root")
		p.master = 1
	}
	harness.Eventually(e.T, "it listens", func() error {
		p.detach()
		if err := p.attach(); err != nil {
			return errors.Join(err, p.c.Alive())
		}
		for _, t := range p.tasks {
			if p.ids(t); t.pid == 0 {
				return fmt.Errorf("%s does not sit yet", t.name)
			}
		}
		return nil
	})
	return p
}

// on is the same puppet in another container, a copy.
func (p *puppet) on(c *harness.Container) *puppet {
	q := &puppet{t: p.t, c: c, tasks: map[string]*task{}, next: p.next, master: p.master, ended: slices.Clone(p.ended)}
	for name, t := range p.tasks {
		copied := *t
		q.tasks[name] = &copied
	}
	return q
}

func (p *puppet) add(name, proc string) *task {
	if p.tasks[name] != nil && !p.tasks[name].dead {
		p.t.Fatalf("there are two tasks %s", name)
	}
	t := &task{name: name, proc: proc, slot: p.next}
	p.next++
	p.tasks[name] = t
	return t
}

// attach takes the program's descriptors from a thread of its command. They
// are given back before a dump, which must not meet what is open outside.
func (p *puppet) attach() error {
	if p.mem != nil {
		return nil
	}
	ps := p.c.Ps().Processes
	if len(ps) == 0 {
		return errors.New("no process")
	}
	slices.SortFunc(ps, func(a, b harness.Process) int { return a.VPID - b.VPID })
	i := slices.IndexFunc(ps, func(q harness.Process) bool { return q.Comm == "puppet" })
	if i < 0 {
		return errors.New("its program does not run yet")
	}
	var errs []error
	for _, th := range ps[i].Threads {
		err := p.take(th.TID)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (p *puppet) take(tid int) error {
	fd, err := unix.PidfdOpen(tid, unix.PIDFD_THREAD)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.9: of a leader alone
		fd, err = unix.PidfdOpen(tid, 0)
	}
	if err != nil {
		return fmt.Errorf("open thread %d: %w", tid, err)
	}
	defer unix.Close(fd)
	var got []*os.File
	for _, n := range []int{memFD, bellFD, answerFD} {
		f, err := unix.PidfdGetfd(fd, n, 0)
		if err != nil {
			for _, f := range got {
				f.Close()
			}
			return fmt.Errorf("take fd %d of thread %d: %w", n, tid, err)
		}
		got = append(got, os.NewFile(uintptr(f), fmt.Sprint("fd ", n)))
	}
	p.mem, p.bell, p.answer = got[0], got[1], got[2]
	return nil
}

func (p *puppet) detach() {
	for _, f := range []*os.File{p.mem, p.bell, p.answer} {
		if f != nil {
			f.Close()
		}
	}
	p.mem, p.bell, p.answer = nil, nil, nil
}

func (p *puppet) ids(t *task) {
	p.t.Helper()
	at := func(offset int) int {
		var b [4]byte
		if _, err := p.mem.ReadAt(b[:], int64(t.slot*slotSize+offset)); err != nil {
			p.t.Fatal(err)
		}
		return int(int32(binary.NativeEndian.Uint32(b[:])))
	}
	t.pid, t.tid = at(pidAt), at(pidAt+4)
	t.levels, t.self = at(levelsAt), at(levelsAt+4)
	if t.at == 0 {
		t.at = t.pid
	}
}

func (p *puppet) task(name string) *task {
	p.t.Helper()
	t := p.tasks[name]
	if t == nil {
		p.t.Fatalf("there is no task %s", name)
	}
	return t
}

// do lets a task do something and gives what came of it: the result of a
// call, negative for an errno, and what else it gave.
func (p *puppet) do(name string, o op, args ...int) []int {
	p.t.Helper()
	t := p.task(name)
	if t.dead {
		p.t.Fatalf("%s is dead", name)
	}
	return p.slot(t.slot, o, args...)
}

// ask is do for the master.
func (p *puppet) ask(o op, args ...int) int {
	p.t.Helper()
	return p.slot(p.master, o, args...)[0]
}

func (p *puppet) slot(slot int, o op, args ...int) []int {
	p.t.Helper()
	if err := p.attach(); err != nil {
		p.t.Fatal(err)
	}
	ne, at := binary.NativeEndian, int64(slot*slotSize)
	var b []byte
	for i := range 4 {
		v := 0
		if i < len(args) {
			v = args[i]
		}
		b = ne.AppendUint64(b, uint64(v))
	}
	if _, err := p.mem.WriteAt(b, at+argAt); err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.mem.WriteAt(ne.AppendUint32(nil, uint32(o)), at+opAt); err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.bell.Write(ne.AppendUint64(nil, uint64(slot+1))); err != nil {
		p.t.Fatal(err)
	}
	if err := p.awaitAnswer(); err != nil {
		p.t.Fatalf("op %d with %v in slot %d: %v; %s%s", o, args, slot, err, p.whereabouts(slot), p.c.LogTail())
	}
	var ret [64]byte
	if _, err := p.mem.ReadAt(ret[:], at+retAt); err != nil {
		p.t.Fatal(err)
	}
	var out []int
	for i := range 8 {
		out = append(out, int(ne.Uint64(ret[8*i:])))
	}
	return out
}

// whereabouts tells what the master and a slot's task are doing.
func (p *puppet) whereabouts(slot int) string {
	out := ""
	for _, t := range p.tasks {
		if t.slot != slot && t.slot != p.master || t.dead {
			continue
		}
		for _, q := range p.c.Ps().Processes {
			for _, th := range q.Threads {
				if th.VTID != t.tid {
					continue
				}
				for _, file := range []string{"stat", "syscall", "wchan"} {
					text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/%s", q.PID, th.TID, file))
					out += fmt.Sprintf("%s: %s %q %v\n", t.name, file, text, err)
				}
			}
		}
	}
	return out
}

func (p *puppet) awaitAnswer() error {
	deadline := time.Now().Add(answerPatience)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return errors.New("no answer")
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.answer.Fd()), Events: unix.POLLIN}}, int(left/time.Millisecond)+1)
		if err != nil && err != unix.EINTR {
			return err
		}
		if n == 1 {
			_, err := p.answer.Read(make([]byte, 8))
			return err
		}
	}
}

// view is what a task sees of itself.
type view struct {
	PID, TID, PPID, PGID, SID, Subreaper int
	Pending                              string
}

func (p *puppet) look(who string) view {
	p.t.Helper()
	r := p.do(who, opLook)
	return view{r[0], r[1], r[2], r[3], r[4], r[5], fmt.Sprintf("%#x", r[6])}
}

// views are those of all that can be asked, by name.
func (p *puppet) views() map[string]view {
	p.t.Helper()
	out := map[string]view{}
	for _, name := range slices.Sorted(maps.Keys(p.tasks)) {
		if t := p.tasks[name]; !t.dead && !t.stopped {
			out[name] = p.look(name)
		}
	}
	return out
}

// is fails the test if the two differ.
func is[T comparable](p *puppet, what string, got, want T) {
	p.t.Helper()
	if got != want {
		p.t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
