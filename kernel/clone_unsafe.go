package kernel

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cloneTaken calls clone3(2) for a child with the caller's own pid, which
// must fail. Should this thread's children be born in another pid namespace,
// where the number is free, the child ends at once and is reaped.
func cloneTaken() error {
	type cloneArgs struct {
		flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize uint64
	}
	id := int32(os.Getpid())
	args := cloneArgs{setTID: uint64(uintptr(unsafe.Pointer(&id))), setTIDSize: 1}
	pid, _, e := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
	if e != 0 {
		return e
	}
	if pid == 0 {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	_, err := unix.Wait4(int(pid), nil, unix.WALL, nil)
	return err
}
