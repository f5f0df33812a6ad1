package restore

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"ckpt/kernel"
	"ckpt/procfs"
	"ckpt/restore/tree"
	"ckpt/tracee"
)

// pidMaxName: of the reader's pid namespace since Linux 6.14, where it begins
// with the greatest there can be, whatever the host's; of the whole machine
// before. clone3(2) with set_tid refuses that number and those above with
// EINVAL.
const pidMaxName = "kernel/pid_max"

// expectPIDMax is what kernel.pid_max will be in a container made here. ckpt's
// own is that or less; only if it does not suffice for these rows, a child in
// a namespace of its own is asked.
func expectPIDMax(rows []tree.Row) (int, error) {
	own, err := procfs.Sysctl(pidMaxName)
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
		fresh, err = tracee.Sysctl(stub.Runner(site, "it"), pidMaxName)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("ask a process in a pid namespace of its own: %w", err)
	}
	return fresh, nil
}
