package inet

import (
	"encoding/binary"
	"errors"
	"fmt"

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
	desc     *kind.Desc // kept until finish has ended
	i        *seen
	other    *stream // nil: gone
	e        *tcp_stream.TcpStreamEntry
	in, out  []byte
	busy     bool // not all it has sent is acknowledged
	inRepair bool
	reuse    int // SO_REUSEADDR, which TCP_REPAIR overwrites
}

func (t *stream) fd() int { return int(t.desc.File.Fd()) }

// finish saves the streams. What one end has sent is read before what the
// other has received: were it the other way round, data could pass in between
// and be in neither.
func (s *saver) finish(d *kind.Dump) (err error) {
	defer func() {
		for _, t := range s.streams {
			err = errors.Join(err, t.leaveRepair())
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
	for _, step := range []func(*stream) error{(*stream).measure, (*stream).readSent, (*stream).readReceived, (*stream).leaveRepair} {
		for _, t := range s.streams {
			if err := step(t); err != nil {
				return kind.At(t.desc, err)
			}
		}
	}
	for _, t := range s.streams {
		if err := d.Out.Add(image.TCPStream, image.TCPStream.ID(uint64(uint32(t.desc.Stat.Ino))), t.e, t.in, t.out); err != nil {
			return err
		}
	}
	return nil
}

// timestampBytes is what the timestamp option takes of every segment.
const timestampBytes = 12

// measure reads what takes no repair mode.
func (t *stream) measure() error {
	mss, err := unix.GetsockoptInt(t.fd(), unix.IPPROTO_TCP, unix.TCP_MAXSEG)
	if err != nil {
		return fmt.Errorf("read TCP_MAXSEG: %w", err)
	}
	n, err := unix.IoctlGetInt(t.fd(), unix.SIOCOUTQ)
	if err != nil {
		return fmt.Errorf("read how much it has to send (SIOCOUTQ): %w", err)
	}
	t.busy = n > 0 && t.i.connected() // nobody will get what is left of a closed one
	if t.i.tcpOpts&infoOptTimestamps != 0 {
		mss += timestampBytes // which TCP_MAXSEG has taken off
	}
	// No timestamp: both ends begin anew, and no program sees it.
	t.e = &tcp_stream.TcpStreamEntry{InqLen: proto.Uint32(0), InqSeq: proto.Uint32(0), OutqLen: proto.Uint32(0), OutqSeq: proto.Uint32(0),
		OptMask: proto.Uint32(uint32(t.i.tcpOpts)), SndWscale: proto.Uint32(uint32(t.i.sndW)), RcvWscale: proto.Uint32(uint32(t.i.rcvW)),
		MssClamp: proto.Uint32(uint32(mss)), UnsqLen: proto.Uint32(0)}
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
// needed, which a ckpt killed meanwhile would leave behind; the sequence
// numbers are free to choose, as long as the two ends agree.
func (t *stream) idle() bool { return !t.busy && (t.other == nil || !t.other.busy) }

// idleSeq is where the bytes that an idle end has sent are said to end.
const idleSeq = 1 << 20

// readSent reads the queue of what the other end has not acknowledged.
func (t *stream) readSent() error {
	fin := 0
	if sentFin(t.i.state) {
		fin = 1
	}
	if t.idle() {
		t.e.OutqSeq = proto.Uint32(idleSeq + uint32(fin))
		return nil
	}
	var err error
	if t.reuse, err = unix.GetsockoptInt(t.fd(), unix.SOL_SOCKET, unix.SO_REUSEADDR); err != nil {
		return fmt.Errorf("read SO_REUSEADDR: %w", err)
	}
	if err := repair(t.fd(), repairOn); err != nil {
		return err
	}
	t.inRepair = true
	seq, err := queueSeq(t.fd(), sendQueue)
	if err != nil {
		return err
	}
	t.e.OutqSeq = proto.Uint32(seq)
	for range 100 { // an acknowledgement may come in between
		all, unsent, err := t.toSend()
		if err != nil {
			return err
		}
		// A FIN counts as a byte of the queue, behind the data.
		n := max(all-fin, 0)
		t.e.OutqLen, t.e.UnsqLen = proto.Uint32(uint32(n)), proto.Uint32(uint32(max(unsent-fin, 0)))
		if t.out, err = t.peek(n); err != nil {
			return err
		}
		if a, u, err := t.toSend(); err != nil {
			return err
		} else if a == all && u == unsent && len(t.out) == n {
			return nil
		}
	}
	return failure.WithHint(failure.Unsupportedf("a TCP connection to %s in which the kernel is too busy", t.i.peer), "try again in a moment")
}

// toSend are the bytes not acknowledged and, of these, not sent.
func (t *stream) toSend() (all, unsent int, err error) {
	if all, err = unix.IoctlGetInt(t.fd(), unix.SIOCOUTQ); err != nil {
		return 0, 0, fmt.Errorf("read how much it has to send (SIOCOUTQ): %w", err)
	}
	if unsent, err = unix.IoctlGetInt(t.fd(), siocOutqNSD); err != nil {
		return 0, 0, fmt.Errorf("read how much it has not sent (SIOCOUTQNSD): %w", err)
	}
	return all, unsent, nil
}

// readReceived reads what the program has not read yet.
func (t *stream) readReceived() error {
	n, err := unix.IoctlGetInt(t.fd(), unix.SIOCINQ)
	if err != nil {
		return fmt.Errorf("read how much it has received (SIOCINQ): %w", err)
	}
	t.e.InqLen = proto.Uint32(uint32(n))
	seq := uint32(idleSeq)
	if t.inRepair {
		if seq, err = queueSeq(t.fd(), recvQueue); err != nil {
			return err
		}
		if err := getWindow(t.fd(), t.e); err != nil {
			return err
		}
	} else {
		if gotFin(t.i.state) {
			seq++
		}
		if err := t.idleWindow(seq); err != nil {
			return err
		}
	}
	t.e.InqSeq = proto.Uint32(seq)
	t.in, err = t.peek(n)
	if err == nil && len(t.in) != n {
		err = failure.WithHint(failure.Unsupportedf("a TCP connection to %s: %d bytes were to be read, not %d as announced", t.i.peer, len(t.in), n), "try again in a moment")
	}
	return err
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

// peek copies up to n bytes, and one more where there are more, in repair mode
// of the chosen queue. It goes from the
// beginning, wherever the program's own peeking stands (SO_PEEK_OFF, for TCP
// since Linux 6.9), and leaves that alone.
func (t *stream) peek(n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	off, err := unix.GetsockoptInt(t.fd(), unix.SOL_SOCKET, unix.SO_PEEK_OFF)
	if err == nil && off >= 0 {
		if err := unix.SetsockoptInt(t.fd(), unix.SOL_SOCKET, unix.SO_PEEK_OFF, -1); err != nil {
			return nil, fmt.Errorf("set SO_PEEK_OFF: %w", err)
		}
		defer unix.SetsockoptInt(t.fd(), unix.SOL_SOCKET, unix.SO_PEEK_OFF, off)
	}
	b := make([]byte, n+1) // one more, to see that there is no more
	for {
		got, _, err := unix.Recvfrom(t.fd(), b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, fmt.Errorf("read a queue of %d bytes: %w", n, err)
		}
		return b[:got], nil
	}
}

func (t *stream) leaveRepair() error {
	if !t.inRepair {
		return nil
	}
	if err := leave(t.fd()); err != nil {
		return err
	}
	t.inRepair = false
	if err := unix.SetsockoptInt(t.fd(), unix.SOL_SOCKET, unix.SO_REUSEADDR, t.reuse); err != nil {
		return fmt.Errorf("set SO_REUSEADDR back: %w", err)
	}
	return nil
}

// end leaves connections that are about to be closed in repair mode: then they
// vanish without a word, and no TIME_WAIT holds their ports against the restore.
func (s *saver) end(*kind.Dump) error {
	var errs []error
	for _, t := range s.streams {
		if t.i.connected() && t.desc.FD >= 0 {
			errs = append(errs, repair(t.fd(), repairOn))
		}
	}
	return errors.Join(errs...)
}
