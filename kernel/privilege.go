package kernel

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Privileged tells whether ckpt has CAP_SYS_ADMIN in the first user
// namespace. Opening /proc/PID/map_files takes that; rights in a user namespace of
// one's own do not count there.
func Privileged() (bool, error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false, fmt.Errorf("read capabilities: %w", err)
	}
	if data[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
		return false, nil
	}
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false, err
	}
	// The first namespace maps every id onto itself.
	return strings.Join(strings.Fields(string(b)), " ") == "0 0 4294967295", nil
}

// SuspendsSeccomp tells whether ckpt may suspend the seccomp filters of others
// (PTRACE_O_SUSPEND_SECCOMP) and read them: it is Privileged, and under no filter
// itself, as it is in many containers of Docker (ptrace_setoptions() and
// seccomp_get_filter() in the kernel).
func SuspendsSeccomp() (bool, error) {
	privileged, err := Privileged()
	if err != nil || !privileged {
		return false, err
	}
	mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	if err == unix.EINVAL { // a kernel without seccomp
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask for the seccomp mode of ckpt: %w", err)
	}
	return mode == unix.SECCOMP_MODE_DISABLED, nil
}
