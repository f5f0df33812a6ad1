package regfile

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/procfs"
)

// TestDelegation: Linux 6.19 has them; its line in fdinfo is that of a lease but
// for the name (fs/locks.c).
func TestDelegation(t *testing.T) {
	for line, says := range map[string]string{
		"lock:\t1: DELEG  ACTIVE    READ 2 fe:00:131 0 EOF": "a delegation (F_SETDELEG) of /srv/dir is not carried",
		"lock:\t1: LEASE  ACTIVE    READ 2 fe:00:131 0 EOF": "",
	} {
		err := refuseLock(&kind.Desc{FD: 3, Link: "/srv/dir", Info: &procfs.FDInfo{Lines: []string{line}}})
		if (err != nil) != (says != "") || err != nil && (err.Error() != says || len(failure.Hints(err)) != 1) {
			t.Errorf("%q: %v, want %q", line, err, says)
		}
	}
}

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
