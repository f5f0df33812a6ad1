package container

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"ckpt/kernel"
	"ckpt/tracee"
)

// PIDMaxName: of the reader's pid namespace since Linux 6.14 (commit
// 7863dcc72d0f), where it begins with the greatest there can be, whatever the
// host's; of the whole machine before. clone3(2) with set_tid refuses that
// number and those above with EINVAL.
const PIDMaxName = "kernel/pid_max"

// GreatestPIDMax is the greatest it can be (PID_MAX_LIMIT of
// include/linux/threads.h, on 64-bit machines).
const GreatestPIDMax = 4 << 20

// NewPIDMax is kernel.pid_max in a pid namespace made here. It asks a child in
// one.
func NewPIDMax() (max int, err error) {
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
	}
	err = kernel.OnThread(func() error {
		stub, site, err := tracee.StartStub(tracee.StubOptions{Attr: attr})
		if err != nil {
			return err
		}
		defer stub.Kill()
		max, err = tracee.Sysctl(stub.Runner(site, "it"), PIDMaxName)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("ask a process in a pid namespace of its own: %w", err)
	}
	return max, nil
}
