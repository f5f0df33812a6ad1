package tracee

import "golang.org/x/sys/unix"

// What a system call that a signal or a stop interrupted leaves in rax, for
// the kernel alone (include/linux/errno.h).
const (
	erestartSys          = -512
	erestartNoIntr       = -513
	erestartNoHand       = -514
	erestartRestartBlock = -516
)

// syscallLen is that of the SYSCALL instruction, which rip stands behind.
const syscallLen = 2

// restartedByHand does to r what the kernel does when it restarts a call that
// no handler interrupted (arch_do_signal_or_restart()), for a thread that
// comes home on its own: there rip and rax are all that can be set. A restart
// block stays in the kernel meanwhile, for none of the calls on the way
// touches it, so that restart_syscall(2) takes up the rest of a sleep.
//
// If a handler runs on the way, a call that should then fail with EINTR
// (ERESTARTNOHAND) is restarted behind it all the same.
func restartedByHand(r Regs) Regs {
	if int64(r.Orig_rax) < 0 {
		return r
	}
	switch int64(r.Rax) {
	case erestartSys, erestartNoIntr, erestartNoHand:
		r.Rax = r.Orig_rax
	case erestartRestartBlock:
		r.Rax = unix.SYS_RESTART_SYSCALL
	default:
		return r
	}
	r.Rip -= syscallLen
	r.Orig_rax = noSyscall
	return r
}

// RestartsEINTR tells whether nr is a call that fails with EINTR when the
// thread was merely stopped, without any handler (signal(7), "Interruption of
// system calls and library functions by stop signals"), and can be made again
// without harm since it has done nothing then.
func RestartsEINTR(nr uint64) bool {
	switch nr {
	// sockets with SO_RCVTIMEO or SO_SNDTIMEO set (sock_intr_errno())
	case unix.SYS_READ, unix.SYS_READV, unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_RECVMMSG,
		unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_CONNECT,
		unix.SYS_WRITE, unix.SYS_WRITEV, unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG:
		return true
	}
	return StopsWithEINTR(nr)
}

// StopsWithEINTR tells whether nr is one of those calls that fails so whenever
// its thread is stopped while it waits.
func StopsWithEINTR(nr uint64) bool {
	switch nr {
	case unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_RT_SIGTIMEDWAIT,
		unix.SYS_SEMOP, unix.SYS_SEMTIMEDOP, unix.SYS_IO_GETEVENTS, unix.SYS_IO_PGETEVENTS:
		return true
	}
	return false
}

// restartEINTR turns such an EINTR into the mark for "restart, unless a
// handler is to run", and tells whether it did.
func restartEINTR(r *Regs) bool {
	if int64(r.Orig_rax) < 0 || int64(r.Rax) != -int64(unix.EINTR) || !RestartsEINTR(r.Orig_rax) {
		return false
	}
	r.Rax = ^uint64(-erestartNoHand - 1)
	return true
}
