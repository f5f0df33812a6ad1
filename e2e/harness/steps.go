package harness

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/kernel"
)

// changing are the system calls of ckpt that change something beyond its own
// memory: its steps. Those of the processes that it dumps or rebuilds are not told
// apart: they run by its ptrace(2).
var changing = []uint64{
	unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_WRITEV, unix.SYS_PWRITEV, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE,
	unix.SYS_FSYNC, unix.SYS_SYNCFS, unix.SYS_SYNC_FILE_RANGE, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_UNLINKAT, unix.SYS_MKDIRAT,
	unix.SYS_MKNODAT, unix.SYS_SYMLINKAT, unix.SYS_LINKAT, unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT,
	unix.SYS_UTIMENSAT, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_SETNS, unix.SYS_UNSHARE, unix.SYS_CHROOT,
	unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_BIND, unix.SYS_CONNECT, unix.SYS_LISTEN, unix.SYS_ACCEPT4, unix.SYS_SENDMSG, unix.SYS_SENDTO,
	unix.SYS_RECVMSG, unix.SYS_SETSOCKOPT, unix.SYS_SHUTDOWN, unix.SYS_IOCTL, unix.SYS_FLOCK, unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_KILL, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_PIDFD_GETFD, unix.SYS_CLONE, unix.SYS_EXECVE, unix.SYS_EXIT_GROUP, unix.SYS_PRCTL,
	unix.SYS_MQ_OPEN, unix.SYS_MQ_UNLINK, unix.SYS_MSGSND, unix.SYS_SPLICE, unix.SYS_TEE, unix.SYS_VMSPLICE, unix.SYS_WAITID, unix.SYS_WAIT4,
}

// ptraceGetRegs is PTRACE_GETREGS, which not every architecture has.
const ptraceGetRegs = 12

// looking are the requests of ptrace(2) that change nothing.
var looking = []uint64{
	unix.PTRACE_PEEKDATA, unix.PTRACE_PEEKTEXT, unix.PTRACE_PEEKUSR, ptraceGetRegs, unix.PTRACE_GETREGSET,
	unix.PTRACE_GETSIGINFO, unix.PTRACE_GETEVENTMSG, unix.PTRACE_GETSIGMASK, unix.PTRACE_GET_SYSCALL_INFO, unix.PTRACE_PEEKSIGINFO,
	unix.PTRACE_SECCOMP_GET_FILTER, unix.PTRACE_GET_RSEQ_CONFIGURATION,
}

// syscallEntry is a system call that is about to be made.
type syscallEntry struct {
	nr   uint64
	args [6]uint64
}

func (s syscallEntry) changes() bool {
	switch s.nr {
	case unix.SYS_OPENAT:
		return s.args[2]&(unix.O_CREAT|unix.O_TRUNC|unix.O_TMPFILE&^unix.O_DIRECTORY) != 0
	case unix.SYS_PTRACE:
		return !slices.Contains(looking, s.args[0])
	}
	return slices.Contains(changing, s.nr)
}

// Stepped is how a command of ckpt went whose steps were counted.
type Stepped struct {
	Result
	Steps int    // that it took
	Hit   bool   // it came to the step
	What  string // which that was, if it was to fail: "fsync /tmp/image.partial"
}

// AtStep runs ckpt and sends it a signal when it, or the supervisor that it starts,
// is about to take its step n, counted from 1: to the one that takes it with
// SIGKILL, else to the command. It does not come to that if
// there are fewer steps: of 0, none is.
//
// The harness traces ckpt, and ckpt the container: a tracer can be traced. But
// nobody can be traced twice: of the children of ckpt, the bare ones are its own.
func (e *Env) AtStep(n int, sig unix.Signal, args ...string) Stepped {
	e.T.Helper()
	return e.BeforeStep(n, func(command, taker int) error {
		if sig == unix.SIGKILL {
			return unix.Kill(taker, sig) // a thread's id will do for its process
		}
		return unix.Kill(command, sig)
	}, args...)
}

// BeforeStep is AtStep for anything else than a signal: do is called with the host
// pid of the command, and that of the thread which is about to take the step.
func (e *Env) BeforeStep(n int, do func(command, taker int) error, args ...string) Stepped {
	e.T.Helper()
	t := newTracer(n, args)
	t.do = func(tid int, _ syscallEntry) error { return do(t.main, tid) }
	return e.trace(t, args)
}

func (e *Env) trace(t *tracer, args []string) Stepped {
	e.T.Helper()
	done := make(chan error, 1)
	var out Stepped
	go func() {
		done <- kernel.OnThread(func() (err error) {
			// Whatever of ckpt goes on running, a supervisor, is let go by the end of
			// this thread (exit_ptrace() in kernel/ptrace.c).
			out, err = e.steps(t, args)
			return err
		})
	}()
	select {
	case err := <-done:
		if err != nil {
			e.T.Fatalf("ckpt %v: %v", args, err)
		}
	case <-time.After(patience):
		e.T.Fatalf("ckpt %v: it does not end", args)
	}
	return out
}

func (e *Env) steps(t *tracer, args []string) (out Stepped, err error) {
	cmd := e.Command(context.Background(), Ckpt(), args...)
	var said, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &errs
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Ptrace = true
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return out, err
	}
	t.main = cmd.Process.Pid
	if err := t.seize(); err != nil {
		return out, fmt.Errorf("seize it: %w", err)
	}
	code, err := t.run()
	if err != nil {
		return out, err
	}
	// The tracer has reaped it: Wait waits for what it has written only.
	_ = cmd.Wait()
	out.Steps, out.Hit, out.What = t.count, t.hit, t.what
	out.Result = Result{Args: args, Code: code, Out: said.String(), Err: errs.String(), Took: time.Since(begin)}
	return out, nil
}

// threads follows those of a process, family its children, too.
const (
	threads = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE
	family  = threads | unix.PTRACE_O_TRACEVFORK
)

type tracer struct {
	main, n int
	follow  bool
	step    func(tid int, s syscallEntry) string // what a step is called; "": it is none
	do      func(tid int, s syscallEntry) error  // comes before step n
	end     func(tid int) error                  // at the end of each call
	stays   bool                                 // so do all steps behind it
	goesOn  bool                                 // calls behind it are looked at, too
	count   int
	hit     bool
	what    string
	seen    map[int]bool // threads that are set up
	inside  map[int]bool // those in a system call
}

func newTracer(n int, args []string) *tracer {
	return &tracer{
		n: n, follow: args[0] == "restore" || args[0] == "start", seen: map[int]bool{}, inside: map[int]bool{},
		step: func(_ int, s syscallEntry) string {
			if s.changes() {
				return "step"
			}
			return ""
		},
		end: func(int) error { return nil },
	}
}

// seize takes a command that was started with PTRACE_TRACEME, and has executed ckpt,
// by PTRACE_SEIZE instead: what a seized process brings forth begins without a
// SIGSTOP. That would stop it for good if the tracer ended before it came (ptrace(2)).
func (t *tracer) seize() error {
	options := threads
	if t.follow {
		options = family
	}
	t.seen[t.main] = true
	for _, do := range []func() error{
		t.stops,
		func() error { return unix.Kill(t.main, unix.SIGSTOP) },
		func() error { return unix.PtraceDetach(t.main) },
		t.stops,
		func() error { return unix.PtraceSeize(t.main) },
		t.stops,
		func() error { return unix.PtraceSetOptions(t.main, options) },
		func() error { return unix.Kill(t.main, unix.SIGCONT) },
		func() error { return unix.PtraceSyscall(t.main, 0) },
	} {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// stops waits until the command has stopped.
func (t *tracer) stops() error {
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(t.main, &ws, unix.WALL|unix.WUNTRACED, nil)
		if err == unix.EINTR {
			continue
		}
		if err == nil && !ws.Stopped() {
			err = fmt.Errorf("it has ended: %#x", ws)
		}
		return err
	}
}

// run lets ckpt run until the command has ended, and gives its exit code, -1 when it
// was killed.
func (t *tracer) run() (int, error) {
	for {
		var ws unix.WaitStatus
		tid, err := unix.Wait4(-1, &ws, unix.WALL|unix.WNOTHREAD, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait: %w", err)
		}
		if !ws.Stopped() {
			if tid != t.main {
				continue
			}
			if ws.Exited() {
				return ws.ExitStatus(), nil
			}
			return -1, nil
		}
		deliver, err := t.stopped(tid, ws)
		if err == nil {
			err = t.resume(tid, int(deliver))
		}
		if err != nil && err != unix.ESRCH { // killed meanwhile
			return 0, fmt.Errorf("trace %d: %w", tid, err)
		}
	}
}

// resume lets a stopped thread go on: to its next system call, as long as any counts.
func (t *tracer) resume(tid, deliver int) error {
	if t.hit && !t.goesOn {
		return unix.PtraceCont(tid, deliver)
	}
	return unix.PtraceSyscall(tid, deliver)
}

// stopped looks at a thread that has stopped; deliver is the signal it goes on with.
func (t *tracer) stopped(tid int, ws unix.WaitStatus) (deliver unix.Signal, err error) {
	sig := unix.Signal(ws.StopSignal())
	switch {
	case !t.seen[tid]: // just born
		t.seen[tid] = true
		options := threads
		if t.follow && unix.Tgkill(t.main, tid, 0) == nil { // a thread of the command's
			options = family
		}
		return 0, unix.PtraceSetOptions(tid, options)
	case sig == unix.SIGTRAP|0x80:
		return 0, t.call(tid)
	case sig == unix.SIGTRAP: // an event
		return 0, nil
	}
	return sig, nil
}

// call is at the entry of a system call, or at its end: by turns.
func (t *tracer) call(tid int) error {
	if t.inside[tid] = !t.inside[tid]; !t.inside[tid] {
		return t.end(tid)
	}
	s, err := entryOf(tid)
	if err != nil {
		return err
	}
	what := t.step(tid, s)
	if what == "" {
		return nil
	}
	if t.count++; t.count != t.n && !(t.hit && t.stays) {
		return nil
	}
	if !t.hit {
		t.hit, t.what = true, what
	}
	return t.do(tid, s)
}

// entryOf reads the call that a stopped thread is about to make: a number, and six
// arguments in hexadecimal.
func entryOf(tid int) (s syscallEntry, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", tid))
	if err != nil {
		return s, unix.ESRCH // it was killed
	}
	if len(b) == 0 || b[0] < '0' || b[0] > '9' { // "running", -1: on its way to the end; 0 is read(2), which is no step
		return s, nil
	}
	_, err = fmt.Sscanf(string(b), "%d %v %v %v %v %v %v", &s.nr, &s.args[0], &s.args[1], &s.args[2], &s.args[3], &s.args[4], &s.args[5])
	return s, err
}
