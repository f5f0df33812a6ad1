package memory

import (
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/procfs"
	"ckpt/tracee"
)

// A process has protection keys 0 to 15 (pkeys(7)), on processors with them.
const (
	keys             = 16
	keyDisableAccess = 1 // PKEY_DISABLE_ACCESS
)

// keysTaken asks which protection keys the program has allocated, which nothing
// shows: those that it does not get any more. They are given back in the same
// script, and the rights of the thread to them, which it does not have, are the
// same as before. Without such a processor there is none to get.
func keysTaken(s *tracee.Script) (refuse func(maps []procfs.Map) error) {
	var got [keys]tracee.Step
	for i := range got {
		got[i] = s.Try(unix.SYS_PKEY_ALLOC, 0, keyDisableAccess)
	}
	for _, step := range got {
		s.Feed(step, s.Try(unix.SYS_PKEY_FREE, 0), 0)
	}
	return func(maps []procfs.Map) error {
		var free []uint64
		for _, step := range got {
			if key, err := s.Result(step); err == nil {
				free = append(free, key)
			}
		}
		return refuseKeys(free, maps)
	}
}

// refuseKeys refuses keys that are not free, but for that of memory that may only
// be executed, which the kernel allocates by itself.
func refuseKeys(free []uint64, maps []procfs.Map) error {
	if len(free) == 0 {
		return nil
	}
	taken := keys - 1 - len(free) // 0 is everybody's
	for i := range maps {
		if maps[i].ProtectionKey != 0 && executeOnly(&maps[i]) {
			taken--
			break
		}
	}
	if taken <= 0 {
		return nil
	}
	return failure.WithHint(failure.Unsupportedf("%d memory protection keys are allocated (pkey_alloc): keys are not carried yet", taken),
		"run the program on a machine, or under a kernel, without protection keys (nopku)")
}
