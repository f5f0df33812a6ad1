package shapes

// Processes whose parent is not the one that made them.
var orphans = []shape{
	{name: "orphans under init", build: func(p *puppet) {
		p.fork("root", "a")
		p.fork("a", "b")
		p.fork("b", "c")
		p.fork("c", "d")
		p.exit("b", 0)
		p.fork("a", "e")
		p.fork("e", "f")
		p.setsid("e")
		p.fork("e", "g")
		p.exit("a", 0)
		p.exit("e", 0)
		p.wait("root", "a", 0)
	}, after: func(p *puppet) {
		for _, name := range []string{"c", "f", "g"} {
			is(p, "parent of "+name, p.look(name).PPID, 1)
		}
		is(p, "parent of d", p.look("d").PPID, p.task("c").pid)
		p.exit("c", 0)
		is(p, "parent of d, an orphan now", p.look("d").PPID, 1)
	}},
	{name: "orphans under a subreaper", build: func(p *puppet) {
		p.fork("root", "reaper")
		p.subreaper("reaper", 1)
		p.fork("reaper", "a")
		p.fork("a", "b")
		p.fork("b", "c")
		p.setsid("c")
		p.fork("c", "d")
		p.exit("a", 0)
		p.exit("c", 4)
		p.exit("b", 3)
	}, after: func(p *puppet) {
		reaper := p.task("reaper").pid
		is(p, "parent of d", p.look("d").PPID, reaper)
		in(p, "d", p.task("c").pid, p.task("c").pid)
		waited(p, "reaper", "a", exited(0), 0)
		waited(p, "reaper", "b", exited(3), 0)
		waited(p, "reaper", "c", exited(4), 0)
		p.fork("d", "e")
		p.exit("d", 5)
		is(p, "parent of a new orphan", p.look("e").PPID, reaper)
		waited(p, "reaper", "d", exited(5), 0)
		p.fork("e", "f")
		p.subreaper("reaper", 0)
		p.exit("e", 6)
		is(p, "parent of an orphan once it reaps no more", p.look("f").PPID, 1)
		waited(p, "reaper", "e", exited(6), 0)
	}},
	{name: "subreapers within subreapers", build: func(p *puppet) {
		p.fork("root", "outer")
		p.subreaper("outer", 1)
		p.fork("outer", "inner")
		p.subreaper("inner", 1)
		p.fork("inner", "a")
		p.fork("a", "b")
		p.fork("b", "c")
		p.exit("b", 0)
		p.fork("outer", "x")
		p.fork("x", "y")
		p.exit("x", 0)
	}, after: func(p *puppet) {
		is(p, "parent of c", p.look("c").PPID, p.task("inner").pid)
		is(p, "parent of y", p.look("y").PPID, p.task("outer").pid)
		waited(p, "outer", "x", exited(0), 0)
		p.exit("inner", 1)
		for _, name := range []string{"a", "c"} {
			is(p, "parent of "+name, p.look(name).PPID, p.task("outer").pid)
		}
		waited(p, "outer", "inner", exited(1), 0)
		waited(p, "a", "b", exited(0), 0)
		p.exit("outer", 2)
		for _, name := range []string{"a", "c", "y"} {
			is(p, "parent of "+name, p.look(name).PPID, 1)
		}
	}},
	{name: "subreaper that is one no more", build: func(p *puppet) {
		p.fork("root", "reaper")
		p.subreaper("reaper", 1)
		p.fork("reaper", "a")
		p.fork("a", "b")
		p.fork("b", "c")
		p.exit("a", 0)
		p.subreaper("reaper", 0)
		p.exit("b", 0)
	}, after: func(p *puppet) {
		is(p, "parent of c", p.look("c").PPID, 1)
		waited(p, "reaper", "a", exited(0), 0)
		waited(p, "reaper", "b", exited(0), 0)
	}},
	{name: "siblings made by CLONE_PARENT", build: func(p *puppet) {
		p.fork("root", "a")
		p.clone("a", "b", cloneParent, 0)
		p.clone("b", "c", cloneParent, 0)
		p.fork("root", "s")
		p.setsid("s")
		p.clone("s", "t", cloneParent, 0)
		p.exit("a", 0)
		p.wait("root", "a", 0)
		p.clone("b", "z", cloneParent, 0)
		p.exit("z", 11)
	}, after: func(p *puppet) {
		for _, name := range []string{"b", "c", "t"} {
			is(p, "parent of "+name, p.look(name).PPID, p.task("root").pid)
		}
		in(p, "t", p.task("s").pid, p.task("s").pid)
		waited(p, "root", "z", exited(11), 0)
		p.exit("t", 12)
		waited(p, "root", "t", exited(12), 0)
	}},
}
