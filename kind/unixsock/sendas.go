package unixsock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/pidns"
	"ckpt/tracee"
)

// The credentials of a message (SCM_CREDENTIALS, SCM_PIDFD) are those of its
// sender, and so the process that sent it sends it again. It may name any user
// of the container, for it is bare and has the rights for that in the
// container's user namespace; to name another process takes rights in the user
// namespace of one's own pid namespace (scm_check_creds() in net/core/scm.c),
// which only root has outside.

const (
	mostAtOnce = 1 << 15 // bytes of data that are sent by one script, with their calls
	takeAtOnce = 64      // descriptors that are brought in by one
)

// canSend: one in a user namespace made inside has no rights over ckpt, which it
// would have to take the socket from.
func (w *world) canSend(c *image.Ucred) bool {
	for _, t := range w.r.Targets {
		if uint32(t.VPID) == c.GetPid() && t.IDs.GetUserNsId() > image.NamespaceID {
			return false
		}
	}
	return w.canBe(c)
}

// courier is a process that sends.
type courier struct {
	w    *world
	cred *image.Ucred
	fds  []uint64 // the socket's number there, then those of what is sent along
}

// sendAs sends p from a socket as the process of its credentials. to is the
// address; nil: that of the connection.
func (f *filler) sendAs(from *sock, p *packet, to []byte) (err error) {
	c := &courier{w: f.w, cred: p.cred}
	defer func() { err = errors.Join(err, c.drop()) }()
	files := []*os.File{from.f}
	for _, id := range p.rights {
		file, err := f.w.r.File(id)
		if err != nil {
			return fmt.Errorf("a descriptor in flight: %w", err)
		}
		files = append(files, file)
	}
	if err := c.take(files); err != nil {
		return err
	}
	control := c.control()
	for first, data := true, p.data; first || len(data) > 0; first = false {
		n, err := c.send(to, data, control)
		if errors.Is(err, unix.EAGAIN) {
			return noRoom(len(data), err)
		}
		if err != nil {
			return fmt.Errorf("send %d bytes as pid %d: %w", len(data), p.cred.GetPid(), err)
		}
		if from.typ() != unix.SOCK_STREAM {
			return nil
		}
		data, control = data[n:], c.credentials() // those of every piece
	}
	return nil
}

func (c *courier) run(build func(*tracee.Script) error, read func(*tracee.Script) error) error {
	return c.w.r.As(pidns.VPID(c.cred.GetPid()), build, read)
}

func (c *courier) take(files []*os.File) error {
	for some := range slices.Chunk(files, takeAtOnce) {
		var steps []tracee.Step
		err := c.run(func(s *tracee.Script) error {
			for _, f := range some {
				steps = append(steps, c.w.r.Take(s, f))
			}
			return nil
		}, func(s *tracee.Script) error {
			for _, step := range steps {
				fd, err := s.Result(step)
				if err != nil {
					return err
				}
				c.fds = append(c.fds, fd)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *courier) drop() error {
	for some := range slices.Chunk(c.fds, takeAtOnce) {
		if err := c.run(func(s *tracee.Script) error {
			for _, fd := range some {
				s.Must(unix.SYS_CLOSE, fd)
			}
			return nil
		}, nil); err != nil {
			return err
		}
	}
	return nil
}

// credentials are those of the message: the process by the number that it
// knows itself by.
func (c *courier) credentials() []byte {
	own := pidns.VPID(c.cred.GetPid())
	for _, t := range c.w.r.Targets {
		if t.VPID == own {
			own = t.Own()
			break
		}
	}
	return unix.UnixCredentials(&unix.Ucred{Pid: int32(own), Uid: c.cred.GetUid(), Gid: c.cred.GetGid()})
}

func (c *courier) control() []byte {
	out := c.credentials()
	if len(c.fds) > 1 {
		var fds []int
		for _, fd := range c.fds[1:] {
			fds = append(fds, int(fd))
		}
		out = append(out, unix.UnixRights(fds...)...)
	}
	return out
}

// send is sendmsg(2). A stream takes a part of the data at a time.
func (c *courier) send(to, data, control []byte) (n int, err error) {
	if len(data) <= mostAtOnce {
		return c.sendAt(to, control, len(data), func(s *tracee.Script) uint64 { return s.Data(data) })
	}
	at, err := c.room(len(data))
	if err != nil {
		return 0, err
	}
	host, _ := c.w.r.HostPID(pidns.VPID(c.cred.GetPid()))
	if err = tracee.WriteMemory(int(host), at, data); err == nil {
		n, err = c.sendAt(to, control, len(data), func(*tracee.Script) uint64 { return at })
	}
	return n, errors.Join(err, c.run(func(s *tracee.Script) error {
		s.Must(unix.SYS_MUNMAP, at, uint64(len(data)))
		return nil
	}, nil))
}

// room is memory for what does not fit into a script.
func (c *courier) room(size int) (at uint64, err error) {
	var step tracee.Step
	err = c.run(func(s *tracee.Script) error {
		step = s.Must(unix.SYS_MMAP, 0, uint64(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0)
		return nil
	}, func(s *tracee.Script) (err error) {
		at, err = s.Result(step)
		return err
	})
	return at, err
}

func (c *courier) sendAt(to, control []byte, size int, at func(*tracee.Script) uint64) (n int, err error) {
	var step tracee.Step
	err = c.run(func(s *tracee.Script) error {
		msg := msghdr(s, at(s), size, s.Data(control), len(control))
		if len(to) > 0 {
			binary.LittleEndian.PutUint64(msg, s.Data(to))
			binary.LittleEndian.PutUint32(msg[8:], uint32(len(to)))
		}
		step = s.Try(unix.SYS_SENDMSG, c.fds[0], s.Data(msg), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return nil
	}, func(s *tracee.Script) error {
		sent, err := s.Result(step)
		n = int(sent)
		return err
	})
	return n, err
}

// noRoom tells what to do about EAGAIN.
func noRoom(bytes int, err error) error {
	return failure.WithHint(fmt.Errorf("%d bytes more do not fit: %w", bytes, err),
		"raise net.core.wmem_max and net.unix.max_dgram_qlen to what they were (sysctl)")
}
