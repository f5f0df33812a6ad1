package kernel

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// tryPidfdOpen: commit 32fcb426ec00.
func tryPidfdOpen() error {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return absent("pidfd_open", err, unix.ENOSYS)
	}
	return unix.Close(fd)
}

// tryPidfdGetfd: commit 8649c322f75c.
func tryPidfdGetfd() error {
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return absent("pidfd_open", err, unix.ENOSYS)
	}
	defer unix.Close(self)
	fd, err := unix.PidfdGetfd(self, self, 0)
	if err != nil {
		return absent("pidfd_getfd", err, unix.ENOSYS)
	}
	return unix.Close(fd)
}

// tryKcmp: kcmp(2), CONFIG_KCMP.
func tryKcmp() error {
	self := os.Getpid()
	n, err := Kcmp(self, self, KcmpVM, 0, 0)
	if err != nil {
		return absent("kcmp", err, unix.ENOSYS, unix.EOPNOTSUPP)
	}
	if n != 0 {
		return fmt.Errorf("kcmp: a process does not share memory with itself")
	}
	return nil
}

// tryChildren: commit 818411616baf, CONFIG_PROC_CHILDREN.
func tryChildren() error {
	_, err := os.ReadFile("/proc/thread-self/children")
	if errors.Is(err, os.ErrNotExist) {
		return failure.Unsupportedf("/proc/PID/task/TID/children is not built into this kernel (CONFIG_PROC_CHILDREN)")
	}
	return err
}

// tryMapFiles: commit 640708a2cff7; since 12b3052c3ee8 (5.9) the links may be
// followed with CAP_CHECKPOINT_RESTORE in the first user namespace.
func tryMapFiles() error {
	const dir = "/proc/self/map_files"
	names, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return failure.Unsupportedf("%s is not built into this kernel", dir)
	case errors.Is(err, os.ErrPermission):
		return failure.Unsupportedf("%s is only for root on this kernel", dir)
	case err != nil:
		return err
	case len(names) == 0:
		return fmt.Errorf("%s is empty, though a program is mapped", dir)
	}
	f, err := os.Open(dir + "/" + names[0].Name())
	if errors.Is(err, os.ErrPermission) {
		return failure.Unsupportedf("links of map_files are followed only for root (CAP_CHECKPOINT_RESTORE)")
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// PRTimerRestoreIDs is PR_TIMER_CREATE_RESTORE_IDS: argument 0 switches it
// off, 1 on, 2 reads the present state (include/uapi/linux/prctl.h).
const (
	PRTimerRestoreIDs    = 77
	prTimerRestoreIDsGet = 2
)

// tryTimerIDs: commit ec2d0c04624b.
func tryTimerIDs() error {
	_, err := unix.PrctlRetInt(PRTimerRestoreIDs, prTimerRestoreIDsGet, 0, 0, 0)
	return absent("PR_TIMER_CREATE_RESTORE_IDS", err, unix.EINVAL)
}

// tryMembarrier: MEMBARRIER_CMD_GET_REGISTRATIONS, commit 544a4f2ecd45.
func tryMembarrier() error {
	if _, _, e := unix.Syscall(unix.SYS_MEMBARRIER, 1<<9, 0, 0); e != 0 {
		return absent("MEMBARRIER_CMD_GET_REGISTRATIONS", e, unix.EINVAL, unix.ENOSYS)
	}
	return nil
}

// tryNextID: commit 03f595668017, CONFIG_CHECKPOINT_RESTORE. The files only
// exist where they can be used, so reading them is enough.
func tryNextID() error {
	for _, name := range []string{"msg_next_id", "sem_next_id", "shm_next_id"} {
		path := "/proc/sys/kernel/" + name
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return failure.Unsupportedf("%s is not built into this kernel", path)
		}
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(b)) == "" {
			return fmt.Errorf("%s is empty", path)
		}
	}
	return nil
}

// errnoOf is the errno inside err, or err itself.
func errnoOf(err error) error {
	var e unix.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}

// RestoresTimerIDs tells whether timer_create(2) can be told which id to use:
// prctl(PRTimerRestoreIDs, 1) makes it read the id it otherwise writes.
func RestoresTimerIDs() bool { return tryTimerIDs() == nil }
