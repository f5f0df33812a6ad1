package registers

import (
	"ckpt/failure"
	"ckpt/kind"
)

const (
	addressEnd = 1 << 56 // above every address of a program, see image.Run
	stackFlags = disabled | autoDisarm | onStack
	rseqLeast  = 32 // ORIG_RSEQ_SIZE of the kernel's rseq.c, which is also how it is aligned
	// The kernel's codes of an interrupted call (linux/errno.h).
	restartFirst = 512 // ERESTARTSYS
	restartLast  = 516 // ERESTART_RESTARTBLOCK
)

// sound refuses what no thread can have told the kernel, and registers that a
// program cannot have. set_tid_address(2) and set_robust_list(2) take any address.
func sound(_ *kind.Target, tt *kind.TargetThread) error {
	tc := tt.Core.GetThreadCore()
	if tc == nil || tt.Core.GetThreadInfo() == nil {
		return failure.Damagedf("it has none")
	}
	if size := tc.GetFutexRlaLen(); tc.GetFutexRla() != 0 && size != 0 && size != robustListSize {
		return failure.Damagedf("a robust list of %d bytes", size)
	}
	if e := tc.GetRseqEntry(); e.GetRseqAbiPointer() != 0 {
		at, size := e.GetRseqAbiPointer(), e.GetRseqAbiSize()
		if at > addressEnd-uint64(size) || at%rseqLeast != 0 || size < rseqLeast {
			return failure.Damagedf("rseq of %d bytes at %#x", size, at)
		}
	}
	if e := tc.GetSas(); e.GetSsFlags()&^stackFlags != 0 {
		return failure.Damagedf("an alternate signal stack with flags %#x", e.GetSsFlags())
	}
	if c := tt.Extra.GetRestart(); c != 0 && (c < restartFirst || c > restartLast) {
		return failure.Damagedf("its system call was interrupted with %d", c)
	}
	return soundRegs(tt)
}
