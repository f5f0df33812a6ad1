package shapes

import "golang.org/x/sys/unix"

const cloneParent = unix.CLONE_PARENT

// reached: descriptors of a process whose leader has exited (PIDFD_THREAD).
const reached = "6.9"

// Threads, and leaders that have exited before theirs.
var threads = []shape{
	{name: "threads", build: func(p *puppet) {
		p.fork("root", "a")
		p.thread("a", "a1")
		p.thread("a1", "a2")
		p.fork("a2", "child")
		p.thread("child", "c1")
		p.exitThread("a1")
	}, after: func(p *puppet) {
		is(p, "pid in a thread", p.look("a2").PID, p.task("a").pid)
		is(p, "parent of a thread's child", p.look("c1").PPID, p.task("a").pid)
		p.exit("c1", 3)
		waited(p, "a", "child", exited(3), 0)
		p.thread("a2", "a3")
		is(p, "pid of a new thread", p.look("a3").PID, p.task("a").pid)
		p.exit("a3", 4)
		waited(p, "root", "a", exited(4), 0)
	}},
	{name: "dead leader with live threads", since: reached, build: func(p *puppet) {
		p.fork("root", "a")
		p.thread("a", "a1")
		p.thread("a", "a2")
		p.fork("a", "child")
		p.fork("a1", "zombie")
		p.exit("zombie", 2)
		p.exitThread("a")
	}, after: func(p *puppet) {
		is(p, "parent of the leader's child", p.look("child").PPID, p.task("a").pid)
		waited(p, "a2", "zombie", exited(2), 0)
		p.fork("a2", "late")
		is(p, "parent of a new child", p.look("late").PPID, p.task("a").pid)
		p.exit("late", 1)
		waited(p, "a1", "late", exited(1), 0)
		p.exitThread("a2")
		_, status := p.wait("root", "a", 0)
		is(p, "a process with a thread left", status, 0)
		p.exit("a1", 9)
		waited(p, "root", "a", exited(9), 0)
		is(p, "parent of an orphan", p.look("child").PPID, 1)
	}},
	{name: "dead leader that leads a session", since: reached, build: func(p *puppet) {
		p.fork("root", "a")
		p.setsid("a")
		p.thread("a", "a1")
		p.fork("a", "member")
		p.fork("a1", "group")
		p.setpgid("group", 0)
		p.thread("group", "g1")
		p.exitThread("group")
		p.exitThread("a")
	}, after: func(p *puppet) {
		id := p.task("a").pid
		in(p, "a1", id, id)
		in(p, "member", id, id)
		in(p, "g1", p.task("group").pid, id)
		p.exit("a1", 0)
		waited(p, "root", "a", exited(0), 0)
		in(p, "member", id, id)
	}},
	{name: "dead leader whose thread runs a program", since: reached, build: func(p *puppet) {
		p.fork("root", "a")
		p.thread("a", "a1")
		p.thread("a", "a2")
		p.exitThread("a")
	}, after: func(p *puppet) {
		is(p, "run a program", p.exec("a1"), 0)
		is(p, "it has the leader's number", p.look("a1").TID, p.task("a").pid)
		p.exit("a1", 5)
		waited(p, "root", "a", exited(5), 0)
	}},
	{name: "command whose leader is dead", args: []string{"threaded"}, since: reached, build: func(p *puppet) {
		p.fork("master", "a")
		p.fork("root", "b")
		p.exitThread("root")
	}, after: func(p *puppet) {
		for _, name := range []string{"a", "b"} {
			is(p, "parent of "+name, p.look(name).PPID, p.task("root").pid)
		}
		p.exit("b", 3)
		waited(p, "master", "b", exited(3), 0)
	}},
	{name: "stopped process with a dead leader", since: reached, build: func(p *puppet) {
		p.fork("root", "a")
		p.thread("a", "a1")
		p.exitThread("a")
		p.thread("a1", "a2")
		p.stop("a")
	}, after: func(p *puppet) {
		p.cont("a")
		is(p, "its pid", p.look("a2").PID, p.task("a").pid)
	}},
}
