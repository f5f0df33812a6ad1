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
		return failure.Unsupportedf("it switched the cpuid instruction off (ARCH_SET_CPUID)")
	}
	return nil
}
