package mqueue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/tracee"
)

// errDeaf: what the process has asked for does not come about, since it has
// run another program in the meantime (self_exec_id in ipc/mqueue.c).
var errDeaf = errors.New("nothing comes about")

// lesson is the script by which a process tells what it is to be notified by:
// it takes it back, or lets it come about, and asks for it again.
type lesson struct {
	opened bool // its first call opens the queue
	batch  batch

	signalled, told, again tracee.Step
	info, secret           uint64 // addresses

	value  uint64
	cookie []byte
}

// build adds the calls. From the one behind the first on, none may stop the
// script.
func (l *lesson) build(s *tracee.Script, q *queue, x *notice) {
	byValue := x.how == sigevSignal && x.signal != 0
	fd := uint64(x.free)
	if l.opened = byValue || q.waiting > 0; l.opened {
		const flags = unix.O_RDWR | unix.O_NONBLOCK | unix.O_CLOEXEC
		if q.e.Unlinked {
			s.Must(unix.SYS_OPENAT, tracee.AtCwd, s.Str(fmt.Sprintf("/proc/self/fd/%d", x.fd)), flags)
		} else {
			s.Must(unix.SYS_MQ_OPEN, s.Str(string(q.e.Name)), flags)
		}
	}
	asked := uint64(0)
	switch {
	case byValue:
		l.batch.receive(s, q, fd)
		asked = l.addSignal(s, q, x, fd)
	case x.how == sigevThread:
		l.secret = s.Space(cookieSize)
		s.Try(unix.SYS_MQ_NOTIFY, uint64(x.fd), 0)
		l.told = s.Try(unix.SYS_RECVFROM, uint64(x.socket), l.secret, cookieSize, unix.MSG_DONTWAIT, 0, 0)
		asked = s.Data(event(l.secret, x.socket, sigevThread))
		l.batch.receive(s, q, fd)
	default:
		s.Try(unix.SYS_MQ_NOTIFY, uint64(x.fd), 0)
		asked = s.Data(event(0, x.signal, x.how))
		l.batch.receive(s, q, fd)
	}
	l.batch.send(s, fd)
	if l.opened {
		s.Try(unix.SYS_CLOSE, fd)
	}
	l.again = s.Try(unix.SYS_MQ_NOTIFY, uint64(x.fd), asked)
}

// addSignal lets a message arrive, takes it out and takes the signal. The
// address is that of what has to be asked for, a struct sigevent that is made
// where the signal's value comes to stand: the signal's number, which the call
// that takes it gives, is put behind it, and with the upper half of that
// SIGEV_SIGNAL, which is 0.
func (l *lesson) addSignal(s *tracee.Script, q *queue, x *notice, fd uint64) (asked uint64) {
	text := s.Space(int(q.e.MessageSize))
	s.Try(unix.SYS_MQ_TIMEDSEND, fd, text, 0, 0, 0)
	s.Try(unix.SYS_MQ_TIMEDRECEIVE, fd, text, uint64(q.e.MessageSize), 0, 0)
	l.info = s.Space(infoSize)
	set := s.Data(binary.LittleEndian.AppendUint64(nil, 1<<(x.signal-1)))
	l.signalled = s.Try(unix.SYS_RT_SIGTIMEDWAIT, set, l.info, s.Space(16), 8)
	asked = l.info + infoValue - eventValue
	s.Store(l.signalled, asked+eventSignal)
	return asked
}

// read takes in what the script has learnt.
func (l *lesson) read(s *tracee.Script, q *queue, x *notice) error {
	if err := l.batch.take(s, q); err != nil {
		return err
	}
	switch {
	case x.how == sigevSignal && x.signal != 0:
		info := s.Bytes(l.info, infoSize)
		_, err := s.Result(l.signalled)
		if errors.Is(err, unix.EAGAIN) {
			return errDeaf
		}
		if code := int32(binary.NativeEndian.Uint32(info[infoCode:])); err == nil && code != siMesgq {
			err = fmt.Errorf("a signal of another sort (si_code %d) came instead", code)
		}
		if err != nil {
			return fmt.Errorf("take the signal that it is to be notified by: %w", err)
		}
		l.value = binary.NativeEndian.Uint64(info[infoValue:])
	case x.how == sigevThread:
		if n, err := s.Result(l.told); err != nil || n != cookieSize {
			return fmt.Errorf("read what its netlink socket is to be told: %d bytes, %w", n, err)
		}
		l.cookie = slices.Clone(s.Bytes(l.secret, cookieSize))
	}
	if _, err := s.Result(l.again); err != nil {
		return fmt.Errorf("ask to be notified again: %w", err)
	}
	return nil
}
