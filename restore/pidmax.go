package restore

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/restore/tree"
)

// expectPIDMax is what kernel.pid_max will be in a container made here. ckpt's
// own is that or less; only if it does not suffice for these rows, a child in
// a namespace of its own is asked.
func expectPIDMax(rows []tree.Row) (int, error) {
	own, err := procfs.Sysctl(container.PIDMaxName)
	if err != nil || tree.Highest(rows) < own {
		return own, err
	}
	return container.NewPIDMax()
}

// limit is the kernel.pid_max that a pid namespace is to have, whose first
// process is first. Nothing can be born at or above it, so that it is set when
// all are there. The file is that of the namespace of who opened it.
type limit struct {
	first pidns.VPID
	max   uint32
	file  *os.File
}

// openPIDMax makes ready to limit the container's pid namespace, and those
// below, as they were.
func (s *session) openPIDMax() error {
	wanted := []limit{{first: pidns.Init, max: s.r.Manifest.GetPidMax()}}
	for _, t := range s.live() {
		wanted = append(wanted, limit{first: t.VPID, max: t.Extra.GetSpacePidMax()})
	}
	for _, l := range wanted {
		if l.max == 0 {
			continue
		}
		var own bool
		var err error
		if l.file, own, err = s.pidMaxOf(l.first); err != nil {
			return fmt.Errorf("kernel.pid_max of the pid namespace of pid %d: %w", l.first, err)
		}
		if !own {
			s.o.Log.Warn("kernel.pid_max is the whole machine's here, and is left as it is", "vpid", l.first, "was", l.max)
			_ = l.file.Close()
			continue
		}
		s.limits = append(s.limits, l)
	}
	return nil
}

// pidMaxOf lets a bare child open the number, and tells whether that is its
// namespace's own. If it is not, ckpt, which is outside, finds the very same
// file in the child's /proc.
func (s *session) pidMaxOf(v pidns.VPID) (f *os.File, own bool, err error) {
	path := procfs.SysctlPath(container.PIDMaxName)
	if f, err = s.openFrom(v, path, unix.O_WRONLY); err != nil {
		return nil, false, err
	}
	its, err := f.Stat()
	if err != nil {
		return nil, false, errors.Join(err, f.Close())
	}
	seen, err := os.Stat(fmt.Sprintf("/proc/%d/root%s", s.stubs[v].PID, path))
	if err != nil {
		return nil, false, errors.Join(err, f.Close())
	}
	return f, !os.SameFile(its, seen), nil
}

// setPIDMax limits them.
func (s *session) setPIDMax() error {
	for _, l := range s.limits {
		_, err := l.file.WriteString(strconv.FormatUint(uint64(l.max), 10))
		if errors.Is(err, unix.EINVAL) { // the least there can be grows with the number of processors (pidmap_init() in kernel/pid.c)
			s.o.Log.Warn("kernel.pid_max cannot be as low as it was on this machine, and stays the greatest there can be", "vpid", l.first, "was", l.max)
			continue
		}
		if err != nil {
			return fmt.Errorf("set kernel.pid_max of the pid namespace of pid %d: %w", l.first, err)
		}
	}
	return nil
}
