package regfile

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTriggers(t *testing.T) {
	for _, c := range []struct {
		fs         int64
		link, what string
	}{
		{unix.PROC_SUPER_MAGIC, "/proc/pressure/cpu", "pressure"},
		{unix.PROC_SUPER_MAGIC, "/proc/sys/pressure", ""},
		{unix.EXT4_SUPER_MAGIC, "/proc/pressure/cpu", ""},
		{unix.CGROUP2_SUPER_MAGIC, "/sys/fs/cgroup/a/memory.pressure", "pressure"},
		{unix.CGROUP2_SUPER_MAGIC, "/sys/fs/cgroup/a/cgroup.pressure", ""},
		{unix.CGROUP2_SUPER_MAGIC, "/sys/fs/cgroup/a/cgroup.procs", ""},
		{unix.CGROUP_SUPER_MAGIC, "/sys/fs/cgroup/memory/cgroup.event_control", "control group"},
		{unix.CGROUP_SUPER_MAGIC, "/sys/fs/cgroup/memory/tasks", ""},
	} {
		if got := triggers(c.fs, c.link); (got == "") != (c.what == "") || !strings.Contains(got, c.what) {
			t.Errorf("%s of file system %#x: %q, want %q", c.link, c.fs, got, c.what)
		}
	}
}
