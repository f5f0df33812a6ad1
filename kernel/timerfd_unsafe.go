package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// tfdIOCSetTicks is TFD_IOC_SET_TICKS, _IOW('T', 0, __u64) (timerfd_create(2)).
const tfdIOCSetTicks = 0x40085400

// SetTimerTicks makes a timerfd hold n (not 0) expirations that were not yet
// read. Needs CONFIG_CHECKPOINT_RESTORE (Linux 3.17).
func SetTimerTicks(fd uintptr, n uint64) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, fd, tfdIOCSetTicks, uintptr(unsafe.Pointer(&n))); e != 0 {
		return e
	}
	return nil
}
