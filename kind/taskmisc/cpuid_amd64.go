package taskmisc

import (
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/tracee"
)

// archGetCPUID is ARCH_GET_CPUID of arch_prctl(2): 0 when the cpuid
// instruction faults in this thread.
const archGetCPUID = 0x1011

func askCPUID(s *tracee.Script) tracee.Step { return s.Try(unix.SYS_ARCH_PRCTL, archGetCPUID, 0) }

func checkCPUID(s *tracee.Script, st tracee.Step) error {
	if v, err := s.Result(st); err == nil && v == 0 {
		return failure.WithHint(failure.Unsupportedf("it switched the cpuid instruction off (ARCH_SET_CPUID)"),
			"end the program that watches it (rr)")
	}
	return nil
}

// askLDT reads a first entry of the local descriptor table (modify_ldt(2)): the
// call gives 0 where there is no table.
func askLDT(s *tracee.Script) tracee.Step {
	const read, entry = 0, 8
	return s.Try(unix.SYS_MODIFY_LDT, read, s.Space(entry), entry)
}

func checkLDT(s *tracee.Script, st tracee.Step) error {
	// ENOSYS: the kernel is built without it.
	if v, err := s.Result(st); err == nil && v > 0 {
		return failure.WithHint(failure.Unsupportedf("it has a local descriptor table (modify_ldt), as 16-bit and old 32-bit code needs"),
			"run the program without such code (Wine: only 64-bit programs)")
	}
	return nil
}
