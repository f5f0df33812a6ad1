package shapes

import (
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// fork makes a process; its pid, or a negative errno.
func (p *puppet) fork(parent, name string) int { return p.clone(parent, name, 0, unix.SIGCHLD) }

// thread makes a thread in the parent's process.
func (p *puppet) thread(parent, name string) int {
	return p.clone(parent, name, unix.CLONE_VM|unix.CLONE_FS|unix.CLONE_FILES|unix.CLONE_SIGHAND|unix.CLONE_THREAD|unix.CLONE_SYSVSEM, 0)
}

func (p *puppet) clone(parent, name string, flags int, sig unix.Signal) int {
	p.t.Helper()
	was := p.tasks[name]
	proc := name
	if flags&unix.CLONE_THREAD != 0 {
		proc = p.task(parent).proc
	}
	t := p.add(name, proc)
	got := p.do(parent, opFork, t.slot, flags, int(sig))[0]
	if got < 0 {
		if delete(p.tasks, name); was != nil {
			p.tasks[name] = was
		}
		return got
	}
	maker := p.task(parent)
	t.at, t.space = got, maker.space
	if flags&unix.CLONE_THREAD != 0 {
		t.at = maker.at
	}
	if p.ids(t); t.levels > maker.levels {
		t.space = name
	}
	return got
}

// calls that give a result only.
func (p *puppet) setsid(who string) int { p.t.Helper(); return p.do(who, opSetsid)[0] }
func (p *puppet) setpgid(who string, group int) int {
	p.t.Helper()
	return p.do(who, opSetpgid, 0, group)[0]
}
func (p *puppet) subreaper(who string, on int) int {
	p.t.Helper()
	return p.do(who, opSubreaper, on)[0]
}

// exit ends a whole process, and waits until it has: 0 if it left no zombie.
func (p *puppet) exit(who string, code int) int { p.t.Helper(); return p.end(who, opExit, code) }

// die ends it by a signal.
func (p *puppet) die(who string, sig unix.Signal) int {
	p.t.Helper()
	return p.end(who, opDie, int(sig))
}

func (p *puppet) end(who string, o op, arg int) int {
	p.t.Helper()
	t := p.task(who)
	p.do(who, o, arg)
	return p.hasEnded(t.pid)
}

// kill ends a process by a SIGKILL from the master.
func (p *puppet) kill(who string) int {
	p.t.Helper()
	pid := p.task(who).pid
	if got := p.ask(opKill, pid, int(unix.SIGKILL)); got != 0 {
		return got
	}
	return p.hasEnded(pid)
}

// hasEnded waits until the process runs no more and init, if that is its
// parent, has reaped it, and every zombie that came to init thereby.
func (p *puppet) hasEnded(pid int) int {
	p.t.Helper()
	for _, t := range p.tasks {
		if t.pid == pid {
			t.dead, t.stopped = true, false
		}
	}
	p.ask(opGone, pid, pid)
	p.endedBelow(pid)
	p.ended = append(p.ended, pid)
	for _, z := range p.ended {
		p.ask(opReaped, z)
	}
	p.woken()
	return p.ask(opPeek, pid, pid)
}

// endedBelow finds those that have ended with the first process of their pid
// namespace, which has waited for all of them.
func (p *puppet) endedBelow(pid int) {
	p.t.Helper()
	first := slices.ContainsFunc(slices.Collect(maps.Values(p.tasks)), func(t *task) bool { return t.pid == pid && t.first() })
	for _, t := range p.tasks {
		if first && t.levels > 0 && !t.dead && p.ask(opPeek, t.pid, t.tid) == 0 {
			t.dead, t.stopped = true, false
		}
	}
}

// woken finds the stopped whose process group has become an orphan: the kernel
// lets these go on (setpgid(2)).
func (p *puppet) woken() {
	p.t.Helper()
	for _, t := range p.tasks {
		if t.stopped && p.ask(opPeek, t.pid, t.tid) != 'T' {
			t.stopped = false
		}
	}
}

// exitThread ends one thread; 'Z' if it stays as a dead leader.
func (p *puppet) exitThread(who string) int {
	p.t.Helper()
	t := p.task(who)
	p.do(who, opExitThread)
	t.dead = true
	return p.ask(opGone, t.pid, t.tid, 1)
}

// exec runs the program anew: the process has one thread then, which has the
// number of the leader.
func (p *puppet) exec(who string) int {
	p.t.Helper()
	t := p.task(who)
	if got := p.do(who, opExec)[0]; got != 0 {
		return got
	}
	for _, o := range p.tasks {
		if o.pid == t.pid && o != t {
			o.dead = true
		}
	}
	p.ids(t)
	return 0
}

// stop stops a process by a signal that nobody blocks, or tells the errno.
func (p *puppet) stop(who string) int {
	p.t.Helper()
	return p.signalStop(who, unix.SIGSTOP)
}

func (p *puppet) signalStop(who string, sig unix.Signal) int {
	p.t.Helper()
	t := p.task(who)
	if got := p.ask(opKill, t.pid, int(sig)); got != 0 {
		return got
	}
	for _, o := range p.tasks {
		if o.pid == t.pid && !o.dead {
			if got := p.ask(opState, o.pid, o.tid, 'T'); got != 'T' {
				p.t.Fatalf("%s does not stop: %c", o.name, got)
			}
			o.stopped = true
		}
	}
	return 0
}

func (p *puppet) cont(who string) int {
	p.t.Helper()
	t := p.task(who)
	if got := p.ask(opKill, t.pid, int(unix.SIGCONT)); got != 0 {
		return got
	}
	for _, o := range p.tasks {
		if o.pid == t.pid && !o.dead {
			o.stopped = false
			if got := p.ask(opState, o.pid, o.tid, 'S'); got != 'S' {
				p.t.Fatalf("%s does not go on: %c", o.name, got)
			}
		}
	}
	return 0
}

// wait waits for a process without blocking: its pid or an errno, and how it ended.
func (p *puppet) wait(who, child string, options int) (int, unix.WaitStatus) {
	p.t.Helper()
	r := p.do(who, opWait, p.task(child).at, options|unix.WNOHANG)
	return r[0], unix.WaitStatus(r[1])
}
