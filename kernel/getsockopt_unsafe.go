package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// SocketOption reads an option that is not an int into buf and gives the part
// that the kernel has filled.
func SocketOption(fd uintptr, level, name int, buf []byte) ([]byte, error) {
	n := uint32(len(buf))
	if _, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(unsafe.Pointer(&n)), 0); e != 0 {
		return nil, e
	}
	return buf[:min(int(n), len(buf))], nil
}

// SetSocketOption sets an option that is not an int.
func SetSocketOption(fd uintptr, level, name int, v []byte) error {
	if _, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, fd, uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(unsafe.SliceData(v))), uintptr(len(v)), 0); e != 0 {
		return e
	}
	return nil
}

// Bind is bind(2) to an address that x/sys has no type for: struct sockaddr in
// memory. Connect is connect(2) to one.
func Bind(fd uintptr, addr []byte) error    { return toAddress(unix.SYS_BIND, fd, addr) }
func Connect(fd uintptr, addr []byte) error { return toAddress(unix.SYS_CONNECT, fd, addr) }

func toAddress(nr, fd uintptr, addr []byte) error {
	if _, _, e := unix.Syscall(nr, fd, uintptr(unsafe.Pointer(unsafe.SliceData(addr))), uintptr(len(addr))); e != 0 {
		return e
	}
	return nil
}
