package sysv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

const fsconfigCreate = 6 // FSCONFIG_CMD_CREATE (include/uapi/linux/mount.h)

// refuseQueues refuses POSIX message queues, which nobody need have open: they
// are listed in the namespace's mqueue file system, wherever that is mounted
// or not.
func refuseQueues(d *kind.Dump) error {
	var names []string
	var known bool
	var buf uint64
	const size = 4096
	free, err := freeFDs(d, 3)
	if err != nil {
		return err
	}
	var steps [5]tracee.Step
	err = d.Inside(func(s *tracee.Script) error {
		buf = s.Space(size)
		steps[0] = s.Try(unix.SYS_FSOPEN, s.Str("mqueue"), 0)
		steps[1] = s.Try(unix.SYS_FSCONFIG, free[0], fsconfigCreate, 0, 0, 0)
		steps[2] = s.Try(unix.SYS_FSMOUNT, free[0], 0, 0)
		steps[3] = s.Try(unix.SYS_OPENAT, free[1], s.Str("."), unix.O_RDONLY|unix.O_DIRECTORY, 0) // fsmount gives an O_PATH descriptor
		steps[4] = s.Try(unix.SYS_GETDENTS64, free[2], buf, size)
		for _, fd := range free {
			s.Try(unix.SYS_CLOSE, fd)
		}
		return nil
	}, func(s *tracee.Script) error {
		n, err := s.Result(steps[4])
		if _, missing := s.Result(steps[0]); errors.Is(missing, unix.ENODEV) {
			known = true // a kernel without them
			return nil
		}
		if known = err == nil; known {
			names = entries(s.Bytes(buf, size)[:n])
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case !known:
		d.Log.Warn("whether there are POSIX message queues cannot be seen, they would be lost")
	case len(names) > 0:
		return failure.WithHint(failure.Unsupportedf("POSIX message queues are not carried: /%s", strings.Join(names, ", /")),
			"remove them with mq_unlink(3), or rm in a mounted mqueue file system")
	}
	return nil
}

// freeFDs are the numbers that the next n descriptors of ckpt's bare child get.
func freeFDs(d *kind.Dump, n int) ([]uint64, error) {
	p, err := procfs.Open(int(d.Hand))
	if err != nil {
		return nil, err
	}
	defer p.Close()
	fds, err := p.FDs()
	if err != nil {
		return nil, fmt.Errorf("list the descriptors of ckpt's bare child: %w", err)
	}
	used := map[int]bool{}
	for _, fd := range fds {
		used[fd] = true
	}
	var out []uint64
	for fd := 0; len(out) < n; fd++ {
		if !used[fd] {
			out = append(out, uint64(fd))
		}
	}
	return out, nil
}

// entries are the names in what getdents64(2) gave, without "." and "..".
func entries(b []byte) (out []string) {
	const nameAt = 19 // struct linux_dirent64: ino, off, reclen, type, name
	for len(b) >= nameAt {
		n := int(binary.NativeEndian.Uint16(b[16:]))
		if n < nameAt || n > len(b) {
			break
		}
		name, _, _ := strings.Cut(string(b[nameAt:n]), "\x00")
		if name != "." && name != ".." {
			out = append(out, name)
		}
		b = b[n:]
	}
	return out
}
