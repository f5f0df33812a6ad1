package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// MqAttr is struct mq_attr (include/uapi/linux/mqueue.h).
type MqAttr struct {
	Flags       int64 // O_NONBLOCK
	MaxMessages int64
	MessageSize int64 // of the longest possible, in bytes
	Messages    int64 // that wait
	_           [4]int64
}

// MqOpen is mq_open(2): name is without the slash that mq_open(3) wants. With
// O_CREAT the queue gets a's MaxMessages and MessageSize.
func MqOpen(name string, flags int, mode uint32, a MqAttr) (int, error) {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return -1, err
	}
	fd, _, e := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(p)), uintptr(flags), uintptr(mode), uintptr(unsafe.Pointer(&a)), 0, 0)
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}

// MqUnlink is mq_unlink(2), with name as for MqOpen.
func MqUnlink(name string) error {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	if _, _, e := unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(p)), 0, 0); e != 0 {
		return e
	}
	return nil
}

// MqGetAttr asks for the attributes of a queue (mq_getsetattr(2)).
func MqGetAttr(fd int) (MqAttr, error) {
	var a MqAttr
	if _, _, e := unix.Syscall(unix.SYS_MQ_GETSETATTR, uintptr(fd), 0, uintptr(unsafe.Pointer(&a))); e != 0 {
		return a, e
	}
	return a, nil
}

// MqSend is mq_timedsend(2) without a time limit.
func MqSend(fd int, text []byte, priority uint32) error {
	var none byte
	p := unsafe.SliceData(text)
	if p == nil {
		p = &none
	}
	if _, _, e := unix.Syscall6(unix.SYS_MQ_TIMEDSEND, uintptr(fd), uintptr(unsafe.Pointer(p)), uintptr(len(text)), uintptr(priority), 0, 0); e != 0 {
		return e
	}
	return nil
}
