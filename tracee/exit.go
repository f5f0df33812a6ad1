package tracee

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ExitStub makes a stub, which has one thread, end with a wait status
// (waitpid(2)): an exit code, or a signal that kills. It is a zombie then, or
// gone if its parent is ckpt itself or ignores SIGCHLD. The bit that says
// "core dumped" is left out: the kernel sets it only after it has written a
// core file or has run the program of kernel.core_pattern (fs/coredump.c),
// which would be told of a crash that there was not.
func ExitStub(t *Thread, site Site, status unix.WaitStatus) error {
	end := t.exitBySignal
	if status.Exited() {
		end = t.exitWithCode
	}
	if err := end(site, status); err != nil {
		return fmt.Errorf("end with status %#x: %w", uint32(status), err)
	}
	return nil
}

// coreDumped is the bit that WCOREDUMP tells.
const coreDumped = 0x80

func (t *Thread) exitWithCode(site Site, status unix.WaitStatus) error {
	r, err := t.Regs()
	if err != nil {
		return err
	}
	t.setCall(&r, site.Call, unix.SYS_EXIT_GROUP, []uint64{uint64(status.ExitStatus())})
	if err := t.SetRegs(r); err != nil {
		return err
	}
	if err := t.resume(unix.PTRACE_CONT, 0); err != nil {
		return err
	}
	return t.waitEnd(status)
}

func (t *Thread) exitBySignal(site Site, status unix.WaitStatus) error {
	sig := status.Signal()
	if !status.Signaled() || t.VPID == 1 && sig != unix.SIGKILL {
		return unix.EINVAL // nothing else kills the first process of a pid namespace (signal(7))
	}
	if sig == unix.SIGKILL {
		if err := unix.Kill(t.PID, sig); err != nil {
			return err
		}
		return t.waitEnd(status)
	}
	s := NewScript(site.Base)
	// A limit of 1 dumps nothing; 0 would not keep it from the program that
	// kernel.core_pattern may name (fs/coredump.c). With a hard limit of 0 it
	// stays so. PR_SET_DUMPABLE does both, but what is left then shows its
	// status to no ordinary user: a second dump would read 0.
	one := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, 1), 1)
	s.Try(unix.SYS_SETRLIMIT, unix.RLIMIT_CORE, s.Data(one))
	s.Must(unix.SYS_RT_SIGACTION, uint64(sig), s.Space(32), 0, sigsetSize)
	if err := t.Run(site, s); err != nil {
		return err
	}
	if err := t.SetSigMask(^bit(sig)); err != nil {
		return err
	}
	r, err := t.Regs()
	if err != nil {
		return err
	}
	t.setCall(&r, site.Call, unix.SYS_TGKILL, []uint64{uint64(t.VPID), uint64(t.VTID), uint64(sig)})
	if err := t.SetRegs(r); err != nil {
		return err
	}
	if err := t.resume(unix.PTRACE_CONT, 0); err != nil {
		return err
	}
	ws, err := t.wait()
	if err != nil {
		return err
	}
	if ws>>16 != 0 || ws.StopSignal() != sig {
		return fmt.Errorf("unexpected stop %#x", uint32(ws))
	}
	if err := t.resume(unix.PTRACE_CONT, sig); err != nil {
		return err
	}
	return t.waitEnd(status)
}

// waitEnd waits until t is dead, with the status wanted. The parent's own
// wait is not taken away by it, unless ckpt is the parent.
func (t *Thread) waitEnd(want unix.WaitStatus) error {
	for {
		ws, err := wait4(t.TID)
		if err != nil {
			return t.wrap("wait for its end", err)
		}
		if ws.Stopped() {
			if err := t.resume(unix.PTRACE_CONT, 0); err != nil {
				return err
			}
			continue
		}
		if ws&^coreDumped != want&^coreDumped {
			return fmt.Errorf("it ended with status %#x", uint32(ws))
		}
		return nil
	}
}

// ExitThread ends one thread of a stub that has others: exit(2), not
// exit_group. A leader that ends so stays as a zombie until its threads have
// ended too. It is detached first, since nobody can detach a zombie, and its
// parent could not wait for it as long as it is traced. It returns when the
// thread executes nothing any more.
func ExitThread(t *Thread, site Site) error {
	r, err := t.Regs()
	if err != nil {
		return err
	}
	t.setCall(&r, site.Call, unix.SYS_EXIT, nil)
	if err := t.SetRegs(r); err != nil {
		return err
	}
	if err := t.Detach(0); err != nil {
		return err
	}
	for {
		st, err := statusOf(t.TID)
		if errors.Is(err, unix.ESRCH) || err == nil && st.Zombie() {
			return nil
		}
		if err != nil {
			return err
		}
		time.Sleep(20 * time.Microsecond) // the kernel reports the end of a leader to nobody yet
	}
}
