package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// SetThreadGroups is setgroups(2) for the calling thread alone; x/sys changes
// the groups of all. EPERM: it takes CAP_SETGID, and a user namespace that
// allows it.
func SetThreadGroups(groups []uint32) error {
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0); e != 0 {
		return e
	}
	return nil
}
