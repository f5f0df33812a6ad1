package tracee

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// GroupStop stops t's whole process as a stop signal does, t first; each of
// its other threads then needs a JoinStop. It tells whether sig did: a stop
// from the terminal is ignored in an orphaned process group, and by who ignores
// it. The process stays stopped when its threads are detached.
//
// Preconditions: t stands in an event stop with its own registers; sig is
// SIGSTOP, or a stop signal that t neither blocks nor catches. No instruction
// of t is executed.
func (t *Thread) GroupStop(sig unix.Signal) (stopped bool, err error) {
	mask, err := t.SigMask()
	if err != nil {
		return false, err
	}
	// What waits for t must go on waiting, now that t is resumed.
	if err := t.SetSigMask(^bit(sig)); err != nil {
		return false, err
	}
	if stopped, err = t.groupStop(sig); err != nil {
		return false, err
	}
	return stopped, t.SetSigMask(mask)
}

func (t *Thread) groupStop(sig unix.Signal) (bool, error) {
	// Nobody blocks SIGSTOP, so it is what t meets first, before it returns to
	// its program; there it is exchanged for sig.
	if err := unix.Tgkill(t.PID, t.TID, unix.SIGSTOP); err != nil {
		return false, t.wrap("stop it", err)
	}
	if err := t.resume(unix.PTRACE_CONT, 0); err != nil {
		return false, err
	}
	ws, err := t.wait()
	if err != nil {
		return false, err
	}
	if ws>>16 != 0 || ws.StopSignal() != unix.SIGSTOP {
		return false, fmt.Errorf("stop it: unexpected stop %#x", uint32(ws))
	}
	// A stop is asked for in any case: t must not go on if sig is ignored.
	if err := t.Interrupt(); err != nil {
		return false, err
	}
	return t.toEventStop(sig)
}

// JoinStop lets a thread take part in the stop that GroupStop has begun.
func (t *Thread) JoinStop() error {
	if err := t.Interrupt(); err != nil {
		return err
	}
	stopped, err := t.toEventStop(0)
	if err == nil && !stopped {
		err = fmt.Errorf("stop it: the thread takes no part")
	}
	return err
}

// toEventStop resumes t, which has been interrupted, with a signal. The event
// stop that follows tells SIGTRAP unless the process is stopped.
func (t *Thread) toEventStop(sig unix.Signal) (stopped bool, err error) {
	if err := t.resume(unix.PTRACE_CONT, sig); err != nil {
		return false, err
	}
	ws, err := t.wait()
	if err != nil {
		return false, err
	}
	if ws>>16 != unix.PTRACE_EVENT_STOP {
		return false, fmt.Errorf("stop it: unexpected stop %#x", uint32(ws))
	}
	t.noteStop(ws)
	return t.stopped != 0, nil
}
