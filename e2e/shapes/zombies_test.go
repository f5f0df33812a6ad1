package shapes

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// exited and killed are wait(2) statuses.
func exited(code int) unix.WaitStatus        { return unix.WaitStatus(code << 8) }
func killed(sig unix.Signal) unix.WaitStatus { return unix.WaitStatus(sig) }

// waited checks that a parent waits for a child and learns its very status.
func waited(p *puppet, who, child string, want unix.WaitStatus, options int) {
	p.t.Helper()
	pid, status := p.wait(who, child, options)
	is(p, fmt.Sprintf("%s waits for %s", who, child), pid, p.task(child).pid)
	is(p, fmt.Sprintf("status of %s", child), status, want)
	pid, _ = p.wait(who, child, options)
	is(p, fmt.Sprintf("%s waits for %s again", who, child), pid, -int(unix.ECHILD))
}

// Processes that ended and were not waited for.
var zombies = []shape{
	{name: "zombies", build: func(p *puppet) {
		p.fork("root", "parent")
		for _, code := range []int{0, 1, 42, 255} {
			name := fmt.Sprint("exit ", code)
			p.fork("parent", name)
			p.exit(name, code)
		}
		for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL, unix.SIGUSR1, unix.Signal(64)} {
			name := fmt.Sprint("signal ", int(sig))
			p.fork("parent", name)
			if sig == unix.SIGKILL {
				p.kill(name)
			} else {
				p.die(name, sig)
			}
		}
		p.fork("root", "of root")
		p.exit("of root", 3)
	}, after: func(p *puppet) {
		for _, code := range []int{0, 1, 42, 255} {
			waited(p, "parent", fmt.Sprint("exit ", code), exited(code), 0)
		}
		for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL, unix.SIGUSR1, unix.Signal(64)} {
			waited(p, "parent", fmt.Sprint("signal ", int(sig)), killed(sig), 0)
		}
		waited(p, "root", "of root", exited(3), 0)
		p.fork("parent", "late")
		p.exit("late", 7)
		waited(p, "parent", "late", exited(7), 0)
	}},
	{name: "zombies that lead", build: func(p *puppet) {
		p.fork("root", "parent")
		p.fork("parent", "session")
		p.setsid("session")
		p.fork("session", "member")
		p.fork("session", "group")
		p.setpgid("group", 0)
		p.fork("group", "mate")
		p.exit("group", 5)
		p.fork("parent", "alone")
		p.setsid("alone")
		p.die("alone", unix.SIGKILL)
	}, after: func(p *puppet) {
		session, group := p.task("session").pid, p.task("group").pid
		in(p, "mate", group, session)
		waited(p, "session", "group", exited(5), 0)
		p.exit("session", 6)
		waited(p, "parent", "session", exited(6), 0)
		waited(p, "parent", "alone", killed(unix.SIGKILL), 0)
		in(p, "member", session, session)
	}},
	{name: "zombie session leader with members", build: func(p *puppet) {
		p.fork("root", "session")
		p.setsid("session")
		p.fork("session", "member")
		p.fork("session", "group")
		p.setpgid("group", 0)
		p.fork("group", "mate")
		p.exit("group", 5)
		p.wait("session", "group", 0)
		p.exit("session", 6)
	}, after: func(p *puppet) {
		session := p.task("session").pid
		in(p, "member", session, session)
		in(p, "mate", p.task("group").pid, session)
		waited(p, "root", "session", exited(6), 0)
		in(p, "member", session, session)
		heldBack(p, session)
	}},
	{name: "zombie in the group of a dead leader", build: func(p *puppet) {
		p.fork("root", "leader")
		p.setsid("leader")
		p.fork("leader", "a")
		p.subreaper("root", 1)
		p.exit("leader", 0)
		p.wait("root", "leader", 0)
		p.exit("a", 9)
	}, after: func(p *puppet) {
		r := p.do("root", opIDs, p.task("a").pid)
		is(p, "group of the zombie", r[0], p.task("leader").pid)
		is(p, "session of the zombie", r[1], p.task("leader").pid)
		heldBack(p, p.task("leader").pid)
		waited(p, "root", "a", exited(9), 0)
	}},
	{name: "zombies whose end tells nothing or something else", build: func(p *puppet) {
		p.fork("root", "parent")
		p.clone("parent", "none", 0, 0)
		p.clone("parent", "usr1", 0, unix.SIGUSR1)
		p.clone("parent", "alive", 0, unix.SIGUSR2)
		p.clone("parent", "silent", 0, 0)
		p.exit("none", 1)
		p.exit("usr1", 2)
	}, after: func(p *puppet) {
		_, status := p.wait("parent", "usr1", 0)
		is(p, "a plain wait does not see it", status, 0)
		waited(p, "parent", "usr1", exited(2), unix.WCLONE)
		waited(p, "parent", "none", exited(1), unix.WALL)
		before := p.look("parent").Pending
		p.exit("silent", 3)
		is(p, "no signal at an end that tells nothing", p.look("parent").Pending, before)
		p.exit("alive", 4)
		is(p, "SIGUSR2 at the other", p.look("parent").Pending != before, true)
		waited(p, "parent", "alive", exited(4), unix.WALL)
		waited(p, "parent", "silent", exited(3), unix.WCLONE)
	}},
	{name: "dead session leaders whose end told something else", build: func(p *puppet) {
		for _, parent := range []string{"free", "signalled"} {
			p.fork("root", parent)
			p.clone(parent, parent+" leader", 0, unix.SIGUSR1)
			p.setsid(parent + " leader")
			p.clone(parent+" leader", parent+" member", unix.CLONE_PARENT, 0)
			p.exit(parent+" leader", 0)
			p.wait(parent, parent+" leader", unix.WCLONE)
			is(p, "told", p.do(parent, opTake, int(unix.SIGUSR1))[0], int(unix.SIGUSR1))
		}
		p.do("root", opKill, p.task("signalled").pid, int(unix.SIGUSR1))
	}, after: func(p *puppet) {
		is(p, "nothing waits", p.do("free", opTake, int(unix.SIGUSR1))[0], -int(unix.EAGAIN))
		is(p, "what root sent", p.do("signalled", opTake, int(unix.SIGUSR1))[0], int(unix.SIGUSR1))
		for _, parent := range []string{"free", "signalled"} {
			p.exit(parent+" member", 2)
			is(p, "told anew", p.do(parent, opTake, int(unix.SIGUSR1))[0], int(unix.SIGUSR1))
			waited(p, parent, parent+" member", exited(2), unix.WCLONE)
		}
	}},
	{name: "zombies of a parent that ignores ends by now", build: func(p *puppet) {
		p.fork("root", "parent")
		p.fork("parent", "zombie")
		p.exit("zombie", 8)
		p.do("parent", opHandle, int(unix.SIGCHLD), 1)
		p.fork("parent", "child")
	}, after: func(p *puppet) {
		is(p, "SIGCHLD is ignored", p.do("parent", opHandle, int(unix.SIGCHLD), -1)[0], 1)
		is(p, "what is left of a child", p.exit("child", 1), 0)
		waited(p, "parent", "zombie", exited(8), 0)
	}},
}

// TestCoreDumped: of a zombie that dumped core a restore keeps the signal, and
// says that it does not keep the bit, which the kernel sets for a real core
// alone; no second one is written.
func TestCoreDumped(t *testing.T) {
	e := harness.New(t, "")
	p := startPuppet(e, "core", nil)
	p.fork("root", "parent")
	p.fork("parent", "zombie")
	host := 0
	for _, q := range p.c.Ps().Processes {
		if q.VPID == p.task("zombie").pid {
			host = q.PID
		}
	}
	var lim unix.Rlimit
	if err := unix.Prlimit(host, unix.RLIMIT_CORE, nil, &lim); err != nil {
		t.Fatal(err)
	}
	lim.Cur = lim.Max
	if err := unix.Prlimit(host, unix.RLIMIT_CORE, &lim, nil); err != nil {
		t.Fatal(err)
	}
	p.die("zombie", unix.SIGSEGV)
	cores := func() int {
		t.Helper()
		names, err := filepath.Glob(e.Join("core*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	before := cores()
	p.detach()
	p.c.Dump(e.Join("image"), "--leave-running")
	c := e.Own("copy")
	r := e.Try("restore", e.Join("image"), "--name", "copy")
	if r.Code != 0 {
		t.Fatal(r)
	}
	_, status := p.wait("parent", "zombie", 0)
	dumped := status != killed(unix.SIGSEGV)
	if dumped {
		is(p, "status of the one left running", status, killed(unix.SIGSEGV)|0x80)
	}
	if told := strings.Contains(r.Err, "dumped core"); told != dumped {
		t.Errorf("it dumped core: %v; the restore says %v", dumped, r)
	}
	t.Logf("it dumped core: %v, %d files", dumped, before)
	q := p.on(c)
	p.detach()
	waited(q, "parent", "zombie", killed(unix.SIGSEGV), 0)
	is(q, "core files", cores(), before)
	q.detach()
}
