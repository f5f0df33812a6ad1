package timer

import (
	"ckpt/failure"
	"ckpt/kind"
	"ckpt/pidns"
)

// A negative clock id holds another number, inverted, above three bits: what
// sort of clock it is (include/linux/posix-timers.h).
const (
	clockKind  = 7 // these bits
	clockFD    = 3 // a device's clock, by descriptor
	clockShift = 3
)

// checkClock refuses what cannot be counted on by a clock id alone. The id of
// a process in a CPU clock's is the one the program used, a virtual one; 0 is
// the caller.
func checkClock(d *kind.Dump, clock int32) error {
	if clock >= 0 {
		return nil
	}
	if clock&clockKind == clockFD {
		return failure.WithHint(failure.Unsupportedf("it counts on the clock of a device (clock id %d)", clock), "let the program delete it before the dump")
	}
	v := ^(clock >> clockShift)
	if v == 0 {
		return nil
	}
	if _, ok := d.HostPID(pidns.VPID(v)); !ok {
		return failure.WithHint(failure.Unsupportedf("it counts the CPU time of process %d, which is not in the container any more", v), "let the program delete it before the dump")
	}
	return nil
}
