package mqueue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// How a process is notified (sigevent(3type)).
const (
	sigevSignal = 0
	sigevNone   = 1
	sigevThread = 2
)

// Offsets in struct sigevent and in siginfo_t (include/uapi/asm-generic/siginfo.h),
// in bytes.
const (
	eventValue  = 0
	eventSignal = 8
	eventNotify = 12
	eventSize   = 64
	infoCode    = 8
	infoValue   = 24
	infoSize    = 128
)

const (
	siMesgq    = -3 // SI_MESGQ
	cookieSize = 32 // NOTIFY_COOKIE_LEN
	soMemInfo  = 55 // SO_MEMINFO: the first word is SK_MEMINFO_RMEM_ALLOC
)

// notice is what a process has asked for with mq_notify(3).
type notice struct {
	proc   *kind.Proc
	fd     int // by which it has the queue open
	free   int // the lowest descriptor it has not
	how    int
	signal int
	socket int // of SIGEV_THREAD
}

// findNotice reads who is to be notified of a message.
func (q *queue) findNotice(d *kind.Dump) error {
	text := make([]byte, 128)
	n, err := unix.Pread(int(q.file.Fd()), text, 0)
	if err != nil {
		return fmt.Errorf("read its status: %w", err)
	}
	how, signal, pid, err := parseStatus(string(text[:n]))
	if err != nil || pid == 0 {
		return err
	}
	p := procOf(d, pid)
	if p == nil {
		return failure.WithHint(failure.Unsupportedf("a process outside of the container (host pid %d) is to be notified of a message (mq_notify)", pid), "end that process before the dump")
	}
	x := &notice{proc: p, fd: -1, how: how, signal: signal}
	if err := x.find(q); err != nil {
		return &failure.Error{VPID: int(p.VPID), Comm: p.Comm, What: "is to be notified of a message (mq_notify)", Err: err}
	}
	q.notice = x
	return nil
}

// parseStatus parses what a read of a queue gives (mqueue_read_file() in
// ipc/mqueue.c). pid is 0 where nobody is to be notified.
func parseStatus(text string) (how, signal int, pid pidns.HostPID, err error) {
	var size uint64
	if _, err := fmt.Sscanf(text, "QSIZE:%d NOTIFY:%d SIGNO:%d NOTIFY_PID:%d", &size, &how, &signal, &pid); err != nil {
		return 0, 0, 0, fmt.Errorf("read its status %q: %w", text, err)
	}
	return how, signal, pid, nil
}

// find finds what the process needs to ask again, and refuses where it could
// not.
func (x *notice) find(q *queue) error {
	fds := fdsOf(x.proc)
	for _, fd := range fds {
		if fd.Desc.Stat.Ino == q.ino && owns(fd.Desc) {
			x.fd = fd.FD
			break
		}
	}
	if x.fd < 0 {
		return failure.WithHint(failure.Unsupportedf("it does not have the queue open"), "end it before the dump")
	}
	for slices.ContainsFunc(fds, func(fd kind.Descriptor) bool { return fd.FD == x.free }) {
		x.free++
	}
	switch {
	case x.how == sigevSignal && x.signal != 0:
		return x.canTake()
	case x.how == sigevThread:
		return x.findSocket(fds)
	}
	return nil
}

func fdsOf(p *kind.Proc) []kind.Descriptor {
	if p.SharesFiles != nil {
		return p.SharesFiles.Fds
	}
	return p.Fds
}

// canTake: the signal to learn from must be the only one of its number, and
// there must be room for what comes with it.
func (x *notice) canTake() error {
	st, err := x.proc.Lead().FS.Status()
	if err != nil {
		return err
	}
	if (st.SigPnd|st.ShdPnd)&(1<<(x.signal-1)) != 0 {
		return failure.WithHint(failure.Unsupportedf("signal %d, by which it is to be, waits already", x.signal), "try again when it has been taken")
	}
	limits, err := x.proc.Lead().FS.Limits()
	if err != nil {
		return err
	}
	if most := limits[unix.RLIMIT_SIGPENDING].Soft; uint64(st.SigQ) >= most {
		return failure.WithHint(failure.Unsupportedf("by what cannot be found out, as %d signals of its user wait, and no more than %d may", st.SigQ, most), "try again when they have been taken")
	}
	return nil
}

// findSocket finds the netlink socket that a thread waits at. The kernel keeps
// what it is to be told charged to the socket, which is empty all the same:
// others would have been refused.
func (x *notice) findSocket(fds []kind.Descriptor) error {
	var found []int
	for _, fd := range fds {
		f := fd.Desc.File.Fd()
		if domain, err := unix.GetsockoptInt(int(f), unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || domain != unix.AF_NETLINK {
			continue
		}
		b, err := kernel.SocketOption(f, unix.SOL_SOCKET, soMemInfo, make([]byte, 64))
		if err != nil {
			return fmt.Errorf("read what is charged to netlink socket %d: %w", fd.FD, err)
		}
		if len(b) >= 4 && binary.NativeEndian.Uint32(b) > 0 {
			found = append(found, fd.FD)
		}
	}
	if len(found) != 1 {
		return failure.WithHint(failure.Unsupportedf("by a thread (SIGEV_THREAD), and %d of its netlink sockets may be the one at which that waits", len(found)),
			"let it be notified of one queue at a time, or by a signal")
	}
	x.socket = found[0]
	return nil
}

// read lets the process receive what waits and send it again, and learns what
// it has asked for.
func (x *notice) read(d *kind.Dump, q *queue) error {
	var l lesson
	err := d.As(x.proc, uint64(q.room()), func(run tracee.Runner) error {
		err := run(func(s *tracee.Script) error { l.build(s, q, x); return nil }, func(s *tracee.Script) error { return l.read(s, q, x) })
		if errors.Is(err, errDeaf) {
			x.how, x.signal = sigevNone, 0
			return run(func(s *tracee.Script) error {
				s.Note(s.Must(unix.SYS_MQ_NOTIFY, uint64(x.fd), s.Data(event(0, 0, sigevNone))), "ask for nothing")
				return nil
			}, nil)
		}
		if se, ok := errors.AsType[*tracee.StepError](err); ok && l.opened && se.Step == 0 {
			return failure.WithHint(failure.Unsupportedf("it is to be notified of a message (mq_notify), and may not send any: %w", se.Errno),
				"give it the right to write to the queue, or end it before the dump")
		}
		return err
	})
	if err != nil {
		return &failure.Error{VPID: int(x.proc.VPID), Comm: x.proc.Comm, Err: err}
	}
	x.proc.Extra.QueueNotices = append(x.proc.Extra.QueueNotices, &image.QueueNotice{
		Queue: q.e.Id, Notify: uint32(x.how), Signal: uint32(x.signal), Value: l.value, Socket: uint32(x.socket), Cookie: l.cookie,
	})
	return nil
}

// event is a struct sigevent.
func event(value uint64, signal, how int) []byte {
	b := make([]byte, eventSize)
	binary.NativeEndian.PutUint64(b[eventValue:], value)
	binary.NativeEndian.PutUint32(b[eventSignal:], uint32(signal))
	binary.NativeEndian.PutUint32(b[eventNotify:], uint32(how))
	return b
}

// restoreNotices lets the process ask again, when its descriptors are what
// they were: closing one of the queue's would take it back.
func restoreNotices(r *kind.Restore, t *kind.Target) error {
	for _, n := range t.Extra.GetQueueNotices() {
		fd := -1
		for _, e := range t.Fds {
			if r.Extras[e.GetId()].GetMessageQueue() == n.GetQueue() {
				fd = int(e.GetFd())
				break
			}
		}
		if fd < 0 || n.GetQueue() == 0 || n.GetNotify() > sigevThread || n.GetNotify() == sigevThread && len(n.GetCookie()) != cookieSize {
			return failure.Damagedf("it is to be notified of message queue %d by %d", n.GetQueue(), n.GetNotify())
		}
		e := event(n.GetValue(), int(n.GetSignal()), int(n.GetNotify()))
		if n.GetNotify() == sigevThread {
			e = event(t.Late.Data(n.GetCookie()), int(n.GetSocket()), sigevThread)
		}
		t.Late.Note(t.Late.Must(unix.SYS_MQ_NOTIFY, uint64(fd), t.Late.Data(e)), fmt.Sprintf("ask to be notified of message queue %d", n.GetQueue()))
	}
	return nil
}
