package registers

import (
	"debug/elf"
	"encoding/binary"
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/core-x86"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/tracee"
)

// observeRegs reads both register sets, and what the interrupted call is.
func (k *threads) observeRegs(t *kind.Task) error {
	if t.Regs.Cs != userCS {
		return refuse32()
	}
	if ports, err := t.Traced.IOPorts(); err != nil {
		return err
	} else if ports {
		return failure.WithHint(failure.Unsupportedf("it has been let at ports of devices (ioperm)"), "let the program give them back before the dump")
	}
	if _, err := t.Traced.LeaveCriticalSection(&t.Regs); err != nil {
		return err
	}
	c, err := k.callOf(t, t.Regs)
	if err != nil {
		return err
	}
	x, err := t.Traced.XState()
	if err != nil {
		return err
	}
	t.Extra.Restart, t.Extra.RestartNr, t.Extra.SleepLeftNs = uint32(c.code), uint32(c.nr), uint64(c.left)
	t.Extra.Xstate = x
	t.Core.ThreadInfo = &core_x86.ThreadInfoX86{ClearTidAddr: proto.Uint64(0), Gpregs: encodeRegs(c.madeAgain(t.Regs)), Fpregs: encodeXState(x, tracee.XComponents())}
	return nil
}

func refuse32() error {
	return failure.WithHint(failure.Unsupportedf("it runs 32-bit code, which ckpt does not carry"), "use a 64-bit build of the program")
}

// refuseProgram tells a 32-bit program while it runs, when nobody sees its
// registers, by its file. A dump tells by the registers.
func refuseProgram(p *kind.Proc) error {
	f, err := p.FS.OpenLink("exe", unix.O_RDONLY)
	if err != nil {
		return nil // it may be executed by who may not read it
	}
	defer f.Close()
	var ident [elf.EI_NIDENT]byte
	if _, err := f.ReadAt(ident[:], 0); err == nil && elf.Class(ident[elf.EI_CLASS]) == elf.ELFCLASS32 {
		return refuse32()
	}
	return nil
}

// userCS is the code segment of 64-bit programs.
const userCS = 0x33

const (
	archGetXcompPerm = 0x1022 // ARCH_GET_XCOMP_PERM of arch_prctl(2), Linux 5.16
	archReqXcompPerm = 0x1023 // ARCH_REQ_XCOMP_PERM
	xtileData        = 18     // the component (AMX tiles) that has to be asked for
)

func askRegs(s *tracee.Script) (read func(*kind.Task)) {
	perm := s.Space(8)
	ok := s.Try(unix.SYS_ARCH_PRCTL, archGetXcompPerm, perm)
	return func(t *kind.Task) {
		if _, err := s.Result(ok); err == nil {
			t.Extra.XcompPerm = binary.LittleEndian.Uint64(s.Bytes(perm, 8)) & (1 << xtileData)
		}
	}
}

func restoreRegs(t *kind.Target, tt *kind.TargetThread) error {
	if tt.Core.GetThreadInfo() == nil {
		return failure.Damagedf("thread %d has no registers", tt.VTID)
	}
	if tt.Extra.GetXcompPerm() != 0 && tt == t.Threads[0] { // the whole process's
		s := tt.Script
		s.Note(s.Must(unix.SYS_ARCH_PRCTL, archReqXcompPerm, xtileData), "ask for AMX")
	}
	_, err := checkXState(tt.Extra.GetXstate(), tracee.XComponents())
	return err
}

// fits refuses state that this processor has no registers for.
func fits(_ *kind.Restore, _ *kind.Target, tt *kind.TargetThread) error {
	_, err := checkXState(tt.Extra.GetXstate(), tracee.XComponents())
	return err
}

func setTIDAddress(c *criu_core.CoreEntry, v uint64) { c.ThreadInfo.ClearTidAddr = proto.Uint64(v) }
func tidAddress(c *criu_core.CoreEntry) uint64       { return c.GetThreadInfo().GetClearTidAddr() }

func encodeRegs(r tracee.Regs) *core_x86.UserX86RegsEntry {
	u := proto.Uint64
	return &core_x86.UserX86RegsEntry{
		R15: u(r.R15), R14: u(r.R14), R13: u(r.R13), R12: u(r.R12), Bp: u(r.Rbp), Bx: u(r.Rbx), R11: u(r.R11), R10: u(r.R10),
		R9: u(r.R9), R8: u(r.R8), Ax: u(r.Rax), Cx: u(r.Rcx), Dx: u(r.Rdx), Si: u(r.Rsi), Di: u(r.Rdi), OrigAx: u(r.Orig_rax),
		Ip: u(r.Rip), Cs: u(r.Cs), Flags: u(r.Eflags), Sp: u(r.Rsp), Ss: u(r.Ss), FsBase: u(r.Fs_base), GsBase: u(r.Gs_base),
		Ds: u(r.Ds), Es: u(r.Es), Fs: u(r.Fs), Gs: u(r.Gs), Mode: core_x86.UserX86RegsMode_NATIVE.Enum(),
	}
}

func decodeRegs(e *core_x86.UserX86RegsEntry) tracee.Regs {
	return tracee.Regs{
		R15: e.GetR15(), R14: e.GetR14(), R13: e.GetR13(), R12: e.GetR12(), Rbp: e.GetBp(), Rbx: e.GetBx(), R11: e.GetR11(), R10: e.GetR10(),
		R9: e.GetR9(), R8: e.GetR8(), Rax: e.GetAx(), Rcx: e.GetCx(), Rdx: e.GetDx(), Rsi: e.GetSi(), Rdi: e.GetDi(), Orig_rax: e.GetOrigAx(),
		Rip: e.GetIp(), Cs: e.GetCs(), Eflags: e.GetFlags(), Rsp: e.GetSp(), Ss: e.GetSs(), Fs_base: e.GetFsBase(), Gs_base: e.GetGsBase(),
		Ds: e.GetDs(), Es: e.GetEs(), Fs: e.GetFs(), Gs: e.GetGs(),
	}
}

// extended is the extended state of a thread in the format of this
// processor: as it was saved, if that one had the same layout, else put
// together from CRIU's fields.
func extended(tt *kind.TargetThread) ([]byte, error) {
	now, err := tt.Traced.XState()
	if err != nil {
		return nil, err
	}
	raw := tt.Extra.GetXstate()
	if len(raw) == len(now) {
		return raw, nil
	}
	layout := tracee.XComponents()
	if err := carriesAll(raw, tt.Core.GetThreadInfo().GetFpregs()); err != nil {
		return nil, err
	}
	return decodeXState(tt.Core.GetThreadInfo().GetFpregs(), now, layout)
}

// finalRegs rebuilds the record of an interrupted call in the kernel and sets
// the general registers.
func finalRegs(site tracee.Site, tt *kind.TargetThread) error {
	if m := tt.Core.GetThreadInfo().GetGpregs().GetMode(); m != core_x86.UserX86RegsMode_NATIVE {
		return failure.Mark(failure.ErrIncompatible, fmt.Errorf("it runs 32-bit code"))
	}
	c, r := callFrom(tt.Extra, decodeRegs(tt.Core.GetThreadInfo().GetGpregs()))
	if err := c.rebuild(tt.Traced, site, &r); err != nil {
		return fmt.Errorf("go on with system call %d: %w", c.nr, err)
	}
	// Its stop is one that the kernel restarts a call from (see
	// tracee.Thread.SetRegs): the last script's end, or that of rebuild.
	tt.Regs = r
	return tt.Traced.SetRegs(r)
}
