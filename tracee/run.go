package tracee

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Run runs s, which was built with NewScript(site.Base) or a later address
// within the area, in t. All signals but the one that tells the end should be
// blocked in t (BlockSignals).
func (t *Thread) Run(site Site, s *Script) error {
	if err := t.Start(site, s); err != nil {
		return err
	}
	return t.Finish(site, s)
}

// Start writes s into the area and sets t going; Finish waits for its end.
// Between the two, other threads may be started.
func (t *Thread) Start(site Site, s *Script) error {
	if s.base < site.Base || s.base+s.Size() > site.Base+site.Size {
		return fmt.Errorf("script of %d bytes at %#x does not fit the area of %d bytes at %#x", s.Size(), s.base, site.Size, site.Base)
	}
	if s.Len() == 0 {
		return WriteMemory(t.TID, s.base, s.encode())
	}
	if err := WriteMemory(t.TID, s.base, s.encode()); err != nil {
		return err
	}
	r, err := t.Regs()
	if err != nil {
		return err
	}
	t.setTable(&r, site, s.entryAddr(0), s.Len())
	if err := t.SetRegs(r); err != nil {
		return err
	}
	return t.resume(unix.PTRACE_CONT, 0)
}

// Finish waits for the end of s and takes in its results.
func (t *Thread) Finish(site Site, s *Script) error {
	if s.Len() == 0 {
		return nil
	}
	r, err := t.waitDone(site)
	if err != nil {
		return err
	}
	out := make([]byte, s.Size())
	if err := ReadMemory(t.TID, s.base, out); err != nil {
		return err
	}
	left := entriesLeft(r)
	if left == 0 {
		s.decode(out, s.Len())
		return nil
	}
	at := s.Len() - left
	s.decode(out, at+1)
	return s.failed(at)
}

// Syscall runs one call in t. A result of -4095..-1 comes back as an errno.
func (t *Thread) Syscall(site Site, nr uintptr, args ...uint64) (uint64, error) {
	r, err := t.Regs()
	if err != nil {
		return 0, err
	}
	t.setCall(&r, site.Call, nr, args)
	if err := t.SetRegs(r); err != nil {
		return 0, err
	}
	if err := t.resume(unix.PTRACE_CONT, 0); err != nil {
		return 0, err
	}
	if r, err = t.waitDone(site); err != nil {
		return 0, err
	}
	return result(callResult(r))
}

// waitDone waits until the running code has told its end, and gives the
// registers it left. t then stands in a signal-delivery-stop.
func (t *Thread) waitDone(site Site) (Regs, error) {
	for {
		ws, err := t.wait()
		if err != nil {
			return Regs{}, err
		}
		end, sig, err := t.stop(ws, site.home())
		if err != nil {
			return Regs{}, err
		}
		if end {
			t.inSignal = true
			return t.Regs()
		}
		if err := t.resume(unix.PTRACE_CONT, sig); err != nil {
			return Regs{}, err
		}
	}
}

// stop looks at a stop of injected code: is it the end, at home? If not, t is
// to be resumed with deliver.
func (t *Thread) stop(ws unix.WaitStatus, home uint64) (end bool, deliver unix.Signal, err error) {
	event, sig := int(ws>>16), ws.StopSignal()
	switch {
	case event == unix.PTRACE_EVENT_STOP:
		t.noteStop(ws)
		return false, 0, nil
	case event == unix.PTRACE_EVENT_CLONE, event == unix.PTRACE_EVENT_FORK, event == unix.PTRACE_EVENT_VFORK:
		child, err := eventMessage(t.TID)
		if err != nil {
			return false, 0, t.wrap("read the new child's id", err)
		}
		t.born = append(t.born, child)
		return false, 0, nil
	case event != 0, sig == unix.SIGTRAP|0x80:
		return false, 0, nil
	case sig == unix.SIGSTOP:
		// It stops the process, as only the kernel can: a SIGCONT, and the death
		// of ckpt, then find it stopped. t itself goes on, being traced.
		ignored, err := t.ignoresStop()
		if err != nil || ignored {
			return false, 0, err
		}
		return false, sig, nil
	}
	end, err = t.signal(sig, home)
	return end, 0, err
}

// ignoresStop tells whether the SIGSTOP that t stands in comes to it only
// because it is traced (sig_ignored()): the first process of a pid namespace
// takes none from inside of it.
func (t *Thread) ignoresStop() (bool, error) {
	if t.VPID != 1 {
		return false, nil
	}
	si, err := getSiginfo(t.TID)
	return err == nil && si.sender() != 0, t.wrap("read signal", err)
}

// signal looks at a signal-delivery-stop. All signals but the done signal are
// blocked, so the others are faults.
func (t *Thread) signal(sig unix.Signal, home uint64) (end bool, err error) {
	r, err := t.Regs()
	if err != nil {
		return false, err
	}
	switch sig {
	case t.done:
		si, err := getSiginfo(t.TID)
		if err != nil {
			return false, t.wrap("read signal", err)
		}
		end := pc(r) == home
		own := si.Code == siTKill && si.sender() == t.VPID || end && si.lost()
		if !own {
			// Somebody else's. If it was queued for this very thread just
			// before the end was told, ours was dropped for it.
			t.late = &si
		}
		return end, nil
	case unix.SIGSYS:
		return false, fmt.Errorf("injected code at %#x: refused by the thread's seccomp filter (%w)", pc(r), unix.EPERM)
	case unix.SIGSEGV, unix.SIGBUS, unix.SIGILL, unix.SIGFPE, unix.SIGTRAP:
		return false, fmt.Errorf("injected code at %#x: %v", pc(r), sig)
	}
	return false, nil
}

// SyscallAt runs one call at any `syscall` instruction, by stops at its entry
// and exit: for calls after which the code of a site is not there any more, or
// during which no signal may be open. t then stands in a syscall stop: see
// Park before it goes on as itself.
func (t *Thread) SyscallAt(ip uint64, nr uintptr, args ...uint64) (uint64, error) {
	r, err := t.Regs()
	if err != nil {
		return 0, err
	}
	t.setCall(&r, ip, nr, args)
	if err := t.SetRegs(r); err != nil {
		return 0, err
	}
	for range 2 {
		if err := t.syscallStop(); err != nil {
			return 0, err
		}
	}
	if r, err = t.Regs(); err != nil {
		return 0, err
	}
	return result(rawResult(r))
}

// syscallStop lets t run to the next entry or exit of a system call.
func (t *Thread) syscallStop() error {
	for deliver := unix.Signal(0); ; {
		if err := t.resume(unix.PTRACE_SYSCALL, deliver); err != nil {
			return err
		}
		ws, err := t.wait()
		if err != nil {
			return err
		}
		if ws.StopSignal() == unix.SIGTRAP|0x80 && ws>>16 == 0 {
			return nil
		}
		if _, deliver, err = t.stop(ws, 0); err != nil {
			return err
		}
	}
}

// Park brings t from a syscall stop to an event stop, with registers r but
// without executing anything there: the kernel restarts interrupted calls
// only from such a stop. Set the final registers after it.
func (t *Thread) Park(r Regs) error {
	if err := t.SetRegs(withoutCall(r)); err != nil {
		return err
	}
	return t.eventStop()
}

// eventStop resumes t with a stop already asked for, and waits for it.
func (t *Thread) eventStop() error {
	if err := t.Interrupt(); err != nil {
		return err
	}
	for deliver := unix.Signal(0); ; {
		if err := t.resume(unix.PTRACE_CONT, deliver); err != nil {
			return err
		}
		ws, err := t.wait()
		if err != nil {
			return err
		}
		if _, deliver, err = t.stop(ws, 0); err != nil {
			return err
		}
		if ws>>16 == unix.PTRACE_EVENT_STOP {
			return nil
		}
		if err := t.Interrupt(); err != nil {
			return err
		}
	}
}

// Interrupted lets t enter a call, with a stop already asked for, at any
// `syscall` instruction, and gives what the interrupted call left in the result
// register: -512 to -516, with the kernel's record of how to go on
// (restart_block) set for -516, or a result if it had no need to wait. t then
// stands in an event stop: set the final registers.
func (t *Thread) Interrupted(ip uint64, nr uintptr, args ...uint64) (int64, error) {
	r, err := t.Regs()
	if err != nil {
		return 0, err
	}
	t.setCall(&r, ip, nr, args)
	if err := t.SetRegs(r); err != nil {
		return 0, err
	}
	if err := t.syscallStop(); err != nil {
		return 0, err
	}
	if err := t.eventStop(); err != nil {
		return 0, err
	}
	r, err = t.Regs()
	return int64(rawResult(r)), err
}

// BlockSignals blocks every signal but the done signal, which is chosen so
// that it is none of avoid (bit N-1 for signal N): those are, or will be,
// queued for t and must stay there.
func (t *Thread) BlockSignals(avoid uint64) error {
	for _, sig := range doneSignals {
		if avoid&bit(sig) == 0 {
			t.done = sig
			return t.SetSigMask(^bit(sig))
		}
	}
	return fmt.Errorf("no signal is free to tell the end of injected code: pending are %#x", avoid)
}

// doneSignals: the first ones are ignored by default, so that nothing happens
// if ckpt dies; the others will do for a process that would die with it.
// SIGCONT is none of them: sending it wakes a stopped process and drops
// pending stop signals.
var doneSignals = []unix.Signal{unix.SIGURG, unix.SIGWINCH, unix.SIGCHLD,
	unix.SIGUSR1, unix.SIGUSR2, unix.SIGIO, unix.SIGPWR, unix.SIGALRM, unix.SIGVTALRM, unix.SIGPROF, unix.SIGHUP, unix.SIGTERM}

// ignorable is how many of doneSignals a program ignores by default.
const ignorable = 3

func bit(sig unix.Signal) uint64 { return 1 << (uint(sig) - 1) }
