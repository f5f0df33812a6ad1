package adopt

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// held is a process of e2e/program/holds.py that is tied to what is outside.
type held struct {
	parent *harness.Launched
	pid    int
	more   []int // what else it said
}

func hold(e *harness.Env, thing string) held {
	e.T.Helper()
	l := e.Launch(true, harness.Tool(e.T, "python3", "/usr/bin"), harness.Program(e.T, "holds.py"), thing)
	h := held{parent: l}
	harness.Eventually(e.T, "it is ready", func() error {
		line, whole := strings.CutSuffix(l.Log(), "\n")
		f := strings.Fields(line)
		if !whole || len(f) < 2 || f[0] != "ready" {
			if err := l.Alive(); err != nil {
				return err
			}
			return fmt.Errorf("so far: %q", l.Log())
		}
		h.more = nil
		for _, s := range f[1:] {
			n, err := strconv.Atoi(s)
			if err != nil {
				return harness.Final{Err: err}
			}
			h.more = append(h.more, n)
		}
		h.pid, h.more = h.more[0], h.more[1:]
		return nil
	})
	return h
}

// refused wants the same of a dump and of a check, and the process as it was.
// What a process has to be asked for only a dump sees.
func refused(e *harness.Env, pid, code int, reason, hint string, only ...string) {
	e.T.Helper()
	image := e.Join("image")
	for _, args := range [][]string{
		{"dump", "--pid", strconv.Itoa(pid), image},
		{"dump", "--leave-running", "--pid", strconv.Itoa(pid), image},
		{"check", "--pid", strconv.Itoa(pid)},
		{"check", "--json", "--pid", strconv.Itoa(pid)},
	} {
		if len(only) > 0 && only[0] != args[0] {
			continue
		}
		r := e.Try(args...)
		told := r.Out + r.Err
		if r.Code != code || !strings.Contains(told, reason) || !strings.Contains(told, hint) {
			e.T.Errorf("code %d, %q and %q expected: %v", code, reason, hint, r)
		}
		if _, err := os.Lstat(image); !errors.Is(err, os.ErrNotExist) {
			e.T.Fatalf("there is an image (%v)", err)
		}
	}
	if p := e.Partial(); len(p) > 0 {
		e.T.Errorf("part of an image left behind: %v", p)
	}
}

// untouched: nobody traces the process, and it is in the state it was in.
func untouched(t *testing.T, pid int, state byte) {
	t.Helper()
	harness.Eventually(t, "it goes on", func() error {
		s, err := harness.ThreadState(pid, pid)
		if err != nil {
			return harness.Final{Err: err}
		}
		if s != state {
			return fmt.Errorf("its state is %c", s)
		}
		return nil
	})
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), "\nTracerPid:\t0\n") {
		t.Error("it is still traced")
	}
}

// What ties a process to the outside is refused, and the process goes on.
func TestRefused(t *testing.T) {
	const alsoHeld = "is also held by pid "
	for _, c := range []struct {
		thing        string
		reason, hint string
		dumpOnly     bool
		root         bool
		traced       bool
	}{
		{thing: "terminal", reason: "is run by a program outside the container", hint: "start the program with setsid(1)"},
		{thing: "pipe", reason: "it writes into a pipe whose other end is held outside", hint: "give the pid of an ancestor"},
		{thing: "peer", reason: "unix socket: peer (unnamed) is outside", hint: "close the connection"},
		{thing: "fifo", reason: "a program outside the container writes into the FIFO", hint: "end that program"},
		{thing: "slave", reason: "is run by a program outside the container", hint: "start the program with setsid(1)"},
		{thing: "event", reason: "anon_inode:[eventfd] " + alsoHeld, hint: "give the pid of an ancestor of both"},
		{thing: "both_ends", reason: alsoHeld, hint: "give the pid of an ancestor of both"},
		{thing: "shared_epoll", reason: "anon_inode:[eventpoll] " + alsoHeld, hint: "give the pid of an ancestor of both"},
		{thing: "memfd", reason: "/memfd:shared (deleted) " + alsoHeld, hint: "give the pid of an ancestor of both"},
		{thing: "memory", reason: "shared memory " + alsoHeld, hint: "give the pid of an ancestor of both"},
		{thing: "segment", reason: "a System V segment of the host", hint: "start the program with ckpt start"},
		{thing: "undo", reason: "it has undo values (SEM_UNDO)", hint: "start the program with ckpt start", dumpOnly: true},
		{thing: "semaphore", reason: "it has used semaphore set ", hint: "start the program with ckpt start", dumpOnly: true},
		{thing: "queue", reason: "it has used message queue ", hint: "start the program with ckpt start", dumpOnly: true},
		{thing: "namespace", reason: "its network namespace is not ckpt's", hint: "start it without unshare(1)", root: true},
		{thing: "below", reason: "it lives in another pid namespace than ckpt", hint: "save a container with what runs it", root: true},
		{thing: "tracer", reason: "it traces pid ", hint: "let it end that first"},
		{thing: "traced", reason: "it is being traced by a process outside of the container: host pid ", hint: "end the tracer", traced: true},
	} {
		for _, user := range harness.Users() {
			if c.root && !harness.AsRoot(user) {
				continue
			}
			t.Run(c.thing+"/as "+user, func(t *testing.T) {
				t.Parallel()
				e := harness.New(t, user)
				h := hold(e, c.thing)
				switch c.thing {
				case "undo", "semaphore":
					t.Cleanup(func() { unix.Syscall6(unix.SYS_SEMCTL, uintptr(h.more[0]), 0, unix.IPC_RMID, 0, 0, 0) })
				case "queue":
					t.Cleanup(func() { unix.Syscall(unix.SYS_MSGCTL, uintptr(h.more[0]), unix.IPC_RMID, 0) })
				}
				var only []string
				if c.dumpOnly {
					only = []string{"dump"}
					if out := e.Run("check", "--pid", strconv.Itoa(h.pid)); !strings.Contains(out, "not looked at, since it takes a stop: undo values of semaphores (SEM_UNDO); keyrings; System V objects") {
						t.Errorf("a check does not say what it leaves open: %s", out)
					}
				}
				refused(e, h.pid, 3, c.reason, c.hint, only...)
				if !c.traced {
					untouched(t, h.pid, 'S')
				}
				// With the parent nothing is outside, but for what is another's anyway.
				switch c.thing {
				case "pipe", "fifo", "slave", "event", "peer", "both_ends", "shared_epoll", "memfd", "memory", "terminal":
					if out := e.Run("check", "--pid", strconv.Itoa(h.parent.PID)); !strings.Contains(out, ": would dump\n") {
						t.Errorf("the tree of both: %s", out)
					}
				}
			})
		}
	}
}

// A session made outside of the pid namespace that ckpt is in has no number there.
func TestNoSession(t *testing.T) {
	e := harness.New(t, "")
	if e.UID != 0 {
		t.Skip("only root gets a pid namespace with what ckpt needs in it")
	}
	e.Setenv("CKPT", harness.Ckpt())
	e.Setenv("IMAGE", e.Join("image"))
	l := e.Launch(true, harness.Tool(t, "unshare"), "--pid", "--fork", "--mount-proc", harness.Tool(t, "sh"), "-c", `
sleep 1000 & pid=$!
for command in "check --pid $pid" "dump --pid $pid $IMAGE"; do "$CKPT" $command; echo "code $?"; done
setsid sleep 1001 & pid=$!
until [ "$(ps -o comm= -p $pid)" = sleep ]; do :; done
"$CKPT" dump --pid $pid $IMAGE; echo "code $?"`)
	if ws := l.Wait(); ws != 0 {
		t.Errorf("status %v", ws)
	}
	told := l.Log()
	for _, want := range []string{"its session was started outside the container", "setsid CMD"} {
		if n := strings.Count(told, want); n != 2 {
			t.Errorf("%q is said %d times", want, n)
		}
	}
	if n := strings.Count(told, "code 3"); n != 2 || !strings.HasSuffix(told, "code 0\n") {
		t.Errorf("refused %d times", n)
	}
	if t.Failed() {
		t.Log(told)
	}
}

// What is no process that could be saved.
func TestNoProcess(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			refused(e, 0, 2, "--pid 0 is no number of a process", "`ps -e`")
			refused(e, -3, 2, "--pid -3 is no number of a process", "`ps -e`")
			refused(e, 1, 3, "pid 1 (", "give the pid of the program")
			refused(e, os.Getpid(), 3, "is an ancestor of this ckpt", "run ckpt from another terminal")
			gone := e.Launch(true, harness.Tool(t, "true"))
			gone.Wait()
			refused(e, gone.PID, 1, fmt.Sprintf("there is no process %d", gone.PID), "`ps -e`")
			th := hold(e, "thread")
			refused(e, th.pid, 1, fmt.Sprintf("is a thread of process %d", th.parent.PID), fmt.Sprintf("--pid %d", th.parent.PID))
			z := hold(e, "zombie")
			refused(e, z.pid, 1, "has ended; it is only left for its parent", fmt.Sprintf("when process %d has waited", z.parent.PID))
			untouched(t, z.pid, 'Z')
			if pid := kernelThread(); pid != 0 {
				refused(e, pid, 3, "is a thread of the kernel", "give the pid of a program")
			}
		})
	}
}

// kernelThread is one that is seen here; 0: in a pid namespace there is none.
func kernelThread() int {
	if b, err := os.ReadFile("/proc/2/comm"); err == nil && string(b) == "kthreadd\n" {
		return 2
	}
	return 0
}

// Another user's processes are out of an ordinary user's reach.
func TestAnotherUser(t *testing.T) {
	if len(harness.Users()) < 2 {
		t.Skip("only root can start processes of two users")
	}
	root, user := harness.New(t, ""), harness.New(t, "nobody")
	h := hold(root, "nothing")
	refused(user, h.pid, 1, "belongs to user 0", "dump as root")
	untouched(t, h.pid, 'S')
	// One that is only below: root has given itself up for the first.
	mixed := root.Launch(true, harness.Tool(t, "sh"), "-c", fmt.Sprintf("sleep 1000 & exec setpriv --reuid %d --regid %d --clear-groups sleep 1001", user.UID, user.GID))
	harness.Eventually(t, "the first is the user's", func() error {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", mixed.PID))
		if err != nil {
			return harness.Final{Err: err}
		}
		if string(b) != "sleep\x001001\x00" {
			return fmt.Errorf("it runs %q", b)
		}
		return nil
	})
	refused(user, mixed.PID, 3, "it runs with the rights of user 0, and ckpt with those of user", "dump as root")
	untouched(t, mixed.PID, 'S')
}

// A container is saved by its name, by whatever number of the host it is asked for.
func TestContainers(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			c := e.Start("train", nil, harness.Tool(t, "sh"), "-c", "sleep 1000 & wait")
			var ps harness.Ps
			harness.Eventually(t, "both are there", func() error {
				if ps = c.Ps(); len(ps.Processes) < 2 {
					return fmt.Errorf("%+v", ps)
				}
				return nil
			})
			for _, p := range ps.Processes {
				refused(e, p.PID, 1, fmt.Sprintf("host pid %d is pid %d of container train", p.PID, p.VPID), "ckpt dump train DIR")
			}
			supervisor := parent(t, parent(t, ps.Processes[0].PID))
			refused(e, supervisor, 3, fmt.Sprintf("container train is below pid %d", supervisor), "ckpt dump train DIR")
			r := e.Try("ps", "--pid", strconv.Itoa(supervisor))
			if r.Code != 5 || !strings.Contains(r.Err, "it is the supervisor of container train") {
				t.Errorf("%v", r)
			}
		})
	}
}

func parent(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
	n, err := strconv.Atoi(f[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Whenever a dump is stopped or killed there is either a tree that goes on as
// it did, or a whole image of it.
func TestInterrupted(t *testing.T) {
	python := harness.Tool(t, "python3", "/usr/bin")
	who := []string{"main", "session", "member", "thread", "group", "other", "left"}
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGKILL} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			e := harness.New(t, "")
			l := behind(e, true, python, harness.Program(t, "branches.py"))
			var j harness.Journal
			harness.GoesOn(t, l, &j, who...)
			begin := time.Now()
			l.Dump(e.Join("probe"), "--leave-running")
			work := time.Since(begin)
			const times = 16
			for i := range times {
				after, image := work*time.Duration(i+1)/times, e.Join(fmt.Sprintf("image%d", i))
				cmd := e.Command(t.Context(), harness.Ckpt(), "dump", "--pid", strconv.Itoa(l.PID), image)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				timer := time.AfterFunc(after, func() { cmd.Process.Signal(sig) })
				err := cmd.Wait()
				timer.Stop()
				if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
					t.Fatal(err)
				}
				_, absent := os.Lstat(image)
				if l.Alive() == nil && absent != nil {
					harness.GoesOn(t, l, &j, who...)
					for _, p := range e.Partial() {
						if sig != unix.SIGKILL {
							t.Errorf("after %v of %v it left %s", after, work, p)
						}
						if err := os.RemoveAll(p); err != nil {
							t.Fatal(err)
						}
					}
					continue
				}
				if absent != nil {
					t.Fatalf("after %v of %v it has ended, and there is no image", after, work)
				}
				e.Run("verify", image)
				if l.Alive() == nil { // killed between the image and the end
					harness.GoesOn(t, l, &j, who...)
					continue
				}
				l.Wait()
				if left := e.Processes(); len(left) > 0 {
					t.Fatalf("after %v of %v there is an image, and some of the tree are left: %v", after, work, left)
				}
				e.Restore(image, "tree")
				harness.GoesOn(t, adopted{&harness.Container{Env: e, Name: "tree"}, l}, &j, who...)
				return
			}
		})
	}
}

// The first process is killed while the tree is saved: the dump says so, there
// is no image, and the others go on.
func TestDies(t *testing.T) {
	e := harness.New(t, "")
	who := []string{"main", "session", "member", "thread", "group", "other", "left"}
	var work time.Duration
	const times = 8
	for i := range times {
		// Two shells: the program's own parent stays.
		l := behind(e, true, harness.Tool(t, "sh"), "-c", `"$@" & wait`, "sh", harness.Tool(t, "python3", "/usr/bin"), harness.Program(t, "branches.py"))
		var j harness.Journal
		harness.GoesOn(t, l, &j, who...)
		if i == 0 {
			begin := time.Now()
			l.Dump(e.Join("probe"), "--leave-running")
			work = time.Since(begin)
		}
		others := harness.Below(l.PID)[1:]
		t.Cleanup(func() {
			for _, pid := range others {
				unix.Kill(pid, unix.SIGKILL)
			}
		})
		timer := time.AfterFunc(work*time.Duration(i)/times, func() { l.Kill("KILL") })
		image := e.Join(fmt.Sprintf("image%d", i))
		r := e.Try("dump", "--leave-running", "--pid", strconv.Itoa(l.PID), image)
		timer.Stop()
		switch _, absent := os.Lstat(image); {
		case r.Code == 0 && absent == nil: // it came too late
		case r.Code == 1 && absent != nil && (strings.Contains(r.Err, "ended meanwhile") || strings.Contains(r.Err, "there is no process") || strings.Contains(r.Err, "has ended; it is only left")):
			harness.GoesOn(t, orphans{l, others}, &j, who...)
		default:
			t.Errorf("killed after %v of %v: %v", work*time.Duration(i)/times, work, r)
		}
	}
}

// orphans are what is left of a tree.
type orphans struct {
	*harness.Launched
	pids []int
}

func (o orphans) Alive() error {
	for _, pid := range o.pids {
		if _, err := harness.ThreadState(pid, pid); err != nil {
			return harness.Final{Err: err}
		}
	}
	return nil
}
