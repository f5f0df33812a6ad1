package kernel

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// withTraced runs fn on a traced child that has stopped before its first
// instruction (PTRACE_TRACEME, execve(2)) and is killed afterwards.
func withTraced(fn func(pid int) error) error {
	runtime.LockOSThread() // ptrace(2): the tracer is a thread
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess("/proc/self/exe", []string{"ckpt-probe"}, &os.ProcAttr{
		Sys: &syscall.SysProcAttr{Ptrace: true, Pdeathsig: unix.SIGKILL},
	})
	if err != nil {
		return fmt.Errorf("start a traced child: %w", err)
	}
	defer func() {
		p.Kill()
		p.Wait()
	}()
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(p.Pid, &ws, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for a traced child: %w", err)
		}
		break
	}
	if !ws.Stopped() {
		return fmt.Errorf("a traced child did not stop (status %#x)", uint32(ws))
	}
	return fn(p.Pid)
}

// tryPtrace: Yama's ptrace_scope 3 (Documentation/admin-guide/LSM/Yama.rst)
// forbids even a child.
func tryPtrace() error {
	return withTraced(func(pid int) error {
		var regs unix.PtraceRegs
		if err := unix.PtraceGetRegs(pid, &regs); err != nil {
			return fmt.Errorf("read registers: %w", err)
		}
		return nil
	})
}

// tryRseq: commit 90f093fa8ea4.
func tryRseq() error {
	return withTraced(func(pid int) error {
		// EIO is ptrace's answer to an unknown request.
		return absent("PTRACE_GET_RSEQ_CONFIGURATION", rseqConfiguration(pid), unix.EIO, unix.EINVAL)
	})
}

// trySuspendSeccomp: commit 13c4a90119d2. It wants CAP_SYS_ADMIN in the first
// user namespace, and that ckpt is under no filter itself.
func trySuspendSeccomp() error {
	return withTraced(func(pid int) error {
		err := unix.PtraceSetOptions(pid, unix.PTRACE_O_SUSPEND_SECCOMP)
		if err == unix.EPERM {
			return failure.Unsupportedf("PTRACE_O_SUSPEND_SECCOMP is only for root that is under no seccomp filter")
		}
		return absent("PTRACE_O_SUSPEND_SECCOMP", err, unix.EINVAL)
	})
}
