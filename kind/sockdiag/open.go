// Package sockdiag asks sock_diag(7) about the sockets of a container's network
// namespace, for the kinds of sockets.
package sockdiag

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/tracee"
)

// Open makes a sock_diag socket in the container's network namespace: that of
// a socket is the one of whoever made it. Where it is the container's own, a
// process inside makes it, which needs no privilege.
func Open(d *kind.Dump) (*os.File, error) {
	if !d.OwnNet {
		return Here()
	}
	return inside(d)
}

// Here makes one in the network namespace of the calling thread.
func Here() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("make a netlink socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "sock_diag"), nil
}

func inside(d *kind.Dump) (f *os.File, err error) {
	var made tracee.Step
	var there uint64
	err = d.Peek(func(s *tracee.Script) error {
		made = s.Must(unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
		return nil
	}, func(s *tracee.Script) error {
		if there, err = s.Result(made); err != nil {
			return err
		}
		pidfd, err := unix.PidfdOpen(int(d.Hand), 0)
		if err != nil {
			return err
		}
		defer unix.Close(pidfd)
		fd, err := unix.PidfdGetfd(pidfd, int(there), 0)
		if err == nil {
			f = os.NewFile(uintptr(fd), "sock_diag")
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make a netlink socket inside: %w", err)
	}
	err = d.Peek(func(s *tracee.Script) error { s.Must(unix.SYS_CLOSE, there); return nil },
		func(*tracee.Script) error { return nil })
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("close the netlink socket inside: %w", err)
	}
	return f, nil
}
