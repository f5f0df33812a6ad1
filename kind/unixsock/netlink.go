package unixsock

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/tracee"
)

// errNoView: the container's network namespace cannot be looked into now.
var errNoView = errors.New("its network namespace is out of reach")

// sockets lists the unix sockets of the container's network namespace.
func sockets(d *kind.Dump) (table, error) {
	nl, err := netlink(d)
	if err != nil {
		return nil, err
	}
	defer nl.Close()
	return ask(int(nl.Fd()))
}

// netlink makes a sock_diag socket there: the namespace of a socket is that
// of whoever made it. Where it is the container's own, the container's init
// makes it, which needs no privilege; while only checking, nothing may run
// inside, and setns(2) is left, which wants CAP_SYS_ADMIN.
func netlink(d *kind.Dump) (*os.File, error) {
	switch {
	case !d.OwnNet:
		return newNetlink()
	case d.Inside != nil:
		return netlinkInside(d)
	}
	var f *os.File
	err := kernel.OnThread(func() error {
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", d.Hand))
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		f, err = newNetlink()
		return err
	})
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return nil, errNoView
	}
	return f, err
}

func newNetlink() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("make a netlink socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "sock_diag"), nil
}

func netlinkInside(d *kind.Dump) (f *os.File, err error) {
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
