package core

import (
	"encoding/binary"
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/core-x86"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/inspect"
)

// How the kernel restarts a call (include/linux/errno.h), in Thread.restart.
const (
	restartSys   = 512
	restartBlock = 516
	syscallLen   = 2 // bytes of the SYSCALL instruction
)

// userRegs is struct user_regs_struct of <sys/user.h>, as a debugger sees a
// stopped thread: one in a system call stands behind its SYSCALL instruction,
// with the number in orig_rax, where CRIU's fields are of a thread about to make
// the call again.
func userRegs(e *core_x86.UserX86RegsEntry, x *image.Thread) ([]byte, error) {
	if e == nil {
		return nil, failure.Damagedf("it has no registers")
	}
	if m := e.GetMode(); m != core_x86.UserX86RegsMode_NATIVE {
		return nil, failure.Unsupportedf("it runs 32-bit code, whose registers ckpt cannot write down")
	}
	ip, ax, orig := e.GetIp(), e.GetAx(), e.GetOrigAx()
	if code := x.GetRestart(); code >= restartSys && code <= restartBlock {
		ax, orig = uint64(-int64(code)), uint64(x.GetRestartNr())
		if code != restartBlock {
			ip += syscallLen
		}
	}
	var b []byte
	for _, v := range []uint64{
		e.GetR15(), e.GetR14(), e.GetR13(), e.GetR12(), e.GetBp(), e.GetBx(), e.GetR11(), e.GetR10(), e.GetR9(), e.GetR8(),
		ax, e.GetCx(), e.GetDx(), e.GetSi(), e.GetDi(), orig, ip, e.GetCs(), e.GetFlags(), e.GetSp(), e.GetSs(),
		e.GetFsBase(), e.GetGsBase(), e.GetDs(), e.GetEs(), e.GetFs(), e.GetGs(),
	} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b, nil
}

// The standard format of XSAVE (Intel SDM volume 1, chapter 13), with the places
// that components have in Intel's processors. Others have them elsewhere, but
// debuggers guess them by the size and XCR0, and this is what all guess right
// (gdb 13 knows no other; i387_guess_xsave_layout of later ones).
const (
	fxReserved = 464 // the kernel writes XCR0 there
	fxSize     = 512
	xheader    = fxSize // begins with the set of components in use
	xfirst     = 576
)

// component is one of those that CRIU's message has fields for.
type component struct {
	bit, at, size int
	of            func(*core_x86.UserX86XsaveEntry) ([]uint32, []uint64)
}

var components = []component{
	{2, 576, 256, func(e *core_x86.UserX86XsaveEntry) ([]uint32, []uint64) { return e.GetYmmhSpace(), nil }},
	{3, 960, 64, func(e *core_x86.UserX86XsaveEntry) ([]uint32, []uint64) { return nil, e.GetBndregState() }},
	{4, 1024, 64, func(e *core_x86.UserX86XsaveEntry) ([]uint32, []uint64) { return nil, e.GetBndcsrState() }},
	{5, 1088, 64, func(e *core_x86.UserX86XsaveEntry) ([]uint32, []uint64) { return nil, e.GetOpmaskReg() }},
	{6, 1152, 512, func(e *core_x86.UserX86XsaveEntry) ([]uint32, []uint64) { return nil, e.GetZmmUpper() }},
	{7, 1664, 1024, func(e *core_x86.UserX86XsaveEntry) ([]uint32, []uint64) { return nil, e.GetHi16Zmm() }},
	{9, 2688, 8, func(e *core_x86.UserX86XsaveEntry) ([]uint32, []uint64) { return e.GetPkru(), nil }},
}

// xstate is a thread's extended state as NT_X86_XSTATE has it.
func xstate(t *inspect.Thread) ([]byte, error) {
	e := t.Core.GetThreadInfo().GetFpregs()
	if e == nil {
		return nil, failure.Damagedf("it has no extended registers")
	}
	le := binary.LittleEndian
	last := components[len(components)-1]
	x := make([]byte, last.at+last.size)
	if err := image.PutFXSave(x, e); err != nil {
		return nil, err
	}
	s := e.GetXsave()
	if s == nil {
		return x[:fxSize], nil
	}
	const legacy = 3 // x87, SSE
	have, end := enabled(t)|legacy, xfirst
	for _, c := range components {
		w32, w64 := c.of(s)
		if len(w32)+len(w64) > 0 {
			have |= 1 << c.bit
		}
		if !fill(x[c.at:c.at+c.size], w32, w64) {
			return nil, failure.Damagedf("its extended registers (XSAVE component %d) are more than there are", c.bit)
		}
		if have>>c.bit&1 != 0 {
			end = c.at + c.size
		}
	}
	le.PutUint64(x[fxReserved:], have)
	le.PutUint64(x[xheader:], s.GetXstateBv()&have)
	return x[:end], nil
}

// enabled is XCR0 of the processor the thread ran on, as the kernel noted it in
// its state, as far as there are fields for it.
func enabled(t *inspect.Thread) (set uint64) {
	raw := t.Extra.GetXstate()
	if len(raw) < fxSize {
		return 0
	}
	xcr0 := binary.LittleEndian.Uint64(raw[fxReserved:])
	for _, c := range components {
		set |= xcr0 & (1 << c.bit)
	}
	return set
}

// fill writes words to b, and tells whether they fit.
func fill(b []byte, w32 []uint32, w64 []uint64) bool {
	if 4*len(w32)+8*len(w64) > len(b) {
		return false
	}
	for i, v := range w32 {
		binary.LittleEndian.PutUint32(b[4*i:], v)
	}
	for i, v := range w64 {
		binary.LittleEndian.PutUint64(b[8*i:], v)
	}
	return true
}

// threadNotes are the notes of a thread's registers.
func threadNotes(p *inspect.Process, t *inspect.Thread, ppid uint32) (status, fp, x note, err error) {
	regs, err := userRegs(t.Core.GetThreadInfo().GetGpregs(), t.Extra)
	if err != nil {
		return status, fp, x, fmt.Errorf("thread %d: %w", t.VTID, err)
	}
	state, err := xstate(t)
	if err != nil {
		return status, fp, x, fmt.Errorf("thread %d: %w", t.VTID, err)
	}
	status = note{"CORE", ntPRStatus, prstatus(p, t, ppid, regs)}
	fp = note{"CORE", ntFPRegSet, append(state[:fxReserved:fxReserved], make([]byte, fxSize-fxReserved)...)}
	x = note{"LINUX", ntX86XState, state}
	return status, fp, x, nil
}

// prstatus is struct elf_prstatus of <sys/procfs.h>.
func prstatus(p *inspect.Process, t *inspect.Thread, ppid uint32, regs []byte) []byte {
	le := binary.LittleEndian
	signal := uint32(stopSignal(p))
	b := le.AppendUint32(nil, signal)         // si_signo
	b = append(b, make([]byte, 8)...)         // si_code, si_errno
	b = le.AppendUint32(b, signal)            // pr_cursig, and two bytes of padding
	b = le.AppendUint64(b, pendingSet(t))     // pr_sigpend
	b = le.AppendUint64(b, blocked(p, t))     // pr_sighold
	b = le.AppendUint32(b, t.VTID)            // pr_pid
	b = le.AppendUint32(b, ppid)              // pr_ppid
	b = le.AppendUint32(b, p.Entry.GetPgid()) // pr_pgrp
	b = le.AppendUint32(b, p.Entry.GetSid())  // pr_sid
	b = append(b, make([]byte, 4*16)...)      // CPU times, which the image has not
	b = append(b, regs...)                    // pr_reg
	return le.AppendUint64(b, 1)              // pr_fpvalid, and padding
}

func blocked(p *inspect.Process, t *inspect.Thread) uint64 {
	if tc := t.Core.GetThreadCore(); tc.BlkSigset != nil {
		return tc.GetBlkSigset()
	}
	return p.TC.GetBlkSigset() // older images of criu's
}

// pendingSet are the signals that wait for the thread alone.
func pendingSet(t *inspect.Thread) (set uint64) {
	for _, s := range t.Core.GetThreadCore().GetSignalsP().GetSignals() {
		if b := s.GetSiginfo(); len(b) >= 4 {
			if n := binary.LittleEndian.Uint32(b); n >= 1 && n <= 64 {
				set |= 1 << (n - 1)
			}
		}
	}
	return set
}

// stopSignal is what has stopped the process; 0: nothing.
func stopSignal(p *inspect.Process) unix.Signal {
	if !p.Stopped() {
		return 0
	}
	return unix.Signal(p.TC.GetStopSigno())
}
