package kernel

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// nowhere cannot be executed: execve(2) of it is ENOTDIR, and no step before
// it in a child made by os/exec fails so. A child that reports ENOTDIR has
// therefore been cloned, mapped and unshared as asked, and is gone again.
const nowhere = "/dev/null/ckpt"

// tryClone makes a child with the given attributes that ends at once.
func tryClone(attr *syscall.SysProcAttr) error {
	if os.Geteuid() != 0 {
		// An ordinary user has every other namespace inside a user namespace.
		attr.Cloneflags |= unix.CLONE_NEWUSER
	}
	if attr.Cloneflags&unix.CLONE_NEWUSER != 0 {
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	p, err := os.StartProcess(nowhere, []string{nowhere}, &os.ProcAttr{Sys: attr})
	switch {
	case err == nil:
		p.Kill()
		p.Wait()
		return fmt.Errorf("%s ran", nowhere)
	case errors.Is(err, unix.ENOTDIR):
		return nil
	}
	return err
}

// tryPidns: pid_namespaces(7).
func tryPidns() error {
	err := tryClone(&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID})
	switch {
	case errors.Is(err, unix.EINVAL):
		return failure.Unsupportedf("pid namespaces are not built into this kernel (CONFIG_PID_NS)")
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return failure.Unsupportedf("this user may not make a pid namespace: %w", err)
	}
	return err
}

// tryUserns: user_namespaces(7). Some distributions let the clone(2) succeed
// and then deny every capability inside (AppArmor), so a mount namespace is
// made inside as well, whose root os/exec makes private.
func tryUserns() error {
	err := tryClone(&syscall.SysProcAttr{
		Cloneflags:   unix.CLONE_NEWUSER | unix.CLONE_NEWPID,
		Unshareflags: unix.CLONE_NEWNS,
	})
	switch {
	case errors.Is(err, unix.EINVAL):
		return failure.Unsupportedf("user namespaces are not built into this kernel (CONFIG_USER_NS)")
	case errors.Is(err, unix.ENOSPC):
		return failure.Unsupportedf("this machine allows no user namespaces (user.max_user_namespaces)")
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return failure.Unsupportedf("this machine allows no user namespaces to ordinary users " +
			"(kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)")
	}
	return err
}

// tryTimens: time_namespaces(7), commit 769071ac9f20.
func tryTimens() error {
	err := tryClone(&syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWTIME})
	if errors.Is(err, unix.EINVAL) {
		return failure.Unsupportedf("time namespaces are not built into this kernel (CONFIG_TIME_NS)")
	}
	return err
}

// trySetTID: commit 49cb2fc42ce4 (clone3(2), set_tid). It asks for an id that
// is taken, the caller's own, so that EEXIST is the answer of a kernel which
// knows the field and lets this user use it.
func trySetTID() error {
	switch err := cloneTaken(); err {
	case unix.EEXIST, nil:
		return nil
	case unix.EPERM:
		// Without CAP_CHECKPOINT_RESTORE here; inside a user namespace of
		// one's own it is there.
		if e := tryUserns(); e != nil {
			return failure.Unsupportedf("choosing a process id wants CAP_CHECKPOINT_RESTORE or a user namespace: %w", e)
		}
		return nil
	default:
		return absent("clone3 with set_tid", err, unix.ENOSYS, unix.E2BIG)
	}
}
