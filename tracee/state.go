package tracee

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Regs are the general registers. Preconditions, of this and all that
// follows: t is stopped, the caller is on the OS thread that attached.
func (t *Thread) Regs() (Regs, error) {
	r, err := getRegs(t.TID)
	return r, t.wrap("read registers", err)
}

// SetRegs sets the general registers. A call marked as interrupted (rax
// -512 to -516) is restarted by the kernel only if the thread stands in a
// signal-delivery-stop or an event stop, not in a syscall stop.
func (t *Thread) SetRegs(r Regs) error { return t.wrap("set registers", setRegs(t.TID, r)) }

// xstateMost is more than any processor's extended state (AMX has 11 KiB).
const xstateMost = 64 << 10

// XState is the extended (floating point, vector) state in the processor's
// XSAVE format, as NT_X86_XSTATE gives it.
func (t *Thread) XState() ([]byte, error) {
	b := make([]byte, xstateMost)
	n, err := getRegset(t.TID, ntXState, b)
	if err != nil {
		return nil, t.wrap("read extended registers", err)
	}
	return bytes.Clone(b[:n]), nil
}

// IOPorts tells whether the thread has been let at ports of devices by
// ioperm(2). What iopl(2) allows nothing shows.
func (t *Thread) IOPorts() (bool, error) {
	_, err := getRegset(t.TID, ntIOPerm, make([]byte, 8)) // the beginning of the bitmap will do
	is, err := ioPorts(err)
	return is, t.wrap("read which ports of devices it may use", err)
}

// ioPorts: ENXIO is for a thread that has no bitmap (ioperm_get() of
// arch/x86/kernel/process.c), EINVAL from a kernel without CONFIG_X86_IOPL_IOPERM.
func ioPorts(err error) (bool, error) {
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EINVAL) {
		return false, nil
	}
	return err == nil, err
}

// SetXState sets the extended state. EINVAL or EFAULT: this processor or
// kernel has not the components that b holds.
func (t *Thread) SetXState(b []byte) error {
	if len(b) == 0 {
		return fmt.Errorf("set extended registers: %w", unix.EINVAL)
	}
	return t.wrap("set extended registers", setRegset(t.TID, ntXState, b))
}

// SigMask is the set of blocked signals, bit N-1 for signal N; within
// sigsuspend(2), ppoll(2) and the like, the one they will put back.
func (t *Thread) SigMask() (uint64, error) {
	m, err := getSigmask(t.TID)
	return m, t.wrap("read signal mask", err)
}

// SetSigMask sets it; SIGKILL and SIGSTOP are left out by the kernel.
func (t *Thread) SetSigMask(m uint64) error { return t.wrap("set signal mask", setSigmask(t.TID, m)) }

// siginfo is the kernel's siginfo_t, 128 bytes.
type siginfo struct {
	Signo, Errno, Code int32
	Pad                int32 // the kernel passes on what the sender put there
	Fields             [112]byte
}

// siTKill is SI_TKILL, the si_code of tgkill(2).
const siTKill = -6

// sender is si_pid of a signal sent by kill(2) or tgkill(2).
func (s *siginfo) sender() int { return int(int32(binary.LittleEndian.Uint32(s.Fields[:]))) }

// lost tells whether it is what the kernel gives of a signal that it had no
// room to keep more of than its number (RLIMIT_SIGPENDING; collect_signal()).
func (s *siginfo) lost() bool {
	return *s == siginfo{Signo: s.Signo}
}

func (s *siginfo) bytes() []byte {
	b := make([]byte, 128)
	le := binary.LittleEndian
	le.PutUint32(b, uint32(s.Signo))
	le.PutUint32(b[4:], uint32(s.Errno))
	le.PutUint32(b[8:], uint32(s.Code))
	le.PutUint32(b[12:], uint32(s.Pad))
	copy(b[16:], s.Fields[:])
	return b
}

// Pending lists the queued signals, 128 bytes of siginfo each: the thread's
// own, or the process's shared ones. A signal that came while injected code
// ran and was held back is among them.
func (t *Thread) Pending(shared bool) ([][]byte, error) {
	var out [][]byte
	buf := make([]siginfo, 32)
	for {
		n, err := peekSignals(t.TID, uint64(len(out)), shared, buf)
		if err != nil {
			return nil, t.wrap("read pending signals", err)
		}
		for i := range buf[:n] {
			out = append(out, buf[i].bytes())
		}
		// Fewer than asked for are not yet the end: a signal that comes for the
		// caller itself breaks off the call behind the first
		// (ptrace_peek_siginfo()), and the Go runtime sends many (SIGURG).
		if n == 0 {
			break
		}
	}
	if t.late != nil && shared == (t.late.Code != siTKill) {
		out = append(out, t.late.bytes())
	}
	return out, nil
}

// Rseq is what rseq(2) was registered with; Ptr 0: not registered.
type Rseq struct {
	Ptr                    uint64
	Size, Signature, Flags uint32
}

// Rseq reads the thread's rseq registration (kernel 5.13 and later).
func (t *Thread) Rseq() (Rseq, error) {
	c, err := rseqConfig(t.TID)
	return c, t.wrap("read rseq registration", err)
}

// RobustList is the head and size that set_robust_list(2) was given.
func (t *Thread) RobustList() (head, size uint64, err error) {
	head, size, err = robustList(t.TID)
	return head, size, t.wrap("read robust list", err)
}

// SeccompFilter is the i-th seccomp filter, the newest first: its
// instructions (struct sock_filter, 8 bytes each) and the
// SECCOMP_FILTER_FLAG_* bits. ok is false when there are not so many. It takes
// CAP_SYS_ADMIN in the first user namespace (EACCES).
func (t *Thread) SeccompFilter(i int) (prog []byte, flags uint64, ok bool, err error) {
	prog, err = seccompFilter(t.TID, i)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) && i == 0 {
		return nil, 0, false, nil // EINVAL: the thread is not in filter mode
	}
	if err != nil {
		return nil, 0, false, t.wrap("read seccomp filter", err)
	}
	flags, err = seccompFlags(t.TID, i)
	return prog, flags, true, t.wrap("read seccomp filter's flags", err)
}
