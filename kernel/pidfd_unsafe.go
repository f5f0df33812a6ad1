package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	pidfdGetInfo  = 0xc040ff0b // PIDFD_GET_INFO, _IOWR(0xff, 11, 64 bytes)
	pidfdInfoExit = 1 << 3     // PIDFD_INFO_EXIT
)

// PidfdExit is the wait status (waitpid(2)) of the process that a pidfd is of,
// once that has been waited for: PIDFD_INFO_EXIT of Linux 6.15
// (include/uapi/linux/pidfd.h). ok is false where the kernel does not tell.
func PidfdExit(fd uintptr) (status unix.WaitStatus, ok bool) {
	info := struct { // struct pidfd_info in its first version
		mask, cgroup    uint64
		pid, tgid, ppid uint32
		ids             [8]uint32
		exit            uint32
	}{mask: pidfdInfoExit}
	_, _, e := unix.Syscall(unix.SYS_IOCTL, fd, pidfdGetInfo, uintptr(unsafe.Pointer(&info)))
	return unix.WaitStatus(info.exit), e == 0 && info.mask&pidfdInfoExit != 0
}

const (
	soPeerPidfd = 77         // SO_PEERPIDFD, Linux 6.5
	pidfsMagic  = 0x50494446 // PID_FS_MAGIC, Linux 6.9
)

// PeerPidfd is a pidfd of the process that SO_PEERCRED tells of. It fails with
// ESRCH (EINVAL before Linux 6.9) for one that has been waited for, which is
// given since 6.16, and with ENOPROTOOPT before 6.5.
func PeerPidfd(sock int) (fd int, err error) {
	return unix.GetsockoptInt(sock, unix.SOL_SOCKET, soPeerPidfd)
}

// PidfdInode is the number that all pidfds of a process have, and those of no
// other; 0 where the kernel has none (before Linux 6.9).
func PidfdInode(fd int) (uint64, error) {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Type != pidfsMagic {
		return 0, err
	}
	err := unix.Fstat(fd, &st)
	return st.Ino, err
}
