package unixsock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// peerCred is what SO_PEERCRED tells, ids as seen inside; nil: nothing. The
// pid is 0 for a process outside of the container.
func peerCred(d *kind.Dump, desc *kind.Desc) (*image.Ucred, error) {
	fd := int(desc.File.Fd())
	c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return nil, fmt.Errorf("read SO_PEERCRED: %w", err)
	}
	if c.Uid == ^uint32(0) {
		return nil, nil
	}
	u, err := ucred(d, c.Uid, c.Gid)
	if err != nil {
		return nil, err
	}
	if u.Groups, err = groupsInside(d, fd); err != nil || c.Pid == 0 {
		return u, err
	}
	v, err := peer(d, fd, pidns.HostPID(c.Pid))
	u.Pid = uint32(v)
	return u, err
}

// peer is the virtual pid of the process that the kernel keeps with a socket;
// host is what that was on the host. When it has been waited for, host may be
// another's by now.
func peer(d *kind.Dump, fd int, host pidns.HostPID) (pidns.VPID, error) {
	pidfd, err := kernel.PeerPidfd(fd)
	switch {
	case errors.Is(err, unix.ENOPROTOOPT): // before Linux 6.5
		if _, ok := d.VPID(host); ok {
			return there(d, -1, host)
		}
		pidfd = -1
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL):
		pidfd = -1
	case err != nil:
		return 0, fmt.Errorf("read SO_PEERPIDFD: %w", err)
	default:
		defer unix.Close(pidfd)
		now, err := pidOf(pidfd)
		if err != nil {
			return 0, err
		}
		if now > 0 {
			return there(d, pidfd, now)
		}
	}
	v, err := numberInside(d, fd)
	if err != nil || v == 0 {
		return 0, err
	}
	_, err = d.Ended(pidfd, v)
	return v, err
}

// there is for a process that has not been waited for. One that is a zombie
// cannot make the socket again when it is one again.
func there(d *kind.Dump, pidfd int, host pidns.HostPID) (pidns.VPID, error) {
	v, ok := d.VPID(host)
	if !ok {
		return 0, nil
	}
	for _, p := range d.Procs {
		if p.VPID == v && p.Zombie {
			_, err := d.Ended(pidfd, v)
			return v, err
		}
	}
	return v, nil
}

// pidOf is the host pid that a pidfd of ckpt's is of; -1: it has been waited for.
func pidOf(pidfd int) (pidns.HostPID, error) {
	self, err := procfs.Open(os.Getpid())
	if err != nil {
		return 0, err
	}
	defer self.Close()
	info, err := self.FDInfo(pidfd)
	if err != nil {
		return 0, err
	}
	s, _ := (&kind.Desc{Info: info}).InfoLine("Pid")
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("read the process of a pidfd from fdinfo: %w", err)
	}
	return pidns.HostPID(n), nil
}

// numberInside is the pid that SO_PEERCRED gives to a process of the container;
// 0: it has none there.
func numberInside(d *kind.Dump, sock int) (pidns.VPID, error) {
	there, err := sendInside(d, sock)
	if err != nil {
		return 0, fmt.Errorf("ask for SO_PEERCRED inside: %w", err)
	}
	var cred uint64
	err = d.Within(func(s *tracee.Script) error {
		cred = s.Space(12) // struct ucred
		size := s.Data(binary.NativeEndian.AppendUint32(nil, 12))
		s.Must(unix.SYS_GETSOCKOPT, there, unix.SOL_SOCKET, unix.SO_PEERCRED, cred, size)
		s.Must(unix.SYS_CLOSE, there)
		return nil
	}, func(s *tracee.Script) error {
		cred = uint64(binary.NativeEndian.Uint32(s.Bytes(cred, 4)))
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("ask for SO_PEERCRED inside: %w", err)
	}
	return pidns.VPID(cred), nil
}

// sendInside gives a descriptor of ckpt's to the bare child of Dump.Within, and
// tells its number there. It goes through a socket, since the child has no
// rights over ckpt where it is in another user namespace.
func sendInside(d *kind.Dump, fd int) (uint64, error) {
	ends, err := pairWithin(d)
	if err != nil {
		return 0, err
	}
	pidfd, err := unix.PidfdOpen(int(d.Hidden()), 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(pidfd)
	mine, err := unix.PidfdGetfd(pidfd, int(ends[1]), 0)
	if err != nil {
		return 0, fmt.Errorf("pidfd_getfd: %w", err)
	}
	defer unix.Close(mine)
	if err := unix.Sendmsg(mine, []byte{0}, unix.UnixRights(fd), nil, 0); err != nil {
		return 0, fmt.Errorf("send it: %w", err)
	}
	return receiveWithin(d, ends)
}

func pairWithin(d *kind.Dump) (ends [2]uint64, err error) {
	var at uint64
	err = d.Within(func(s *tracee.Script) error {
		at = s.Space(8)
		s.Must(unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0, at)
		return nil
	}, func(s *tracee.Script) error {
		b := s.Bytes(at, 8)
		ends = [2]uint64{uint64(binary.NativeEndian.Uint32(b)), uint64(binary.NativeEndian.Uint32(b[4:]))}
		return nil
	})
	return ends, err
}

// receiveWithin receives one descriptor, and closes both ends.
func receiveWithin(d *kind.Dump, ends [2]uint64) (fd uint64, err error) {
	control := unix.CmsgSpace(4)
	var at uint64
	err = d.Within(func(s *tracee.Script) error {
		at = s.Space(control)
		msg := msghdr(s, s.Space(1), 1, at, control)
		s.Must(unix.SYS_RECVMSG, ends[0], s.Data(msg), unix.MSG_CMSG_CLOEXEC)
		s.Must(unix.SYS_CLOSE, ends[0])
		s.Must(unix.SYS_CLOSE, ends[1])
		return nil
	}, func(s *tracee.Script) error {
		c, err := parseControl(s.Bytes(at, control))
		if err == nil && len(c.fds) != 1 {
			err = fmt.Errorf("%d descriptors arrived", len(c.fds))
		}
		if err == nil {
			fd = uint64(c.fds[0])
		}
		return err
	})
	return fd, err
}
