package kernel

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	kcmpEpollTFD = 7          // KCMP_EPOLL_TFD of linux/kcmp.h (Linux 4.13)
	epiocSParams = 0x40088A01 // EPIOCSPARAMS
	epiocGParams = 0x80088A02 // EPIOCGPARAMS of linux/eventpoll.h (Linux 6.9)
)

// Watches tells whether fd is the open file description that the epoll
// descriptor epfd watches under the number tfd. nth counts from 0 the files
// watched under that number, in the order of fdinfo. All descriptors are the
// caller's own. Needs CONFIG_KCMP.
func Watches(epfd, tfd, nth, fd int) (bool, error) {
	slot := struct{ efd, tfd, toff uint32 }{uint32(epfd), uint32(tfd), uint32(nth)}
	self := uintptr(os.Getpid())
	r, _, e := unix.Syscall6(unix.SYS_KCMP, self, self, kcmpEpollTFD, uintptr(fd), uintptr(unsafe.Pointer(&slot)), 0)
	if e != 0 {
		return false, e
	}
	return r == 0, nil
}

// EpollParams are the busy-poll settings of an epoll descriptor
// (ioctl_eventpoll(2)).
type EpollParams struct {
	BusyPollUsecs  uint32
	BusyPollBudget uint16
	PreferBusyPoll uint8
	_              uint8
}

// EpollParamsOf reads them. Before Linux 6.9 there are none (ENOTTY or EINVAL).
func EpollParamsOf(epfd int) (p EpollParams, err error) {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(epfd), epiocGParams, uintptr(unsafe.Pointer(&p))); e != 0 {
		return p, e
	}
	return p, nil
}

// SetEpollParams sets them. More than 64 packets at a time want CAP_NET_ADMIN
// in the first user namespace (EPERM).
func SetEpollParams(epfd int, p EpollParams) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(epfd), epiocSParams, uintptr(unsafe.Pointer(&p))); e != 0 {
		return e
	}
	return nil
}
