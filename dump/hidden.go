package dump

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/pidns"
	"ckpt/tracee"
)

// runHidden is Dump.Within.
func (s *session) runHidden(build, read func(*tracee.Script) error) error {
	if err := s.hide(); err != nil {
		return err
	}
	return inNamespaces(s.hidden, s.handSite)(build, read)
}

// hide forks the bare child of Dump.Within. Of processes that share ckpt's pid
// namespace that of Dump.Inside will do.
func (s *session) hide() (err error) {
	if s.hidden != nil {
		return nil
	}
	if s.src.Adopted {
		s.hidden = s.hand
		return nil
	}
	s.hidden, _, err = s.enterFree()
	return err
}

// enterFree is enter with a number that nobody has, which it gives.
func (s *session) enterFree() (child *tracee.Thread, id pidns.VPID, err error) {
	if s.src.Adopted { // the numbers are the host's, and not only its processes have some
		if child, err = s.enter(0); err == nil {
			id = pidns.VPID(child.PID)
		}
		return child, id, err
	}
	for id = pidns.Init + 1; ; id++ {
		if _, taken := s.table.Host(id); taken {
			continue
		}
		child, err = s.enter(id)
		if !errors.Is(err, unix.EEXIST) { // of a group or session whose leader is gone
			return child, id, err
		}
	}
}

// apart is Dump.Apart.
func (s *session) apart(use func(pidns.VPID, tracee.Runner) error) error {
	child, id, err := s.enterFree()
	if err != nil {
		return err
	}
	return errors.Join(use(id, inNamespaces(child, s.handSite)), s.leave(child))
}

// enter forks a bare child into the container's pid namespace, into which the
// children of that of Dump.Inside are born. It takes a number there that is
// free, which moves no counter (alloc_pid() in kernel/pid.c, for set_tid), and
// is gone before any process goes on.
func (s *session) enter(id pidns.VPID) (*tracee.Thread, error) {
	child, err := tracee.ForkStub(s.hand, s.handSite, tracee.ForkOptions{VPID: int(id), ExitSignal: unix.SIGCHLD})
	if err != nil {
		return nil, fmt.Errorf("enter the container's pid namespace: %w", err)
	}
	return child, nil
}

// leave ends a child of that one.
func (s *session) leave(child *tracee.Thread) error {
	err := child.Kill()
	if err == nil {
		_, err = s.hand.Syscall(s.handSite, unix.SYS_WAIT4, uint64(child.PID), 0, unix.WNOHANG|unix.WALL, 0)
	}
	if err != nil {
		return fmt.Errorf("leave the container's pid namespace: %w", err)
	}
	return nil
}

// unhide ends the one of Dump.Within.
func (s *session) unhide() error {
	child := s.hidden
	if s.hidden = nil; child == nil || child == s.hand {
		return nil
	}
	return s.leave(child)
}

// asID is Dump.AsID.
func (s *session) asID(v pidns.VPID, build, read func(*tracee.Script) error) error {
	if p := s.d.Running(v); p != nil {
		return s.as(p, areaSize, func(run tracee.Runner) error { return run(build, read) })
	}
	if s.hidden != nil && s.hidden.VPID == int(v) {
		return s.runHidden(build, read)
	}
	child, err := s.enter(v)
	if err != nil {
		return err
	}
	return errors.Join(inNamespaces(child, s.handSite)(build, read), s.leave(child))
}
