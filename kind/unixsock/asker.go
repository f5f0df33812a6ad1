package unixsock

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// asker tells who sent what waits in a socket (SCM_CREDENTIALS), as the
// container knows him: a message keeps a struct pid, whose number on the host
// may be another's by now.
type asker struct {
	d    *kind.Dump
	sock int
	fd   uint64 // in the bare child of Dump.Within
	sent bool
}

// sender translates credentials; nil: none. Without any, the kernel shows pid 0
// and the overflow ids. The message has size bytes and begins off bytes into
// the queue.
func (a *asker) sender(c *unix.Ucred, off, size int) (*image.Ucred, error) {
	if c == nil || c.Pid == 0 {
		return nil, nil
	}
	u, err := ucred(a.d, c.Uid, c.Gid)
	if err != nil {
		return nil, err
	}
	v, ok := a.d.VPID(pidns.HostPID(c.Pid))
	inside := v
	if a.d.Within != nil && size > 0 {
		if inside, err = a.inside(off); err != nil {
			return nil, fmt.Errorf("ask for the sender of a message inside: %w", err)
		}
	}
	switch {
	case inside == 0: // nor can an empty message be found there
		return nil, failure.WithHint(failure.Unsupportedf("unix socket: a message with the credentials of a process outside the container, or an empty one of a process that has ended, waits to be read"),
			"try again once the program has read it")
	case !ok || inside != v || a.zombie(v):
		if _, err := a.d.Ended(-1, inside); err != nil {
			return nil, err
		}
	}
	u.Pid = uint32(inside)
	return u, nil
}

func (a *asker) zombie(v pidns.VPID) bool { return a.d.Running(v) == nil && v != pidns.Init }

// inside looks at the message in the container's pid namespace.
func (a *asker) inside(off int) (v pidns.VPID, err error) {
	if !a.sent {
		if a.fd, err = sendInside(a.d, a.sock); err != nil {
			return 0, err
		}
		a.sent = true
	}
	size := unix.CmsgSpace(12) // struct ucred, which comes first
	err = withPeek(a.sock, off, func() error {
		var control uint64
		return a.d.Within(func(s *tracee.Script) error {
			control = s.Space(size)
			s.Must(unix.SYS_RECVMSG, a.fd, s.Data(msghdr(s, s.Space(1), 1, control, size)), unix.MSG_PEEK|unix.MSG_DONTWAIT)
			return nil
		}, func(s *tracee.Script) error {
			c, err := parseControl(s.Bytes(control, size))
			if err == nil && c.cred != nil {
				v = pidns.VPID(c.cred.Pid)
			}
			return err
		})
	})
	return v, err
}

func (a *asker) close() error {
	if !a.sent {
		return nil
	}
	return a.d.Within(func(s *tracee.Script) error {
		s.Must(unix.SYS_CLOSE, a.fd)
		return nil
	}, func(*tracee.Script) error { return nil })
}

// msghdr is a struct msghdr with one piece of data; addresses are those of the
// process that runs s.
func msghdr(s *tracee.Script, data uint64, size int, control uint64, controlLen int) []byte {
	le := binary.LittleEndian
	msg := make([]byte, 56)
	le.PutUint64(msg[16:], s.Data(le.AppendUint64(le.AppendUint64(nil, data), uint64(size))))
	le.PutUint64(msg[24:], 1)
	le.PutUint64(msg[32:], control)
	le.PutUint64(msg[40:], uint64(controlLen))
	return msg
}
