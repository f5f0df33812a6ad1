package shapes

import "golang.org/x/sys/unix"

func stoppedBy(sig unix.Signal) unix.WaitStatus { return unix.WaitStatus(int(sig)<<8 | 0x7f) }

// Stopped processes.
var stops = []shape{
	{name: "stopped, told or not", build: func(p *puppet) {
		p.fork("root", "parent")
		for _, name := range []string{"untold", "told", "threads"} {
			p.fork("parent", name)
		}
		p.thread("threads", "t1")
		p.thread("threads", "t2")
		for _, name := range []string{"untold", "told", "threads"} {
			p.stop(name)
		}
		p.wait("parent", "told", unix.WUNTRACED)
	}, after: func(p *puppet) {
		for _, name := range []string{"untold", "threads"} {
			pid, status := p.wait("parent", name, unix.WUNTRACED)
			is(p, "the parent learns of "+name, pid, p.task(name).pid)
			is(p, "status of "+name, status, stoppedBy(unix.SIGSTOP))
		}
		pid, _ := p.wait("parent", "told", unix.WUNTRACED)
		is(p, "the parent learns again of the one it was told of", pid, 0)
		for _, name := range []string{"untold", "told", "threads"} {
			p.cont(name)
			is(p, "parent of "+name, p.look(name).PPID, p.task("parent").pid)
			pid, status := p.wait("parent", name, unix.WCONTINUED)
			is(p, "the parent learns that it goes on: "+name, pid, p.task(name).pid)
			is(p, "status of "+name, status, 0xffff)
			p.stop(name)
			_, status = p.wait("parent", name, unix.WUNTRACED)
			is(p, "status of "+name+", stopped again", status, stoppedBy(unix.SIGSTOP))
			p.cont(name)
			p.exit(name, 1)
			waited(p, "parent", name, exited(1), 0)
		}
	}},
	{name: "stopped by other signals", build: func(p *puppet) {
		p.fork("root", "parent")
		p.setsid("parent")
		for name, sig := range otherStops {
			p.fork("parent", name)
			p.setpgid(name, 0) // its parent keeps the group from being an orphan
			p.do(name, opBlock, int(sig), 0)
			p.signalStop(name, sig)
		}
		p.do("parent", opHandle, int(unix.SIGCHLD), 2)
	}, after: func(p *puppet) {
		for name, sig := range otherStops {
			pid, status := p.wait("parent", name, unix.WUNTRACED)
			is(p, "the parent learns of "+name, pid, p.task(name).pid)
			is(p, "status of "+name, status, stoppedBy(sig))
			p.cont(name)
			is(p, "its parent", p.look(name).PPID, p.task("parent").pid)
		}
	}},
	{name: "stopped, and its parent has no SIGCHLD waiting", build: func(p *puppet) {
		p.fork("root", "parent")
		p.fork("parent", "stopped")
		p.stop("stopped")
		p.wait("parent", "stopped", unix.WUNTRACED)
		is(p, "take the SIGCHLD", p.do("parent", opTake, int(unix.SIGCHLD))[0], int(unix.SIGCHLD))
	}, after: func(p *puppet) {
		is(p, "no SIGCHLD", p.do("parent", opTake, int(unix.SIGCHLD))[0], -int(unix.EAGAIN))
		p.cont("stopped")
		is(p, "SIGCHLD now", p.do("parent", opTake, int(unix.SIGCHLD))[0], int(unix.SIGCHLD))
	}},
	{name: "went on, told or not", build: func(p *puppet) {
		p.fork("root", "parent")
		for _, name := range []string{"untold", "told", "threads", "blocks"} {
			p.fork("parent", name)
		}
		p.thread("threads", "t1")
		p.fork("t1", "below")
		p.stop("untold")
		p.wait("parent", "untold", unix.WUNTRACED)
		for _, name := range []string{"told", "threads", "blocks"} {
			p.stop(name)
		}
		for _, name := range []string{"untold", "told", "threads", "blocks"} {
			p.cont(name)
		}
		p.wait("parent", "told", unix.WCONTINUED)
		p.do("untold", opTake, int(unix.SIGCONT)) // it waits, for all is blocked
	}, after: func(p *puppet) {
		for _, name := range []string{"untold", "threads", "blocks"} {
			pid, status := p.wait("parent", name, unix.WCONTINUED)
			is(p, "the parent learns of "+name, pid, p.task(name).pid)
			is(p, "status of "+name, status, 0xffff)
		}
		for _, name := range []string{"untold", "told", "threads", "blocks"} {
			pid, _ := p.wait("parent", name, unix.WCONTINUED|unix.WUNTRACED)
			is(p, "the parent learns nothing more of "+name, pid, 0)
		}
		is(p, "no SIGCONT waits", p.do("untold", opTake, int(unix.SIGCONT))[0], -int(unix.EAGAIN))
		is(p, "a SIGCONT waits", p.do("blocks", opTake, int(unix.SIGCONT))[0], int(unix.SIGCONT))
		is(p, "parent of a thread's child", p.look("below").PPID, p.task("threads").pid)
	}},
	{name: "stopped leaders", build: func(p *puppet) {
		p.fork("root", "session")
		p.setsid("session")
		p.fork("session", "member")
		p.fork("session", "group")
		p.setpgid("group", 0)
		p.fork("group", "mate")
		for _, name := range []string{"mate", "group", "member", "session"} {
			p.stop(name)
		}
	}, after: func(p *puppet) {
		for _, name := range []string{"mate", "group", "member", "session"} {
			p.cont(name)
		}
		in(p, "mate", p.task("group").pid, p.task("session").pid)
	}},
	{name: "killed while stopped", build: func(p *puppet) {
		p.fork("root", "a")
		p.fork("a", "b")
		p.stop("b")
		p.stop("a")
	}, after: func(p *puppet) {
		p.kill("a")
		waited(p, "root", "a", killed(unix.SIGKILL), 0)
		p.cont("b")
		is(p, "parent of an orphan", p.look("b").PPID, 1)
	}},
}

var otherStops = map[string]unix.Signal{"tstp": unix.SIGTSTP, "ttin": unix.SIGTTIN, "ttou": unix.SIGTTOU}
