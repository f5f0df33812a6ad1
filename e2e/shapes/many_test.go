package shapes

import (
	"fmt"
	"testing"

	"ckpt/e2e/harness"
)

// Trees of many.
var many = []shape{
	{name: "chain of 60", build: func(p *puppet) {
		up := "root"
		for i := range 60 {
			name := fmt.Sprint("c", i)
			p.fork(up, name)
			if i%7 == 3 {
				p.setsid(name)
			}
			up = name
		}
	}, after: func(p *puppet) {
		for i := 1; i < 60; i++ {
			is(p, fmt.Sprintf("parent of c%d", i), p.look(fmt.Sprint("c", i)).PPID, p.task(fmt.Sprint("c", i-1)).pid)
		}
		p.exit("c30", 3)
		waited(p, "c29", "c30", exited(3), 0)
		is(p, "parent of an orphan", p.look("c31").PPID, 1)
	}},
	{name: "200 children", build: func(p *puppet) {
		for i := range 200 {
			p.fork("root", fmt.Sprint("c", i))
		}
	}, after: func(p *puppet) {
		for i := 0; i < 200; i += 9 {
			name := fmt.Sprint("c", i)
			p.exit(name, i)
			waited(p, "root", name, exited(i), 0)
		}
	}},
	{name: "500 threads", build: func(p *puppet) {
		p.fork("root", "a")
		for i := range 500 {
			p.thread("a", fmt.Sprint("t", i))
		}
	}, after: func(p *puppet) {
		p.exitThread("t250")
		p.thread("t499", "late")
		is(p, "pid in a new thread", p.look("late").PID, p.task("a").pid)
		p.exit("t0", 7)
		waited(p, "root", "a", exited(7), 0)
	}},
}

func TestMany(t *testing.T) {
	for i, s := range many {
		user := harness.Users()[i%len(harness.Users())]
		t.Run(s.name+"/restored", func(t *testing.T) { restored(t, s, user, nil) })
		t.Run(s.name+"/left running", func(t *testing.T) { leftRunning(t, s, user, starts["no init"]) })
	}
}
