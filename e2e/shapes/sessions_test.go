package shapes

import "golang.org/x/sys/unix"

// Sessions and groups, with leaders dead and alive.
var sessions = []shape{
	{name: "sessions and groups", build: func(p *puppet) {
		p.fork("root", "a")
		p.fork("root", "b")
		p.setsid("b")
		p.fork("b", "b1")
		p.setpgid("b1", 0)
		p.fork("b1", "b2")
		p.fork("b", "b3")
		p.fork("a", "a1")
		p.setpgid("a1", 0)
	}, after: func(p *puppet) {
		is(p, "a session leader starts a session", p.setsid("b"), -int(unix.EPERM))
		is(p, "a group leader starts a session", p.setsid("b1"), -int(unix.EPERM))
		is(p, "a process joins a group of its session", p.setpgid("b3", p.task("b1").pid), 0)
		is(p, "a process joins a group of another session", p.setpgid("b3", p.task("a1").pid), -int(unix.EPERM))
		is(p, "a member starts a session", p.setsid("b2"), p.task("b2").pid)
	}},
	{name: "dead session leader", build: func(p *puppet) {
		p.fork("root", "leader")
		p.setsid("leader")
		p.fork("leader", "member")
		p.fork("leader", "other")
		p.setpgid("other", 0)
		p.exit("leader", 0)
		p.wait("root", "leader", 0)
	}, after: func(p *puppet) {
		id := p.task("leader").pid
		in(p, "member", id, id)
		in(p, "other", p.task("other").pid, id)
		heldBack(p, id)
		p.fork("member", "child")
		in(p, "child", id, id)
		is(p, "a group of the dead leader's number", p.setpgid("other", id), 0)
		is(p, "signal the group", p.do("root", opKill, -id, int(unix.SIGURG))[0], 0)
		p.exit("member", 0)
		p.exit("child", 0)
		p.exit("other", 0)
		// Nothing holds the number any more, unless as a zombie.
		if p.do("root", opLastPID, id-1)[0] == 0 && p.master == 0 && p.task("root").pid != 1 {
			is(p, "the number is free again", p.fork("root", "heir"), id)
		}
	}},
	{name: "dead group leader in a live session", build: func(p *puppet) {
		p.fork("root", "session")
		p.setsid("session")
		p.fork("session", "leader")
		p.setpgid("leader", 0)
		p.fork("session", "member")
		p.setpgid("member", p.task("leader").pid)
		p.exit("leader", 0)
		p.wait("session", "leader", 0)
	}, after: func(p *puppet) {
		group, session := p.task("leader").pid, p.task("session").pid
		in(p, "member", group, session)
		heldBack(p, group)
		p.fork("session", "late")
		is(p, "join the group of the dead leader", p.setpgid("late", group), 0)
		is(p, "a group that has no leader", p.setpgid("session", group), -int(unix.EPERM))
		is(p, "leave it", p.setpgid("member", 0), 0)
		is(p, "leave it", p.setpgid("late", session), 0)
		is(p, "the group has ended", p.do("root", opKill, -group, 0)[0], -int(unix.ESRCH))
	}},
	{name: "dead group leader in a session with a dead leader", build: func(p *puppet) {
		p.fork("root", "session")
		p.setsid("session")
		p.fork("session", "leader")
		p.setpgid("leader", 0)
		p.fork("leader", "member")
		p.fork("leader", "mate")
		p.exit("leader", 0)
		p.wait("session", "leader", 0)
		p.exit("session", 0)
		p.wait("root", "session", 0)
	}, after: func(p *puppet) {
		group, session := p.task("leader").pid, p.task("session").pid
		in(p, "member", group, session)
		in(p, "mate", group, session)
		heldBack(p, group)
		heldBack(p, session)
		is(p, "join the group of the dead session leader", p.setpgid("mate", session), -int(unix.EPERM))
		is(p, "signal the group", p.do("root", opKill, -group, int(unix.SIGURG))[0], 0)
		is(p, "it came", p.look("mate").Pending != p.look("root").Pending, true)
	}},
	{name: "group whose leader left it", build: func(p *puppet) {
		p.fork("root", "leader")
		p.setpgid("leader", 0)
		p.fork("leader", "member")
		p.setpgid("leader", p.look("root").PGID)
	}, after: func(p *puppet) {
		group := p.task("leader").pid
		is(p, "session while one's group lives", p.setsid("leader"), -int(unix.EPERM))
		is(p, "come back", p.setpgid("leader", group), 0)
		in(p, "member", group, p.look("root").SID)
	}},
	{name: "leaders of two groups changed places", build: func(p *puppet) {
		p.fork("root", "a")
		p.fork("root", "b")
		p.setpgid("a", 0)
		p.setpgid("b", 0)
		p.fork("a", "a1")
		p.fork("b", "b1")
		p.setpgid("a", p.task("b").pid)
		p.setpgid("b", p.task("a").pid)
	}, after: func(p *puppet) {
		in(p, "a1", p.task("a").pid, p.look("root").SID)
		in(p, "b1", p.task("b").pid, p.look("root").SID)
		is(p, "and back", p.setpgid("a", 0), 0)
		is(p, "and back", p.setpgid("b", 0), 0)
	}},
	{name: "sessions within sessions with dead leaders", build: func(p *puppet) {
		up := "root"
		for _, name := range []string{"s1", "s2", "s3", "s4", "s5", "s6"} {
			p.fork(up, name)
			p.fork(name, name+" before") // in the session of the one above
			p.setsid(name)
			p.fork(name, name+" after")
			up = name
		}
		for _, name := range []string{"s2", "s3", "s5"} {
			p.exit(name, 0)
		}
		p.wait("s1", "s2", 0)
		p.wait("s4", "s5", 0)
	}, after: func(p *puppet) {
		for _, name := range []string{"s2", "s3", "s5"} {
			id := p.task(name).pid
			in(p, name+" after", id, id)
		}
		in(p, "s3 before", p.task("s2").pid, p.task("s2").pid)
		in(p, "s6 before", p.task("s5").pid, p.task("s5").pid)
	}},
	{name: "children from before and after setsid", build: func(p *puppet) {
		p.fork("root", "a")
		p.fork("a", "before")
		p.setpgid("before", 0)
		p.fork("before", "below")
		p.setsid("a")
		p.fork("a", "after")
		p.fork("before", "below too")
	}, after: func(p *puppet) {
		in(p, "below too", p.task("before").pid, p.look("root").SID)
		in(p, "after", p.task("a").pid, p.task("a").pid)
	}},
}

// in checks a process's group and session as it sees them and as others do.
func in(p *puppet, who string, group, session int) {
	p.t.Helper()
	v := p.look(who)
	is(p, "group of "+who, v.PGID, group)
	is(p, "session of "+who, v.SID, session)
	r := p.do("root", opIDs, p.task(who).pid)
	is(p, "group of "+who+" for others", r[0], group)
	is(p, "session of "+who+" for others", r[1], session)
}

// heldBack: no new process gets the number of a leader that is dead. Only
// root may choose the next number.
func heldBack(p *puppet, id int) {
	p.t.Helper()
	if r := p.do("root", opLastPID, id-1)[0]; r != 0 {
		if p.c.Env.Root() {
			p.t.Errorf("write ns_last_pid: %d", r)
		}
		return
	}
	name := "after " + p.task("root").name + string(rune('a'+p.next%26))
	if got := p.fork("root", name); got <= id {
		p.t.Errorf("a new process got pid %d, next to the held %d", got, id)
	}
	p.exit(name, 0)
	p.wait("root", name, 0)
}
