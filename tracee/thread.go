package tracee

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/procfs"
)

// Regs are the general registers of a thread (NT_PRSTATUS).
type Regs = unix.PtraceRegs

// Thread is a traced thread.
type Thread struct {
	PID  int // host id of its process
	TID  int // host id of the thread
	VPID int // the same two in the thread's own pid namespace
	VTID int

	done     unix.Signal // by which the interpreter tells its end
	inSignal bool        // stands in a signal-delivery-stop
	late     *siginfo    // a genuine done signal that came while code ran
	stopped  unix.Signal // see StoppedBy
	born     []int       // host tids of children of calls run so far
	outlives bool        // see Outlive
}

// ErrGone: the thread ended while it was being worked on (SIGKILL, or the
// whole process exited).
var ErrGone = errors.New("the thread has ended")

// Options of Seize.
type Options struct {
	// SuspendSeccomp lets injected calls pass the thread's seccomp filters.
	// It takes CAP_SYS_ADMIN in the first user namespace.
	SuspendSeccomp bool
	// ExitKill kills the thread's process if ckpt dies. Only for processes
	// that ckpt itself made.
	ExitKill bool
	// Children attaches to what the thread forks (Thread.Born).
	Children bool
	// Status saves reading /proc/TID/status once more, if at hand. Without
	// it, Seize reads the ids from there.
	Status *procfs.Status
}

func (o Options) bits() uintptr {
	b := unix.PTRACE_O_TRACESYSGOOD
	if o.SuspendSeccomp {
		b |= unix.PTRACE_O_SUSPEND_SECCOMP
	}
	if o.ExitKill {
		b |= unix.PTRACE_O_EXITKILL
	}
	if o.Children {
		b |= unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK
	}
	return uintptr(b)
}

// Seize attaches to a thread, which goes on running. EPERM: not permitted or
// traced by another (TracerPid of its status tells). ESRCH: no such thread,
// or a zombie.
func Seize(tid int, o Options) (*Thread, error) {
	if err := supported(); err != nil {
		return nil, err
	}
	t := &Thread{TID: tid, done: defaultDone}
	st := o.Status
	if st == nil {
		var err error
		if st, err = statusOf(tid); err != nil {
			return nil, err
		}
	}
	t.setIDs(st)
	if _, err := ptrace(unix.PTRACE_SEIZE, tid, 0, o.bits()); err != nil {
		return nil, fmt.Errorf("trace thread (PTRACE_SEIZE): %w", err)
	}
	return t, nil
}

// SetOptions changes what Seize was given. The thread must be stopped.
func (t *Thread) SetOptions(o Options) error {
	_, err := ptrace(unix.PTRACE_SETOPTIONS, t.TID, 0, o.bits())
	return t.wrap("set trace options", err)
}

func statusOf(tid int) (*procfs.Status, error) {
	p, err := procfs.Open(tid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return p.Status()
}

func (t *Thread) setIDs(st *procfs.Status) {
	t.PID = st.Tgid
	t.VPID, t.VTID = st.Tgid, t.TID
	if n := len(st.NStgid); n > 0 {
		t.VPID = st.NStgid[n-1]
	}
	if n := len(st.NSpid); n > 0 {
		t.VTID = st.NSpid[n-1]
	}
}

// Interrupt asks the thread to stop; WaitStopped waits until it has.
func (t *Thread) Interrupt() error {
	_, err := ptrace(unix.PTRACE_INTERRUPT, t.TID, 0, 0)
	return t.wrap("interrupt", err)
}

// WaitStopped waits for the stop that Interrupt asked for. A signal that the
// thread was about to take is delivered first, and the thread stopped again
// before the first instruction of a handler. groupStop is the signal that
// stopped the whole process (SIGSTOP, SIGTSTP, ...), 0 if it was running.
//
// A call that the stop itself made fail with EINTR is marked to be restarted
// (see RestartsEINTR), so that not even the death of ckpt shows it.
func (t *Thread) WaitStopped() (groupStop unix.Signal, err error) {
	for {
		ws, err := t.wait()
		if err != nil {
			return 0, err
		}
		event, sig := ws>>16, ws.StopSignal()
		if event == unix.PTRACE_EVENT_STOP {
			t.inSignal = false
			t.noteStop(ws)
			return t.stopped, t.keepRestartable()
		}
		if event != 0 || sig == unix.SIGTRAP|0x80 {
			sig = 0
		}
		// any other stop takes the place of the one asked for: ask again
		if err := t.Interrupt(); err != nil {
			return 0, err
		}
		if err := t.resume(unix.PTRACE_CONT, sig); err != nil {
			return 0, err
		}
	}
}

// noteStop notes what an event stop tells of the whole process: SIGTRAP unless
// it is stopped.
func (t *Thread) noteStop(ws unix.WaitStatus) {
	t.stopped = ws.StopSignal()
	if t.stopped == unix.SIGTRAP {
		t.stopped = 0
	}
}

// StoppedBy is the signal that has stopped the whole process, 0 if none has:
// when t stopped, or while code ran in it. A SIGCONT that has come since then
// waits for the process.
func (t *Thread) StoppedBy() unix.Signal { return t.stopped }

func (t *Thread) keepRestartable() error {
	r, err := t.Regs()
	if err != nil {
		return err
	}
	if !restartEINTR(&r) {
		return nil
	}
	return t.SetRegs(r)
}

// wait waits for the next stop; ErrGone when the thread has ended instead.
func (t *Thread) wait() (unix.WaitStatus, error) {
	ws, err := wait4(t.TID)
	if err != nil {
		return 0, t.wrap("wait for thread", err)
	}
	if !ws.Stopped() {
		return 0, fmt.Errorf("%w (wait status %#x)", ErrGone, uint32(ws))
	}
	return ws, nil
}

func wait4(tid int) (unix.WaitStatus, error) {
	var ws unix.WaitStatus
	// What is there already needs nobody to see to it (WillStop).
	if pid, err := unix.Wait4(tid, &ws, unix.WALL|unix.WNOHANG, nil); pid == tid && err == nil {
		return ws, nil
	}
	defer untangle(tid)()
	for {
		_, err := unix.Wait4(tid, &ws, unix.WALL, nil)
		if err != unix.EINTR {
			return ws, err
		}
	}
}

func (t *Thread) resume(req int, sig unix.Signal) error {
	_, err := ptrace(req, t.TID, 0, uintptr(sig))
	t.inSignal = false
	return t.wrap("resume thread", err)
}

// wrap adds words; ESRCH of a thread that was stopped a moment ago means it is gone.
func (t *Thread) wrap(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case err == unix.ESRCH || err == unix.ECHILD:
		return fmt.Errorf("%s: %w", what, ErrGone)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Detach lets the thread go on by itself, delivering sig (0: none) if it
// stands in a signal-delivery-stop. What came for it while injected code ran
// is delivered too.
func (t *Thread) Detach(sig unix.Signal) error {
	late := t.late
	if late != nil && sig == 0 && t.inSignal {
		// The kernel queues it again if it is blocked (ptrace_signal()).
		if err := setSiginfo(t.TID, *late); err == nil {
			sig, late = unix.Signal(late.Signo), nil
		}
	}
	if _, err := ptrace(unix.PTRACE_DETACH, t.TID, 0, uintptr(sig)); err != nil {
		return t.wrap("detach", err)
	}
	if late != nil {
		if err := unix.Tgkill(t.PID, t.TID, unix.Signal(late.Signo)); err != nil && err != unix.ESRCH {
			return fmt.Errorf("send signal %d again: %w", late.Signo, err)
		}
	}
	t.late, t.inSignal = nil, false
	return nil
}

// Kill kills the thread's whole process and waits until it is gone for ckpt:
// reaped, or a zombie of another parent.
func (t *Thread) Kill() error {
	if err := unix.Kill(t.PID, unix.SIGKILL); err != nil && err != unix.ESRCH {
		return fmt.Errorf("kill process: %w", err)
	}
	// The end of a leader is told only after its traced threads have been
	// waited for, each by its own id.
	var tids []int
	if p, err := procfs.Open(t.PID); err == nil {
		tids, _ = p.Tasks() // nothing to wait for when there are none any more
		p.Close()
	}
	for _, tid := range tids {
		if tid == t.PID {
			continue
		}
		if err := waitKilled(tid); err != nil {
			return err
		}
	}
	return waitKilled(t.PID)
}

func waitKilled(tid int) error {
	for {
		ws, err := wait4(tid)
		if err == unix.ECHILD || err == nil && !ws.Stopped() {
			return nil
		}
		if err != nil {
			return fmt.Errorf("wait for killed process: %w", err)
		}
		// a stop on the way (PTRACE_EVENT_EXIT): let it go on dying
		if _, err := ptrace(unix.PTRACE_CONT, tid, 0, 0); err != nil && err != unix.ESRCH {
			return fmt.Errorf("resume killed process: %w", err)
		}
	}
}

// Born are the host thread ids of the processes and threads made by calls run
// in t since the last Born, in order. Each is attached, but its first stop
// has not been waited for: see Adopt. Needs Options.Children.
func (t *Thread) Born() []int {
	b := t.born
	t.born = nil
	return b
}
