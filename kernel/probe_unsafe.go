package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func rseqConfiguration(pid int) error {
	var c struct {
		pointer                   uint64
		size, signature, flags, _ uint32
	}
	_, _, e := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_RSEQ_CONFIGURATION, uintptr(pid),
		unsafe.Sizeof(c), uintptr(unsafe.Pointer(&c)), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// mmMapSize asks for the size of struct prctl_mm_map.
func mmMapSize() error {
	var size uint32
	_, _, e := unix.Syscall6(unix.SYS_PRCTL, unix.PR_SET_MM, unix.PR_SET_MM_MAP_SIZE, uintptr(unsafe.Pointer(&size)), 0, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

const uffdioAPI = 0xc018aa3f // _IOWR(0xaa, 0x3f, struct uffdio_api)

// uffdFeatures opens a userfaultfd that has all the features asked for. The
// kernel answers EINVAL to one it does not know.
func uffdFeatures(features uint64) error {
	// 1: UFFD_USER_MODE_ONLY, which needs no privilege (5.11, 37cd0575b817).
	fd, _, e := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|1, 0, 0)
	if e == unix.EINVAL {
		fd, _, e = unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	}
	if e != 0 {
		return e
	}
	defer unix.Close(int(fd))
	api := struct{ api, features, ioctls uint64 }{api: 0xaa, features: features}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, fd, uffdioAPI, uintptr(unsafe.Pointer(&api))); e != 0 {
		return e
	}
	return nil
}

func addressOf(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }
