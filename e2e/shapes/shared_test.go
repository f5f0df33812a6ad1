package shapes

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

const (
	files    = unix.CLONE_FILES
	fs       = unix.CLONE_FS
	vm       = unix.CLONE_VM
	handlers = unix.CLONE_SIGHAND | unix.CLONE_VM
)

// together checks that what one does to a table, the other sees, and, of
// those apart, nobody does.
func together(p *puppet, flag int, a, b string, apart ...string) {
	p.t.Helper()
	act := map[int]func(){
		files:              func() { p.do(a, opOpen, 200) },
		fs:                 func() { p.do(a, opUmask, 0o123) },
		vm:                 func() { p.do(a, opPoke, 4711) },
		unix.CLONE_SIGHAND: func() { p.do(a, opHandle, int(unix.SIGUSR2), 2) },
	}
	seen := map[int]func(string) bool{
		files: func(who string) bool { return p.do(who, opIsOpen, 200)[0] == 1 },
		fs: func(who string) bool {
			old := p.do(who, opUmask, 0)[0]
			p.do(who, opUmask, old)
			return old == 0o123
		},
		vm: func(who string) bool {
			old := p.do(who, opPoke, 0)[0]
			p.do(who, opPoke, old)
			return old == 4711
		},
		unix.CLONE_SIGHAND: func(who string) bool { return p.do(who, opHandle, int(unix.SIGUSR2), -1)[0] == 2 },
	}
	is(p, b+" sees it before "+a+" does it", seen[flag](b), false)
	act[flag]()
	is(p, b+" sees what "+a+" does", seen[flag](b), true)
	for _, c := range apart {
		is(p, c+" sees what "+a+" does", seen[flag](c), false)
	}
}

// Processes that share by the flags of clone(2).
var shared = []shape{
	{name: "children that share", build: func(p *puppet) {
		p.clone("root", "files", files, unix.SIGCHLD)
		p.clone("root", "fs", fs, unix.SIGCHLD)
		p.clone("root", "vm", vm, unix.SIGCHLD)
		p.clone("root", "handlers", handlers, unix.SIGCHLD)
		p.fork("root", "none")
	}, after: func(p *puppet) {
		together(p, files, "root", "files", "fs", "vm", "handlers", "none")
		together(p, fs, "fs", "root", "files", "vm", "handlers", "none")
		together(p, vm, "vm", "handlers", "files", "fs", "none")
		together(p, unix.CLONE_SIGHAND, "handlers", "root", "files", "fs", "vm", "none")
		p.exit("vm", 1)
		waited(p, "root", "vm", exited(1), 0)
		p.exit("handlers", 2)
		waited(p, "root", "handlers", exited(2), 0)
	}},
	{name: "all shared by all", build: func(p *puppet) {
		const all = files | fs | handlers
		p.fork("root", "a")
		p.clone("a", "b", all, unix.SIGCHLD)
		p.clone("b", "c", all, unix.SIGCHLD)
		p.thread("c", "c1")
		p.thread("a", "a1")
	}, after: func(p *puppet) {
		for _, flag := range []int{files, fs, vm, unix.CLONE_SIGHAND} {
			together(p, flag, "a", "c1", "root")
		}
		p.exit("b", 1)
		is(p, "what was shared outlives one", p.do("c", opIsOpen, 200)[0], 1)
	}},
	{name: "siblings that share while their parent does not", build: func(p *puppet) {
		for _, name := range []string{"files", "fs"} {
			flag := map[string]int{"files": files, "fs": fs}[name]
			p.fork("root", name+" 1")
			p.clone(name+" 1", name+" 2", flag|cloneParent, 0)
			p.clone(name+" 2", name+" 3", flag|cloneParent, 0)
		}
		p.fork("root", "vm 1")
		p.clone("vm 1", "vm 2", vm|cloneParent, 0)
	}, after: func(p *puppet) {
		together(p, files, "files 1", "files 3", "root", "fs 1")
		together(p, fs, "fs 3", "fs 2", "root", "files 1")
		together(p, vm, "vm 1", "vm 2", "root")
		for _, name := range []string{"files 2", "fs 3", "vm 2"} {
			is(p, "parent of "+name, p.look(name).PPID, p.task("root").pid)
		}
	}},
	{name: "siblings that share with a parent that is dead", build: func(p *puppet) {
		for _, name := range []string{"files", "fs", "vm"} {
			flag := map[string]int{"files": files, "fs": fs, "vm": vm}[name]
			p.fork("root", name)
			p.clone(name, name+" 1", flag, unix.SIGCHLD)
			p.clone(name, name+" 2", flag, unix.SIGCHLD)
			p.exit(name, 0)
			p.wait("root", name, 0)
		}
	}, after: func(p *puppet) {
		together(p, files, "files 1", "files 2", "root", "fs 1", "vm 1")
		together(p, fs, "fs 2", "fs 1", "root", "files 1", "vm 1")
		together(p, vm, "vm 1", "vm 2", "root", "files 1", "fs 1")
	}},
	{name: "grandchildren that share across one that does not", build: func(p *puppet) {
		for _, name := range []string{"files", "fs"} {
			flag := map[string]int{"files": files, "fs": fs}[name]
			p.fork("root", name)
			p.clone(name, name+" middle", flag, unix.SIGCHLD)
			p.clone(name+" middle", name+" below", flag, unix.SIGCHLD)
			p.do(name+" middle", opUnshare, flag)
		}
	}, after: func(p *puppet) {
		together(p, files, "files", "files below", "files middle")
		together(p, fs, "fs below", "fs", "fs middle")
	}},
	{name: "grandchildren that share across one that runs another program", build: func(p *puppet) {
		p.fork("root", "top")
		p.clone("top", "middle", vm|files, unix.SIGCHLD)
		p.clone("middle", "below", vm|files, unix.SIGCHLD)
		p.exit("middle", 0)
		p.wait("top", "middle", 0)
	}, after: func(p *puppet) {
		together(p, files, "top", "below", "root")
		together(p, vm, "below", "top", "root")
		is(p, "parent of below", p.look("below").PPID, 1)
	}},
	{name: "sessions and groups of those that share", build: func(p *puppet) {
		p.clone("root", "a", files|vm, unix.SIGCHLD)
		p.setsid("a")
		p.clone("a", "b", fs|vm, unix.SIGCHLD)
		p.setpgid("b", 0)
		p.clone("b", "c", files, unix.SIGCHLD)
		p.fork("c", "d")
		p.exit("b", 3)
	}, after: func(p *puppet) {
		in(p, "c", p.task("b").pid, p.task("a").pid)
		in(p, "d", p.task("b").pid, p.task("a").pid)
		waited(p, "a", "b", exited(3), 0)
		together(p, vm, "a", "root", "c")
	}},
}

// A thread with a descriptor table or a working directory of its own is
// refused: an image has one of a process. So is one that makes a pid namespace
// for its children, as root may.
func TestThreadsApart(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			t.Parallel()
			p := startPuppet(harness.New(t, user), "apart", nil)
			p.thread("root", "files")
			p.thread("root", "fs")
			p.do("files", opUnshare, files)
			p.do("fs", opUnshare, fs)
			wants := map[string]string{"files": "thread %d: it has a descriptor table of its own", "fs": "thread %d: it has a working directory of its own"}
			if harness.AsRoot(user) {
				p.thread("root", "pids")
				is(p, "unshare(CLONE_NEWPID)", p.do("pids", opUnshare, unix.CLONE_NEWPID)[0], 0)
				wants["pids"] = "the children of thread %d are to be born in another pid namespace (unshare(2)), and it is not alone"
			}
			was := p.state()
			for _, args := range [][]string{{"dump", p.c.Name, p.c.Env.Join("image")}, {"check", p.c.Name}} {
				p.detach()
				r := p.c.Env.Try(args...)
				told := r.Out + r.Err
				for name, want := range wants {
					if want = fmt.Sprintf(want, p.task(name).tid); r.Code != 3 || !strings.Contains(told, want) {
						t.Errorf("%q should be told, with exit code 3: %v", want, r)
					}
				}
				p.same("after a refusal", was, false)
			}
			p.detach()
		})
	}
}
