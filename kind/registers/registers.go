// Package registers is a thread's own state: general and extended registers,
// what it left registered with the kernel by address, its signal mask and
// name, and the system call that the stop interrupted.
//
// # What the kernel shows
//
// ptrace(2) shows both register sets, the signal mask and the rseq(2)
// registration, get_robust_list(2) the robust list; the thread itself asks for
// its alternate signal stack and the address of set_tid_address(2).
//
// # What is saved
//
// All of these. Registers stand in the image twice: in CRIU's fields, and the
// extended ones also as the kernel gave them (components CRIU does not know).
// The general registers in CRIU's fields are those of a thread that makes an
// interrupted call again by itself; how the kernel would restart it stands
// beside them. Interrupted calls: see restart_amd64.go.
//
// # What is lost
//
// See Limits.
//
// # Needs
//
// PTRACE_GET_RSEQ_CONFIGURATION (5.13, commit 90f093fa8ea4) for a thread that
// uses rseq(2); PR_GET_TID_ADDRESS (3.5, CONFIG_CHECKPOINT_RESTORE).
package registers

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/rseq"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/tracee"
)

// Kind is the state of every thread.
func Kind() kind.Thread {
	k := &threads{clock: newClock(), left: map[*kind.Task]call{}}
	return kind.Thread{
		Name:    "registers",
		Saves:   "general, floating-point and extended registers (AVX-512); the call that was interrupted, with the rest of its time; signal mask, alternate signal stack, robust list, rseq(2), address of set_tid_address(2), name",
		Refuses: "32-bit code; ports of devices (ioperm(2)); system calls that a program dispatches to itself (PR_SET_SYSCALL_USER_DISPATCH); clock_nanosleep(2) by a clock of CPU time",
		Needs:   "PTRACE_GET_RSEQ_CONFIGURATION (5.13)",
		Observe: k.observe,
		Ask:     ask,
		Sound:   sound,
		Check:   fits,
		Restore: restore,
		Resume:  k.resume,
		Final:   final,
		End:     end,
		Limits:  "the time limit that a socket's own SO_RCVTIMEO or SO_SNDTIMEO sets starts anew for a call that was waiting; one that waits with a part of its data moved, as write(2) to a full pipe, returns with that part, as after a stop signal; leave to use all ports of devices (iopl(2)) is not seen, and lost",
	}
}

// threads is what one dump knows of interrupted calls.
type threads struct {
	clock *clock
	left  map[*kind.Task]call
}

func (k *threads) observe(_ *kind.Dump, p *kind.Proc, t *kind.Task) error {
	if t.Traced == nil {
		if t == p.Lead() {
			return refuseProgram(p)
		}
		return nil // only checking
	}
	if err := k.observeRegs(t); err != nil {
		return err
	}
	mask, err := t.Traced.SigMask()
	if err != nil {
		return err
	}
	tc := t.Core.ThreadCore
	tc.BlkSigset = proto.Uint64(mask)
	if t == p.Lead() {
		p.TC.BlkSigset = proto.Uint64(mask)
		p.TC.Flags = proto.Uint32(uint32(p.Stat.Flags))
	}
	tc.Comm = proto.String(t.Status.Name)
	head, size, err := t.Traced.RobustList()
	if err != nil && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	tc.FutexRla, tc.FutexRlaLen = proto.Uint64(head), proto.Uint32(uint32(size))
	return observeRseq(t)
}

// observeRseq: a kernel without the request has threads that use rseq(2)
// unless it was built without, and who uses it cannot be told.
func observeRseq(t *kind.Task) error {
	c, err := t.Traced.Rseq()
	if errors.Is(err, unix.EIO) {
		return failure.Unsupportedf("this kernel does not tell whether it uses rseq(2) (PTRACE_GET_RSEQ_CONFIGURATION, Linux 5.13)")
	}
	if err != nil || c.Ptr == 0 {
		return err
	}
	t.Core.ThreadCore.RseqEntry = &rseq.RseqEntry{
		RseqAbiPointer: proto.Uint64(c.Ptr), RseqAbiSize: proto.Uint32(c.Size), Signature: proto.Uint32(c.Signature)}
	return nil
}

// A stack_t of sigaltstack(2).
const (
	stackSize      = 24
	onStack        = 1       // SS_ONSTACK
	autoDisarm     = 1 << 31 // SS_AUTODISARM
	disabled       = 2       // SS_DISABLE
	askTIDAddress  = 40      // PR_GET_TID_ADDRESS
	robustListSize = 24      // struct robust_list_head
)

func ask(_ *kind.Dump, _ *kind.Proc, t *kind.Task, s *tracee.Script) (func() error, error) {
	alt, tid := s.Space(stackSize), s.Space(8)
	s.Note(s.Must(unix.SYS_SIGALTSTACK, 0, alt), "read alternate signal stack")
	s.Note(s.Must(unix.SYS_PRCTL, askTIDAddress, tid), "read set_tid_address (needs CONFIG_CHECKPOINT_RESTORE)")
	more := askRegs(s)
	return func() error {
		b, le := s.Bytes(alt, stackSize), binary.LittleEndian
		t.Core.ThreadCore.Sas = &criu_core.ThreadSasEntry{
			SsSp: proto.Uint64(le.Uint64(b)), SsFlags: proto.Uint32(le.Uint32(b[8:])), SsSize: proto.Uint64(le.Uint64(b[16:]))}
		setTIDAddress(t.Core, le.Uint64(s.Bytes(tid, 8)))
		more(t)
		return nil
	}, nil
}

func restore(_ *kind.Restore, t *kind.Target, tt *kind.TargetThread) error {
	if err := restoreRegs(t, tt); err != nil {
		return err
	}
	s, tc := tt.Script, tt.Core.GetThreadCore()
	s.Note(s.Must(unix.SYS_SET_TID_ADDRESS, tidAddress(tt.Core)), "set set_tid_address")
	if tc.GetFutexRla() != 0 {
		size := uint64(tc.GetFutexRlaLen())
		if size == 0 {
			size = robustListSize
		}
		// Among the last, for what fails before must not be a death of its owners.
		tt.Last.Note(tt.Last.Must(unix.SYS_SET_ROBUST_LIST, tc.GetFutexRla(), size), "set robust list")
	}
	if e := tc.GetRseqEntry(); e.GetRseqAbiPointer() != 0 {
		s.Note(s.Must(unix.SYS_RSEQ, e.GetRseqAbiPointer(), uint64(e.GetRseqAbiSize()), 0, uint64(e.GetSignature())), "register rseq")
	}
	if e := tc.GetSas(); e != nil {
		b := make([]byte, stackSize)
		le := binary.LittleEndian
		le.PutUint64(b, e.GetSsSp())
		// SS_ONSTACK tells and cannot be set: the stack pointer decides.
		le.PutUint32(b[8:], e.GetSsFlags()&(disabled|autoDisarm))
		le.PutUint64(b[16:], e.GetSsSize())
		s.Note(s.Must(unix.SYS_SIGALTSTACK, s.Data(b), 0), "set alternate signal stack")
	}
	name := tc.GetComm()
	if name == "" {
		name = t.TC.GetComm()
	}
	s.Note(s.Must(unix.SYS_PRCTL, unix.PR_SET_NAME, s.Str(name)), "set its name")
	return nil
}

// resume puts right what the stop did to a thread that goes on running.
func (k *threads) resume(_ *kind.Proc, t *kind.Task) error {
	r, err := t.Traced.Regs()
	if err != nil {
		return err
	}
	if !k.resumeCall(t, &r) {
		return nil
	}
	return t.Traced.SetRegs(r)
}

// final gives a rebuilt thread its registers and mask. Until then all its
// signals are blocked.
func final(site tracee.Site, _ *kind.Target, tt *kind.TargetThread) error {
	if err := tt.Traced.SetSigMask(^uint64(0)); err != nil {
		return err
	}
	x, err := extended(tt)
	if err != nil {
		return err
	}
	if err := tt.Traced.SetXState(x); err != nil {
		return fmt.Errorf("its extended registers do not fit this processor: %w", err)
	}
	if err := finalRegs(site, tt); err != nil {
		return err
	}
	return tt.Traced.SetSigMask(tt.Core.GetThreadCore().GetBlkSigset())
}
