package registers

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// program is testdata/wait.c, built.
var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "ckpt-registers-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "wait")
		if out, err := exec.Command("gcc", "-O1", "-pthread", "-o", program, "testdata/wait.c").CombinedOutput(); err != nil {
			panic(fmt.Sprintf("gcc: %v: %s", err, out))
		}
		return m.Run()
	}())
}

// waiter is a running testdata/wait.c.
type waiter struct {
	t     *testing.T
	pid   int
	lines *bufio.Scanner
	held  time.Duration // that it was stopped
}

func startWaiter(t *testing.T, call string) *waiter {
	t.Helper()
	c := exec.Command(program, call)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	w := &waiter{t: t, pid: c.Process.Pid, lines: bufio.NewScanner(out)}
	if got := w.line(); got != "start" {
		t.Fatalf("it says %q", got)
	}
	return w
}

func (w *waiter) line() string {
	w.t.Helper()
	if !w.lines.Scan() {
		w.t.Fatalf("it ended: %v", w.lines.Err())
	}
	return w.lines.Text()
}

// stop stops the leading thread as the dump's driver does.
func (w *waiter) stop(shown shown) (*kind.Proc, *kind.Task) {
	w.t.Helper()
	p, err := procfs.Open(w.pid)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { p.Close() })
	task := &kind.Task{FS: p, Core: &criu_core.CoreEntry{ThreadCore: &criu_core.ThreadCoreEntry{}}, Extra: &image.Thread{},
		Host: pidns.HostPID(w.pid), VTID: pidns.VPID(w.pid)}
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	task.Before.Syscall, err = p.Syscall()
	must(err)
	task.Before.Stack, err = shown(p)
	must(err)
	task.Before.ExecStart, err = p.SchedExecStart()
	must(err)
	task.Stat, err = p.Stat()
	must(err)
	task.Before.CPU = task.Stat.Processor
	task.Traced, err = tracee.Seize(w.pid, tracee.Options{})
	must(err)
	must(task.Traced.Interrupt())
	_, err = task.Traced.WaitStopped()
	must(err)
	task.Regs, err = task.Traced.Regs()
	must(err)
	task.Status, err = p.Status()
	must(err)
	proc := &kind.Proc{VPID: task.VTID, Host: task.Host, FS: p, Status: task.Status, Stat: task.Stat, TC: &criu_core.TaskCoreEntry{}, Threads: []*kind.Task{task}}
	proc.Maps, err = p.MapsOnly()
	must(err)
	return proc, task
}

// again gives the stopped thread the state that was saved, as a restore does
// to a new one: nothing of the kernel's record of the call is used.
func (w *waiter) again(k kind.Thread, p *kind.Proc, task *kind.Task) error {
	in, err := tracee.Inject(task.Traced, p.Maps, 1<<16)
	if err != nil {
		return err
	}
	s := tracee.NewScript(in.Site().Base)
	read, err := k.Ask(nil, p, task, s)
	if err != nil {
		return err
	}
	if err := in.Run(task.Traced, s); err != nil {
		return err
	}
	if err := read(); err != nil {
		return err
	}
	tt := &kind.TargetThread{VTID: task.VTID, Traced: task.Traced, Core: task.Core, Extra: task.Extra,
		Script: tracee.NewScript(in.Site().Base), Last: tracee.NewScript(in.Site().Base)}
	target := &kind.Target{Threads: []*kind.TargetThread{tt}, TC: p.TC}
	// rseq cannot be registered twice
	task.Core.ThreadCore.RseqEntry = nil
	if err := k.Restore(nil, target, tt); err != nil {
		return err
	}
	for _, s := range []*tracee.Script{tt.Script, tt.Last} {
		if err := in.Run(task.Traced, s); err != nil {
			return err
		}
	}
	if err := k.Final(in.Site(), target, tt); err != nil {
		return err
	}
	mask, err := task.Traced.SigMask()
	if err != nil {
		return err
	}
	return errors.Join(in.Remove(), task.Traced.SetRegs(tt.Regs), task.Traced.SetSigMask(mask))
}

// shown is what the dumper may read of where in the kernel a thread is.
type shown func(*procfs.Proc) (string, error)

func nothing(*procfs.Proc) (string, error) { return "", nil }

// leave stops the thread and lets it go on.
func (w *waiter) leave(shown shown) {
	w.dump(shown, func(k kind.Thread, p *kind.Proc, task *kind.Task) error { return k.Resume(p, task) })
}

// restore stops the thread and restores it.
func (w *waiter) restore(shown shown) { w.dump(shown, w.again) }

func (w *waiter) dump(shown shown, then func(kind.Thread, *kind.Proc, *kind.Task) error) {
	w.t.Helper()
	began := time.Now()
	k := Kind()
	p, task := w.stop(shown)
	if err := k.Observe(nil, p, task); err != nil {
		w.t.Fatal(err)
	}
	if err := then(k, p, task); err != nil {
		w.t.Fatal(err)
	}
	if err := task.Traced.Detach(0); err != nil {
		w.t.Fatal(err)
	}
	w.held += time.Since(began)
}

// signal makes the kernel restart the call on its own.
func (w *waiter) signal() {
	w.t.Helper()
	for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGCONT} {
		if err := unix.Kill(w.pid, sig); err != nil {
			w.t.Fatal(err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// calls and what they return after 600 ms.
var calls = []struct{ call, want string }{
	{"nanosleep", "0 0"},
	{"nanosleep rest", "0 0"},
	{"nanosleep inline", "0 0"},
	{"clock_nanosleep", "0 0"},
	{"clock_nanosleep realtime", "0 0"},
	{"clock_nanosleep abs", "0 0"},
	{"clock_nanosleep cpu rest", "0 0"},
	{"poll", "0 0"},
	{"poll nothing", "0 0"},
	{"ppoll", "0 0"},
	{"select", "0 0"},
	{"pselect6", "0 0"},
	{"epoll_wait", "0 0"},
	{"epoll_pwait", "0 0"},
	{"epoll_pwait2", "0 0"},
	{"rt_sigtimedwait", "-1 EAGAIN"},
	{"semtimedop", "-1 EAGAIN"},
	{"io_getevents", "0 0"},
	{"io_pgetevents", "0 0"},
	{"futex", "-1 ETIMEDOUT"},
	{"futex private", "-1 ETIMEDOUT"},
	{"futex bitset", "-1 ETIMEDOUT"},
	{"mq_timedreceive", "-1 ETIMEDOUT"},
}

// TestInterruptedCalls stops a waiting call twice on its way. It must end as
// if it had not been stopped, after its own time.
func TestInterruptedCalls(t *testing.T) {
	for _, c := range calls {
		for _, m := range []struct {
			name  string
			steps []func(*waiter, shown)
			shown shown
		}{
			{"left running", []func(*waiter, shown){(*waiter).leave, (*waiter).leave}, (*procfs.Proc).Stack},
			{"restored", []func(*waiter, shown){(*waiter).restore, (*waiter).restore}, (*procfs.Proc).Stack},
			{"restored after it was left running", []func(*waiter, shown){(*waiter).leave, (*waiter).restore}, nothing},
		} {
			t.Run(c.call+"/"+m.name, func(t *testing.T) {
				if !strings.Contains(c.call, "cpu") { // these need one for themselves
					t.Parallel()
				}
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				w := startWaiter(t, c.call)
				for _, step := range m.steps {
					<-time.After(pause)
					step(w, m.shown)
				}
				w.ends(c.want, 0)
			})
		}
	}
}

// pause is how long a call waits before it is stopped.
const pause = 200 * time.Millisecond

// TestCallRestartedBefore stops a call that restart_syscall(2) goes on with
// after a signal: what it was must be found out. How long it had waited before
// the signal the kernel does not tell.
func TestCallRestartedBefore(t *testing.T) {
	for _, c := range calls {
		switch call, _, _ := strings.Cut(c.call, " "); call {
		case "nanosleep", "clock_nanosleep", "poll", "futex":
		default:
			continue
		}
		for name, shown := range map[string]shown{"its stack": (*procfs.Proc).Stack, "where it sleeps": (*procfs.Proc).Wchan, "nothing": nothing} {
			t.Run(c.call+"/shown "+name, func(t *testing.T) {
				t.Parallel()
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				w := startWaiter(t, c.call)
				began := time.Now()
				<-time.After(pause / 2)
				w.signal()
				lost := time.Since(began)
				<-time.After(pause)
				w.restore(shown)
				w.ends(c.want, lost)
			})
		}
	}
}

// ends: after 600 ms, the time it was held, that it waited for a CPU, and what
// was lost. A call that was made from the start again takes a pause more: half
// of that is left to the lateness of timers, so that only a machine that is
// later by that much is taken for a fault, and no load on the CPUs.
func (w *waiter) ends(want string, lost time.Duration) {
	w.t.Helper()
	got := w.line()
	var result, errno string
	var ms, delay time.Duration
	if _, err := fmt.Sscanf(got, "%s %s %d %d", &result, &errno, &ms, &delay); err != nil {
		w.t.Fatalf("%q: %v", got, err)
	}
	most := 600*time.Millisecond + w.held + delay*time.Millisecond + lost + pause/2
	if result+" "+errno != want || ms < 598 || ms*time.Millisecond > most {
		w.t.Errorf("it ended with %q, want %q after 600 ms and at most %v", got, want, most)
	}
}

func TestSocketTimeoutShowsNoEINTR(t *testing.T) {
	t.Parallel()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	w := startWaiter(t, "recv")
	<-time.After(pause)
	k := Kind()
	p, task := w.stop((*procfs.Proc).Stack)
	if err := k.Observe(nil, p, task); err != nil {
		t.Fatal(err)
	}
	if err := k.Resume(p, task); err != nil {
		t.Fatal(err)
	}
	if err := task.Traced.Detach(0); err != nil {
		t.Fatal(err)
	}
	if got := w.line(); !strings.HasPrefix(got, "-1 EAGAIN ") {
		t.Errorf("it ended with %q", got)
	}
}

// TestCPUClockSleep: how much CPU time is left cannot be told.
func TestCPUClockSleep(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	w := startWaiter(t, "clock_nanosleep cpu")
	for {
		s, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", w.pid))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(s), "230 ") {
			break
		}
		runtime.Gosched()
	}
	k := Kind()
	p, task := w.stop((*procfs.Proc).Stack)
	if err := k.Observe(nil, p, task); !errors.Is(err, failure.ErrUnsupported) {
		t.Errorf("observed with error %v", err)
	}
	if err := k.Resume(p, task); err != nil {
		t.Fatal(err)
	}
	if err := task.Traced.Detach(0); err != nil {
		t.Fatal(err)
	}
	if got := w.line(); !strings.HasPrefix(got, "0 0 ") {
		t.Errorf("it ended with %q", got)
	}
}
