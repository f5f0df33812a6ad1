package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// SocketFilter reads the classic BPF program attached to a socket
// (SO_GET_FILTER, Linux 3.8); none is an empty slice. An eBPF program gives
// EACCES.
func SocketFilter(fd uintptr) ([]unix.SockFilter, error) {
	n := uint32(0) // in instructions, not bytes
	if err := getsockopt(fd, unix.SO_GET_FILTER, nil, &n); err != nil || n == 0 {
		return nil, err
	}
	prog := make([]unix.SockFilter, n)
	if err := getsockopt(fd, unix.SO_GET_FILTER, unsafe.Pointer(&prog[0]), &n); err != nil {
		return nil, err
	}
	return prog[:n], nil
}

func getsockopt(fd uintptr, name int, p unsafe.Pointer, n *uint32) error {
	if _, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, uintptr(name), uintptr(p), uintptr(unsafe.Pointer(n)), 0); e != 0 {
		return e
	}
	return nil
}
