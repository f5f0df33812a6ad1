package unixsock

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
)

// controlSize holds the most that one message can carry: 253 descriptors
// (SCM_MAX_FD), credentials, a pidfd, a security label, timestamps.
const controlSize = 4096

// peeked is a message that was looked at.
type peeked struct {
	data, name []byte
	control
}

// peek looks at everything in the queue of a socket, in order, and takes
// nothing out. What it returns holds descriptors of its own, also beside an
// error.
//
// A pending error must stay: recvmsg(2) hands it out and forgets it. A stream
// does so only at the end of its queue, which is not reached here; the others
// at once.
func peek(fd int, i *info) ([]peeked, error) {
	shows, err := kernel.Poll(uintptr(fd), unix.POLLIN)
	if err != nil {
		return nil, fmt.Errorf("poll it: %w", err)
	}
	if shows&unix.POLLIN == 0 || i.typ == unix.SOCK_STREAM && i.inq == 0 {
		return nil, nil
	}
	if i.typ == unix.SOCK_STREAM {
		return peekStream(fd, int(i.inq))
	}
	if shows&unix.POLLERR != 0 {
		if i.typ == unix.SOCK_SEQPACKET && i.inq == 0 {
			return nil, nil // readable since it has ended
		}
		return nil, failure.WithHint(failure.Unsupportedf("unix socket: an error waits to be read in front of messages"), "try again once the program has read it")
	}
	return peekMessages(fd, i)
}

// peekStream: without control data one look is enough, and nothing is set.
// Descriptors come with the piece of the stream that one read would return,
// which may begin with what was sent before them.
func peekStream(fd, size int) (out []peeked, err error) {
	if err := urgent(fd); err != nil {
		return nil, err
	}
	old, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF)
	if err != nil {
		return nil, fmt.Errorf("read SO_PEEK_OFF: %w", err)
	}
	if old < 0 {
		m, err := peekOne(fd, size)
		if err != nil || len(m.data) == size && len(m.fds) == 0 && m.cred == nil {
			return []peeked{m}, err
		}
		closeAll(m.fds)
	}
	out, err = walk(fd, size, func(sum int, m *peeked) bool { return sum == size || m != nil && len(m.data) == 0 })
	if err != nil {
		return out, err
	}
	return part(fd, out)
}

// part makes two of a piece in front of whose descriptors something else stands:
// a shorter read gets that alone, and no descriptors.
func part(fd int, pieces []peeked) (out []peeked, err error) {
	off := 0
	for _, m := range pieces {
		size, at := len(m.data), 0
		if len(m.fds) > 0 && err == nil {
			at, err = sentWith(fd, off, size)
		}
		if at > 0 {
			out = append(out, peeked{data: m.data[:at], control: control{cred: m.cred}})
			m.data = m.data[at:]
		}
		out = append(out, m)
		off += size
	}
	return out, err
}

// sentWith finds where in a piece of a stream, size bytes from off on, what was
// sent with descriptors begins. It is the last of the messages that make up the
// piece, and one that cannot be copied wholly, for want of its last byte's place
// in memory, is not received at all (unix_stream_read_generic()).
func sentWith(fd, off, size int) (at int, err error) {
	page := os.Getpagesize()
	room := (size + page - 1) / page * page
	b, err := unix.Mmap(-1, 0, room+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0, fmt.Errorf("make room for what waits in it: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(b)) }()
	if err := unix.Mprotect(b[room:], unix.PROT_NONE); err != nil {
		return 0, fmt.Errorf("make room for what waits in it: %w", err)
	}
	err = withPeek(fd, off, func() error {
		m, err := kernel.RecvUnix(fd, b[room-(size-1):][:size], nil, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EFAULT) { // it is the first
			return nil
		}
		at = len(m.Data)
		return err
	})
	return at, err
}

// peekMessages keeps boundaries. An empty message that was looked at once is
// skipped from then on when SO_PEEK_OFF is set (__skb_try_recv_from_queue());
// only in front of the queue it still shows, to a MSG_PEEK without offset.
func peekMessages(fd int, i *info) (out []peeked, err error) {
	// Once a SOCK_SEQPACKET socket has ended, an empty queue reads as 0 bytes.
	ended := i.typ == unix.SOCK_SEQPACKET && i.shutdown&1 != 0
	end := func(sum int, m *peeked) bool { return ended && m != nil && len(m.data) == 0 && sum >= int(i.inq) }
	err = withPeek(fd, -1, func() error {
		m, err := peekOne(fd, 1)
		var cut *cutError
		switch {
		case errors.Is(err, unix.EAGAIN), errors.As(err, &cut):
			return nil
		case err == nil && len(m.data) == 0 && !end(0, &m):
			out = append(out, m)
			return nil
		}
		closeAll(m.fds)
		return err
	})
	if err != nil {
		return out, err
	}
	rest, err := walk(fd, 1<<16, end)
	return append(out, rest...), err
}

// walk looks at message after message until end says that this is past the
// last one (m not nil) or that nothing follows (m is nil). size is the room
// for one message.
func walk(fd, size int, end func(sum int, m *peeked) bool) (out []peeked, err error) {
	err = withPeek(fd, 0, func() error {
		for sum := 0; !end(sum, nil); {
			m, err := peekOne(fd, size)
			var cut *cutError
			switch {
			case errors.Is(err, unix.EAGAIN):
				return nil
			case errors.As(err, &cut): // again, with room for all of it
				size = cut.need
				if err := setPeek(fd, sum); err != nil {
					return err
				}
				continue
			case err != nil:
				return err
			case end(sum, &m):
				closeAll(m.fds)
				return nil
			}
			sum += len(m.data)
			out = append(out, m)
		}
		return nil
	})
	return out, err
}

// withPeek sets SO_PEEK_OFF (Linux 3.4) for fn, below 0: off. It belongs to
// the socket, so what was there is put back.
func withPeek(fd, off int, fn func() error) error {
	old, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF)
	if err != nil {
		return fmt.Errorf("read SO_PEEK_OFF: %w", err)
	}
	if err := setPeek(fd, off); err != nil {
		return err
	}
	return errors.Join(fn(), setPeek(fd, old))
}

func setPeek(fd, off int) error {
	if now, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF); err == nil && now == off {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF, off); err != nil {
		return fmt.Errorf("set SO_PEEK_OFF to %d: %w", off, err)
	}
	return nil
}

// cutError: the message is longer than the buffer.
type cutError struct{ need int }

func (e *cutError) Error() string { return fmt.Sprintf("a message of %d bytes", e.need) }

func peekOne(fd, size int) (peeked, error) {
	// MSG_TRUNC only tells when something was cut off, not how much (a stream
	// has nothing to cut).
	m, err := kernel.RecvUnix(fd, make([]byte, size), make([]byte, controlSize),
		unix.MSG_PEEK|unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		if errors.Is(err, unix.EAGAIN) {
			return peeked{}, err
		}
		return peeked{}, fmt.Errorf("look at its queue (MSG_PEEK): %w", err)
	}
	c, err := parseControl(m.Control)
	if err == nil && m.Flags&unix.MSG_TRUNC != 0 {
		err = &cutError{need: 2 * size}
	}
	if err == nil && m.Flags&unix.MSG_CTRUNC != 0 {
		err = failure.Unsupportedf("a message with more than %d bytes of control data", controlSize)
	}
	if err != nil {
		closeAll(c.fds)
		return peeked{}, err
	}
	return peeked{data: append([]byte(nil), m.Data...), name: m.Name, control: c}, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// urgent refuses a byte sent out of band (MSG_OOB, Linux 5.15): its place in
// the stream is not shown.
func urgent(fd int) error {
	_, err := kernel.RecvUnix(fd, make([]byte, 1), nil, unix.MSG_OOB|unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err != nil {
		return nil // EINVAL: there is none
	}
	return failure.WithHint(failure.Unsupportedf("unix socket: out-of-band data (MSG_OOB) waits to be read"), "try again once the program has read it")
}
