package restore

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"ckpt/kernel"
	"ckpt/restore/tree"
	"ckpt/tracee"
)

const pidMaxFile = "/proc/sys/kernel/pid_max"

// pidMax is kernel.pid_max as a bare child finds it: of its own pid namespace
// since Linux 6.14, where it begins with the greatest there can be, whatever
// the host's; of the whole machine before. clone3(2) with set_tid refuses that
// number and those above with EINVAL.
func pidMax(stub *tracee.Thread, site tracee.Site) (int, error) {
	sc := tracee.NewScript(site.Base)
	open := sc.Must(unix.SYS_OPENAT, atFDCWD, sc.Str(pidMaxFile), unix.O_RDONLY|unix.O_CLOEXEC)
	if err := stub.Run(site, sc); err != nil {
		return 0, fmt.Errorf("open kernel.pid_max: %w", err)
	}
	fd, err := sc.Result(open)
	if err != nil {
		return 0, fmt.Errorf("open kernel.pid_max: %w", err)
	}
	sc = tracee.NewScript(site.Base)
	buf := sc.Space(16)
	read := sc.Must(unix.SYS_READ, fd, buf, 16)
	sc.Must(unix.SYS_CLOSE, fd)
	if err := stub.Run(site, sc); err != nil {
		return 0, fmt.Errorf("read kernel.pid_max: %w", err)
	}
	n, err := sc.Result(read)
	if err != nil {
		return 0, fmt.Errorf("read kernel.pid_max: %w", err)
	}
	return parsePIDMax(sc.Bytes(buf, int(n)))
}

func parsePIDMax(b []byte) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("kernel.pid_max: %w", err)
	}
	return n, nil
}

// expectPIDMax is what pidMax will be in a container made here. ckpt's own is
// that or less; only if it does not suffice for these rows, a child in a
// namespace of its own is asked.
func expectPIDMax(rows []tree.Row) (int, error) {
	b, err := os.ReadFile(pidMaxFile)
	if err != nil {
		return 0, err
	}
	own, err := parsePIDMax(b)
	if err != nil || tree.Highest(rows) < own {
		return own, err
	}
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
	}
	var fresh int
	err = kernel.OnThread(func() error {
		stub, site, err := tracee.StartStub(tracee.StubOptions{Attr: attr})
		if err != nil {
			return err
		}
		defer stub.Kill()
		fresh, err = pidMax(stub, site)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("ask a process in a pid namespace of its own: %w", err)
	}
	return fresh, nil
}
