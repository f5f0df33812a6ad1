// Package sockdiag asks sock_diag(7) about the sockets of a container's network
// namespace, for the kinds of sockets.
package sockdiag

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/tracee"
)

// ErrNoView: the container's network namespace cannot be looked into now.
var ErrNoView = errors.New("its network namespace is out of reach")

// Open makes a sock_diag socket in the container's network namespace: that of
// a socket is the one of whoever made it. Where it is the container's own, a
// process inside makes it, which needs no privilege; while only checking,
// nothing may run inside, and setns(2) is left, which wants CAP_SYS_ADMIN
// (ErrNoView).
func Open(d *kind.Dump) (*os.File, error) {
	switch {
	case !d.OwnNet:
		return Here()
	case d.Inside != nil:
		return inside(d)
	}
	var f *os.File
	err := kernel.OnThread(func() error {
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", d.Home))
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		f, err = Here()
		return err
	})
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return nil, ErrNoView
	}
	return f, err
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
	pidfd, err := unix.PidfdOpen(int(d.Hand), 0)
	if err != nil {
		return nil, fmt.Errorf("open a pidfd of the container's init: %w", err)
	}
	defer unix.Close(pidfd)
	var made tracee.Step
	var there uint64
	err = d.Inside(func(s *tracee.Script) error {
		made = s.Must(unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
		return nil
	}, func(s *tracee.Script) error {
		there, err = s.Result(made)
		if err != nil {
			return err
		}
		fd, err := unix.PidfdGetfd(pidfd, int(there), 0)
		if err == nil {
			f = os.NewFile(uintptr(fd), "sock_diag")
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make a netlink socket inside: %w", err)
	}
	err = d.Inside(func(s *tracee.Script) error { s.Must(unix.SYS_CLOSE, there); return nil },
		func(*tracee.Script) error { return nil })
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("close the netlink socket inside: %w", err)
	}
	return f, nil
}
