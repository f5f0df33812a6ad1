package registers

import (
	"github.com/checkpoint-restore/go-criu/v7/crit/images/core-x86"

	"ckpt/failure"
	"ckpt/kind"
)

// userRPL is the privilege that a segment of a program has.
const userRPL = 3

// soundRegs refuses segments that are no program's: the kernel refuses most of them
// (set_segment_reg() in arch/x86/kernel/ptrace.c), and would kill the thread for
// others as soon as it runs. observeRegs lets no other cs pass.
func soundRegs(tt *kind.TargetThread) error {
	e := tt.Core.GetThreadInfo().GetGpregs()
	if e.GetMode() != core_x86.UserX86RegsMode_NATIVE {
		return nil // refused where they are set
	}
	if e.GetCs() != userCS || e.GetSs()&userRPL != userRPL || e.GetSs() > 1<<16-1 {
		return failure.Damagedf("segments cs %#x, ss %#x", e.GetCs(), e.GetSs())
	}
	for _, s := range []uint64{e.GetDs(), e.GetEs(), e.GetFs(), e.GetGs()} {
		if s > 1<<16-1 || s != 0 && s&userRPL != userRPL {
			return failure.Damagedf("segments ds %#x, es %#x, fs %#x, gs %#x", e.GetDs(), e.GetEs(), e.GetFs(), e.GetGs())
		}
	}
	if e.GetFsBase() >= addressEnd || e.GetGsBase() >= addressEnd {
		return failure.Damagedf("segments begin at %#x (fs), %#x (gs)", e.GetFsBase(), e.GetGsBase())
	}
	return nil
}
