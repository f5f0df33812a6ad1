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

// hide forks the bare child of Dump.Within from that of Dump.Inside, whose
// children are born in the container's pid namespace. It takes a number there
// that is free, which moves no counter (alloc_pid() in kernel/pid.c, for
// set_tid), and is gone before any process goes on. Of processes that share
// ckpt's pid namespace the other child will do.
func (s *session) hide() error {
	if s.hidden != nil {
		return nil
	}
	if s.src.Adopted {
		s.hidden = s.hand
		return nil
	}
	for id := pidns.Init + 1; ; id++ {
		if _, taken := s.table.Host(id); taken {
			continue
		}
		child, err := tracee.ForkStub(s.hand, s.handSite, tracee.ForkOptions{VPID: int(id), ExitSignal: unix.SIGCHLD})
		if errors.Is(err, unix.EEXIST) {
			continue // of a group or session whose leader is gone
		}
		if err != nil {
			return fmt.Errorf("enter the container's pid namespace: %w", err)
		}
		s.hidden = child
		return nil
	}
}

// unhide ends that child.
func (s *session) unhide() error {
	child := s.hidden
	if s.hidden = nil; child == nil || child == s.hand {
		return nil
	}
	err := child.Kill()
	if err == nil {
		_, err = s.hand.Syscall(s.handSite, unix.SYS_WAIT4, uint64(child.PID), 0, unix.WNOHANG|unix.WALL, 0)
	}
	if err != nil {
		return fmt.Errorf("leave the container's pid namespace: %w", err)
	}
	return nil
}
