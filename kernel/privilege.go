package kernel

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Privileged tells whether ckpt has CAP_SYS_ADMIN in the first user
// namespace. Suspending seccomp (PTRACE_O_SUSPEND_SECCOMP), reading filters
// and opening /proc/PID/map_files take that; rights in a user namespace of
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
