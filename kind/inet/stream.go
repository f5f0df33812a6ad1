package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"

	tcp_stream "github.com/checkpoint-restore/go-criu/v7/crit/images/tcp-stream"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
)

// stream is a connection's end being saved, or a closed socket with something
// left to read.
type stream struct {
	desc    *kind.Desc // kept until finish has ended
	i       *seen
	other   *stream // nil: gone
	e       *tcp_stream.TcpStreamEntry
	in, out []byte
	busy    bool // not all it has sent is acknowledged
	reuse   int  // SO_REUSEADDR, which TCP_REPAIR overwrites
}

func (t *stream) fd() int { return int(t.desc.File.Fd()) }

// finish saves the streams. What one end has sent is read before what the
// other has received: were it the other way round, data could pass in between
// and be in neither.
func (s *saver) finish(d *kind.Dump) error {
	defer func() {
		for _, t := range s.streams {
			t.desc.Drop()
		}
	}()
	byPair := map[pair]*stream{}
	for _, t := range s.streams {
		byPair[pairOf(t.i.local, t.i.peer)] = t
	}
	for _, t := range s.streams {
		if t.i.connected() {
			t.other = byPair[pairOf(t.i.local, t.i.peer).reverse()]
		}
	}
	if err := s.each((*stream).measure); err != nil {
		return err
	}
	runtime.LockOSThread() // the guards are this thread's children
	defer runtime.UnlockOSThread()
	stop, err := s.guard()
	if err != nil {
		return err
	}
	err = s.each((*stream).readSent)
	if err == nil {
		err = s.each((*stream).readReceived)
	}
	if err := errors.Join(err, stop()); err != nil {
		return err
	}
	for _, t := range s.streams {
		if err := d.Out.Add(image.TCPStream, image.TCPStream.ID(uint64(uint32(t.desc.Stat.Ino))), t.e, t.in, t.out); err != nil {
			return err
		}
	}
	return nil
}

// each takes a step with all streams, whether or not it fails with some.
func (s *saver) each(step func(*stream) error) error {
	var errs []error
	for _, t := range s.streams {
		if err := step(t); err != nil {
			errs = append(errs, kind.At(t.desc, err))
		}
	}
	return errors.Join(errs...)
}

// guard starts guards for the streams that need repair mode.
func (s *saver) guard() (stop func() error, err error) {
	var busy []*stream
	for _, t := range s.streams {
		if !t.idle() {
			busy = append(busy, t)
		}
	}
	var guards []*guard
	stop = func() error {
		var errs []error
		for _, g := range guards {
			errs = append(errs, g.stop())
		}
		return errors.Join(errs...)
	}
	for part := range slices.Chunk(busy, guarded) {
		g, err := guardFor(part)
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		guards = append(guards, g)
	}
	return stop, nil
}

// timestampBytes is what the timestamp option takes of every segment.
const timestampBytes = 12

// measure reads what takes no repair mode.
func (t *stream) measure() error {
	mss, err := unix.GetsockoptInt(t.fd(), unix.IPPROTO_TCP, unix.TCP_MAXSEG)
	if err != nil {
		return fmt.Errorf("read TCP_MAXSEG: %w", err)
	}
	n, _, err := toSend(t.fd())
	if err != nil {
		return err
	}
	t.busy = n > 0 && t.i.connected() // nobody will get what is left of a closed one
	if t.i.tcpOpts&infoOptTimestamps != 0 {
		mss += timestampBytes // which TCP_MAXSEG has taken off
	}
	if t.reuse, err = unix.GetsockoptInt(t.fd(), unix.SOL_SOCKET, unix.SO_REUSEADDR); err != nil {
		return fmt.Errorf("read SO_REUSEADDR: %w", err)
	}
	t.e = &tcp_stream.TcpStreamEntry{InqLen: proto.Uint32(0), InqSeq: proto.Uint32(0), OutqLen: proto.Uint32(0), OutqSeq: proto.Uint32(0),
		OptMask: proto.Uint32(uint32(t.i.tcpOpts)), SndWscale: proto.Uint32(uint32(t.i.sndW)), RcvWscale: proto.Uint32(uint32(t.i.rcvW)),
		MssClamp: proto.Uint32(uint32(mss)), UnsqLen: proto.Uint32(0)}
	// The other end, if it is outside, drops what is older than it knows (PAWS). Two
	// inside begin anew, for no program sees it; but CRIU wants a number.
	if t.i.tcpOpts&infoOptTimestamps != 0 {
		t.e.Timestamp = proto.Uint32(0)
	}
	if t.i.outside && t.i.tcpOpts&infoOptTimestamps != 0 {
		now, err := unix.GetsockoptInt(t.fd(), unix.IPPROTO_TCP, unix.TCP_TIMESTAMP)
		if err != nil {
			return fmt.Errorf("read its clock (TCP_TIMESTAMP): %w", err)
		}
		t.e.Timestamp = proto.Uint32(uint32(now))
	}
	for _, o := range []struct {
		name int
		to   **bool
	}{{unix.TCP_NODELAY, &t.e.Nodelay}, {unix.TCP_CORK, &t.e.Cork}} {
		if v, err := unix.GetsockoptInt(t.fd(), unix.IPPROTO_TCP, o.name); err != nil {
			return fmt.Errorf("read TCP option %d: %w", o.name, err)
		} else if v != 0 {
			*o.to = proto.Bool(true)
		}
	}
	return nil
}

// idle: nothing is on its way between the two ends. Then no repair mode is
// needed, and the sequence numbers are free to choose, as long as the two ends
// agree. One outside does not.
func (t *stream) idle() bool {
	return !t.i.outside && !t.busy && (t.other == nil || !t.other.busy)
}

// inRepair does something in repair mode, which is as short as can be: a
// program that meets it, because ckpt was killed, gets EPERM until the guard
// has put things right.
func (t *stream) inRepair(do func() error) error {
	if err := repair(t.fd(), repairOn); err != nil {
		return err
	}
	err := errors.Join(do(), leave(t.fd()))
	if rerr := unix.SetsockoptInt(t.fd(), unix.SOL_SOCKET, unix.SO_REUSEADDR, t.reuse); rerr != nil {
		err = errors.Join(err, fmt.Errorf("set SO_REUSEADDR back: %w", rerr))
	}
	return err
}

// idleSeq is where the bytes that an idle end has sent are said to end.
const idleSeq = 1 << 20

// readSent reads the queue of what the other end has not acknowledged.
func (t *stream) readSent() error {
	fin := 0
	if sentFin(t.i.state) {
		fin = 1 // it counts as a byte of the queue, behind the data
	}
	if t.idle() {
		t.e.OutqSeq = proto.Uint32(idleSeq + uint32(fin))
		return nil
	}
	for range 100 { // an acknowledgement may come in between
		all, unsent, err := toSend(t.fd())
		if err != nil {
			return err
		}
		buf := make([]byte, max(all-fin, 0)+1)
		var a, u, n int
		err = t.inRepair(func() error {
			seq, err := queueSeq(t.fd(), sendQueue)
			if err != nil {
				return err
			}
			t.e.OutqSeq = proto.Uint32(seq)
			if n, err = t.peek(buf, len(buf) > 1); err != nil {
				return err
			}
			a, u, err = toSend(t.fd())
			return err
		})
		if err != nil {
			return err
		}
		if a == all && u == unsent && n == len(buf)-1 {
			t.out = buf[:n]
			t.e.OutqLen, t.e.UnsqLen = proto.Uint32(uint32(n)), proto.Uint32(uint32(max(unsent-fin, 0)))
			return nil
		}
	}
	return failure.WithHint(failure.Unsupportedf("a TCP connection to %s in which the kernel is too busy", t.i.peer), "try again in a moment")
}

// readReceived reads what the program has not read yet. More may arrive behind
// it meanwhile, which the other end's queue, read before, has as well.
func (t *stream) readReceived() error {
	var n int
	var seq uint32
	look := func() (err error) {
		for again := true; again; { // until nothing arrives in between
			if seq, err = queueSeq(t.fd(), recvQueue); err != nil {
				return err
			}
			if n, err = t.received(); err != nil {
				return err
			}
			now, err := queueSeq(t.fd(), recvQueue)
			if err != nil {
				return err
			}
			again = now != seq
		}
		return getWindow(t.fd(), t.e)
	}
	run := func() error { return t.inRepair(look) }
	if t.idle() {
		run = func() (err error) {
			if seq = idleSeq; gotFin(t.i.state) {
				seq++
			}
			if n, err = t.received(); err != nil {
				return err
			}
			return t.idleWindow(seq)
		}
	}
	if err := run(); err != nil {
		return err
	}
	t.e.InqSeq, t.e.InqLen = proto.Uint32(seq), proto.Uint32(uint32(n))
	t.in = make([]byte, n)
	got, err := t.peek(t.in, n > 0)
	if err != nil {
		return err
	}
	if t.i.cut { // the program does not read, and what comes now comes too late
		return nil
	}
	now := &seen{}
	if err := now.lookTCP(t.fd()); err != nil {
		return err
	}
	if got != n || now.state != t.i.state {
		return failure.WithHint(failure.Unsupportedf("a TCP connection to %s that changes by itself (%s, %s)", t.i.peer, stateNames[t.i.state], stateNames[now.state]), "try again in a moment")
	}
	return nil
}

func (t *stream) received() (int, error) {
	n, err := unix.IoctlGetInt(t.fd(), unix.SIOCINQ)
	if err != nil {
		return 0, fmt.Errorf("read how much it has received (SIOCINQ): %w", err)
	}
	return n, nil
}

// Offsets in struct tcp_info (linux/tcp.h).
const (
	infoSndWnd = 228 // Linux 5.4
	infoRcvWnd = 232 // Linux 6.2
	infoWindow = 236
)

// idleWindow is what TCP_REPAIR_WINDOW would show where all has been
// acknowledged. Where the kernel does not tell, the ends find out themselves.
func (t *stream) idleWindow(seq uint32) error {
	b, err := kernel.SocketOption(t.desc.File.Fd(), unix.IPPROTO_TCP, unix.TCP_INFO, make([]byte, infoWindow))
	if err != nil {
		return fmt.Errorf("read TCP_INFO: %w", err)
	}
	if len(b) < infoWindow || !t.i.connected() {
		return nil
	}
	snd := binary.NativeEndian.Uint32(b[infoSndWnd:])
	t.e.SndWl1, t.e.SndWnd, t.e.MaxWindow = proto.Uint32(seq), proto.Uint32(snd), proto.Uint32(snd)
	t.e.RcvWnd, t.e.RcvWup = proto.Uint32(binary.NativeEndian.Uint32(b[infoRcvWnd:])), proto.Uint32(seq)
	return nil
}

// peek copies the beginning of the receive queue, in repair mode that of the
// chosen one, if any is to be there. It goes from the beginning, wherever the
// program's own peeking stands (SO_PEEK_OFF, for TCP since Linux 6.9), and
// leaves that alone.
func (t *stream) peek(b []byte, any bool) (n int, err error) {
	if !any {
		return 0, nil
	}
	off, err := unix.GetsockoptInt(t.fd(), unix.SOL_SOCKET, unix.SO_PEEK_OFF)
	if err == nil && off >= 0 {
		if err := unix.SetsockoptInt(t.fd(), unix.SOL_SOCKET, unix.SO_PEEK_OFF, -1); err != nil {
			return 0, fmt.Errorf("set SO_PEEK_OFF: %w", err)
		}
		defer func() {
			if serr := unix.SetsockoptInt(t.fd(), unix.SOL_SOCKET, unix.SO_PEEK_OFF, off); serr != nil {
				err = errors.Join(err, fmt.Errorf("set SO_PEEK_OFF back: %w", serr))
			}
		}()
	}
	for {
		n, _, err := unix.Recvfrom(t.fd(), b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN): // all was acknowledged meanwhile
			return 0, nil
		case err != nil:
			return 0, fmt.Errorf("read a queue: %w", err)
		}
		return n, nil
	}
}
