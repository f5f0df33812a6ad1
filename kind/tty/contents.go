package tty

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/tracee"
)

// The kernel shows nobody what waits in a terminal: it has to be read and put
// back. A process that holds the master does both, in one script, so that the
// death of ckpt in between takes nothing away: no loops and no decisions, and
// no call that could wait.
//
// What the slave has to read is put back through the master, with attributes
// under which the line discipline passes every byte as it is. A kworker
// carries it from one end to the other, by the attributes of that moment, so
// that the old ones may come back only when it is done. poll(2) waits for it
// where nothing can be read as yet (n_tty_poll()); else it has begun, and
// what is in one buffer goes through under the lock that a change of attributes
// takes (n_tty_receive_buf_common(), tty_set_termios()).

const (
	fullBuffer  = 4095      // what a line discipline takes in (N_TTY_BUF_SIZE), in bytes
	oneBuffer   = 1792      // what is sure to travel together (TTY_BUFFER_PAGE), in bytes
	room        = 4096      // for one read, which gives fullBuffer at the most
	mostScript  = 700 << 10 // of the area that one process has for calls, in bytes: up to 20000 for a terminal
	lateMS      = 5         // for the kworker, where poll(2) does not tell, in ms
	termiosSize = 44
)

// contents is what waits in a terminal.
type contents struct {
	in, out []byte   // to be read from the slave, and from the master
	ends    []uint32 // offsets in in of what is no byte but an end of file (ctrl-D)
	stop    image.FileExtra_Stop
}

// before is a terminal as it was found.
type before struct {
	attr      *unix.Termios
	flags     int // of the master's description
	packet    bool
	locked    bool
	in, out   int  // bytes known to wait; in canonical mode without a line that has not ended
	firstLine bool // there is a line to be read, be it an end of file
	stopped   bool // output of the slave
}

// idle: there is nothing to be read at either end.
func (b *before) idle() bool { return b.attr.Lflag&unix.ICANON == 0 && b.in == 0 && b.out == 0 }

// ask adds the calls that read what waits in the terminals whose master p holds,
// and put it back.
func (c *control) ask(_ *kind.Dump, p *kind.Proc, s *tracee.Script) (func() error, error) {
	c.saver.asked = true
	var reads []func() error
	for _, fd := range p.Fds {
		for _, t := range c.saver.seen {
			if t.master != fd.Desc || t.kept != nil || s.Size() > mostScript || inBackground(p, t.index) {
				continue
			}
			b, err := t.before()
			if err != nil {
				return nil, kind.At(t.master, err)
			}
			if b == nil {
				continue
			}
			t.kept = &contents{}
			if b.stopped {
				if t.kept.stop, err = t.howStopped(b); err != nil {
					return nil, kind.At(t.master, err)
				}
			}
			if !b.idle() {
				reads = append(reads, t.readAndPutBack(s, uint64(fd.FD), b))
			}
		}
	}
	return func() error {
		var errs []error
		for _, read := range reads {
			errs = append(errs, read())
		}
		return errors.Join(errs...)
	}, nil
}

// inBackground: who may not read from his controlling terminal.
func inBackground(p *kind.Proc, index uint32) bool {
	if p.Stat == nil || p.Stat.TTYNr == 0 {
		return false
	}
	major, minor := p.Stat.TTYMajorMinor()
	return major >= slaveMajor && major <= oldMajors && minor == index && p.Stat.TPGid != p.Stat.PGrp
}

// before looks at a terminal. nil: its contents cannot be had, or there can be
// none; check refuses it if something waits. A master that has seen no slave
// yet would see one come and go.
func (p *pty) before() (*before, error) {
	fd := int(p.master.File.Fd())
	hung, err := hungUp(p.master)
	if err != nil || p.slave == nil && !hung {
		return nil, err
	}
	events, err := eventsOf(p.master.File)
	if err != nil || events&unix.POLLOUT == 0 || events&unix.POLLPRI != 0 {
		return nil, err
	}
	b := &before{flags: int(p.master.StatusFlags())}
	if b.flags&unix.O_ACCMODE != unix.O_RDWR {
		return nil, nil
	}
	if b.attr, err = unix.IoctlGetTermios(fd, unix.TCGETS2); err != nil {
		return nil, fmt.Errorf("read its attributes (TCGETS2): %w", err)
	}
	frozen, err := unix.IoctlGetTermios(fd, unix.TIOCGLCKTRMIOS)
	if err != nil || *frozen != (unix.Termios{}) || b.attr.Lflag&unix.EXTPROC != 0 {
		return nil, err
	}
	for req, into := range map[uint]*bool{unix.TIOCGPKT: &b.packet, unix.TIOCGPTLCK: &b.locked} {
		v, err := unix.IoctlGetInt(fd, req)
		if err != nil {
			return nil, fmt.Errorf("read its modes: %w", err)
		}
		*into = v != 0
	}
	if b.out, err = underWay(p.master.File); err != nil || b.out >= fullBuffer {
		return nil, err
	}
	slave := p.slave
	if slave == nil { // none is open any more
		if b.locked {
			return nil, nil
		}
		f, err := openPeer(p.master.File)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		slave = &kind.Desc{File: f}
	}
	if b.in, err = underWay(slave.File); err != nil || b.in >= fullBuffer {
		return nil, err
	}
	events, err = eventsOf(slave.File)
	b.firstLine, b.stopped = events&unix.POLLIN != 0, events&unix.POLLOUT == 0 && p.slave != nil
	return b, err
}

// howStopped tells TCOOFF, which TCOON takes back, from ctrl-S, which it does
// not.
func (p *pty) howStopped(b *before) (image.FileExtra_Stop, error) {
	packet := func(on int) error { return unix.IoctlSetPointerInt(int(p.master.File.Fd()), unix.TIOCPKT, on) }
	if b.packet { // else its reader would be told
		if err := packet(0); err != nil {
			return 0, fmt.Errorf("set packet mode (TIOCPKT): %w", err)
		}
	}
	how := image.FileExtra_BY_CHARACTER
	err := unix.IoctlSetInt(int(p.slave.File.Fd()), unix.TCXONC, tcOOn)
	if events, errPoll := eventsOf(p.slave.File); err == nil && errPoll == nil && events&unix.POLLOUT != 0 {
		how = image.FileExtra_BY_CALL
		err = unix.IoctlSetInt(int(p.slave.File.Fd()), unix.TCXONC, tcOOff)
	}
	if b.packet {
		err = errors.Join(err, packet(1))
	}
	if err != nil {
		return 0, fmt.Errorf("ask how its output was stopped (TCXONC): %w", err)
	}
	return how, nil
}

func eventsOf(f *os.File) (int16, error) {
	is, err := kernel.Poll(f.Fd(), unix.POLLIN|unix.POLLOUT|unix.POLLPRI)
	if err != nil {
		return 0, fmt.Errorf("poll it: %w", err)
	}
	return is, nil
}

// quiet are attributes under which bytes pass as they are. IXON stays, for to
// take it away starts output that was stopped; the characters that end a line
// stay, too.
func quiet(t *unix.Termios, canonical bool) *unix.Termios {
	q := *t
	q.Iflag &= unix.IXON
	q.Oflag &^= unix.OPOST
	q.Lflag &= unix.ICANON | unix.IEXTEN
	q.Cc = [len(q.Cc)]uint8{unix.VMIN: 1, unix.VEOL: t.Cc[unix.VEOL], unix.VEOL2: t.Cc[unix.VEOL2]}
	if !canonical {
		q.Lflag &^= unix.ICANON
	}
	return &q
}

func encodeTermios(t *unix.Termios) []byte {
	b, err := binary.Append(make([]byte, 0, termiosSize), binary.NativeEndian, t)
	if err != nil {
		panic("tty: " + err.Error()) // a struct of numbers
	}
	return b
}

// transfer is one direction: reads at one end, and writes at the other.
type transfer struct {
	s        *tracee.Script
	from, to end
	parts    []part
}

// end adds a call on a descriptor.
type end func(nr uintptr, args ...uint64) tracee.Step

type part struct {
	addr        uint64
	read, write tracee.Step
}

// take adds the reads: the second has what came in meanwhile.
func (x *transfer) take(reads int) {
	for range reads {
		addr := x.s.Space(room)
		x.parts = append(x.parts, part{addr: addr, read: x.from(unix.SYS_READ, addr, room)})
	}
}

// putBack adds the writes. What no read gave is not written: its error is no
// length.
func (x *transfer) putBack() {
	for i := range x.parts {
		length := x.s.Again(x.parts[i].read)
		x.parts[i].write = x.to(unix.SYS_WRITE, x.parts[i].addr, 0)
		x.s.Feed(length, x.parts[i].write, 2)
	}
}

// taken is what was read. A write that fits has written all of it.
func (x *transfer) taken() ([]byte, error) {
	var out []byte
	for _, p := range x.parts {
		n, err := x.s.Result(p.read)
		if err != nil { // there is no more
			continue
		}
		out = append(out, x.s.Bytes(p.addr, int(n))...)
		if w, err := x.s.Result(p.write); err != nil || w != n {
			return nil, fmt.Errorf("put back what waits in it: %d bytes of %d: %w", w, n, cmp.Or(err, io.ErrShortWrite))
		}
	}
	return out, nil
}

// readAndPutBack adds the calls to s; fd is the master's number in the process.
func (p *pty) readAndPutBack(s *tracee.Script, fd uint64, b *before) (read func() error) {
	number := func(v uint32) uint64 { return s.Data(binary.NativeEndian.AppendUint32(nil, v)) }
	master := func(nr uintptr, args ...uint64) tracee.Step { return s.Try(nr, append([]uint64{fd}, args...)...) }
	set := func(t *unix.Termios) { master(unix.SYS_IOCTL, unix.TCSETS2, s.Data(encodeTermios(t))) }
	if b.locked {
		master(unix.SYS_IOCTL, unix.TIOCSPTLCK, number(0))
	}
	opened := master(unix.SYS_IOCTL, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC)
	slave := func(nr uintptr, args ...uint64) tracee.Step {
		again := s.Again(opened)
		step := s.Try(nr, append([]uint64{0}, args...)...)
		s.Feed(again, step, 0)
		return step
	}
	if b.packet {
		master(unix.SYS_IOCTL, unix.TIOCPKT, number(0))
	}
	master(unix.SYS_FCNTL, unix.F_SETFL, uint64(b.flags|unix.O_NONBLOCK))

	canonical := b.attr.Lflag&unix.ICANON != 0
	in, out := &transfer{s: s, from: slave, to: master}, &transfer{s: s, from: master, to: slave}
	set(quiet(b.attr, false))
	if b.in > 0 || b.firstLine {
		in.take(2)
	} else {
		in.take(1)
	}
	if b.out > 0 {
		out.take(2)
	}
	set(quiet(b.attr, canonical))
	in.putBack()
	if b.stopped && b.out > 0 {
		slave(unix.SYS_IOCTL, unix.TCXONC, tcOOff) // whichever it was, both together let it go on
		slave(unix.SYS_IOCTL, unix.TCXONC, tcOOn)
	}
	out.putBack()
	wait(s, opened, b.in > oneBuffer/2)
	set(b.attr)
	if b.stopped && b.out > 0 {
		p.stopAgain(s, b, master, slave)
		wait(s, opened, true)
	}

	master(unix.SYS_FCNTL, unix.F_SETFL, uint64(b.flags))
	if b.packet {
		master(unix.SYS_IOCTL, unix.TIOCPKT, number(1))
	}
	if b.locked {
		master(unix.SYS_IOCTL, unix.TIOCSPTLCK, number(1))
	}
	slave(unix.SYS_CLOSE)
	return func() error {
		if _, err := s.Result(opened); err != nil {
			p.kept = nil
			return nil // exclusive, or too many open files: check looks whether something waits
		}
		c := p.kept
		var errIn, errOut error
		c.in, errIn = in.taken()
		c.out, errOut = out.taken()
		if err := errors.Join(errIn, errOut); err != nil || !canonical {
			return err
		}
		return p.markEnds(b)
	}
}

// stopAgain adds the call that stops output as it was stopped.
func (p *pty) stopAgain(s *tracee.Script, b *before, master, slave end) {
	if p.kept.stop == image.FileExtra_BY_CALL {
		slave(unix.SYS_IOCTL, unix.TCXONC, tcOOff)
		return
	}
	master(unix.SYS_WRITE, s.Data([]byte{b.attr.Cc[unix.VSTOP]}), 1)
}

// wait adds the calls that wait for the kworker.
func wait(s *tracee.Script, slave tracee.Step, long bool) {
	pollfd := s.Space(8)
	s.Store(s.Again(slave), pollfd) // no events, which are told or waited for all the same
	now := s.Space(16)
	s.Try(unix.SYS_PPOLL, pollfd, 1, now, 0, 0)
	if long {
		late := s.Data(binary.NativeEndian.AppendUint64(make([]byte, 8), lateMS*1e6))
		s.Try(unix.SYS_PPOLL, 0, 0, late, 0, 0)
	}
}

// markEnds finds out which bytes of the input are none but an end of file. The
// kernel keeps one as a zero byte at which a line ends (n_tty_receive_handle_newline());
// FIONREAD counts bytes of whole lines without them. Those have been put
// back as zeros: they are put in anew.
func (p *pty) markEnds(b *before) error {
	zeros := bytes.Count(p.kept.in, []byte{0})
	if zeros == 0 {
		return nil
	}
	last := lastEnd(b.attr, p.kept.in, nil)
	if len(p.kept.in[:last]) == b.in && (last > 0 || !b.firstLine) {
		return nil // zeros that were typed
	}
	for i, c := range p.kept.in {
		if c == 0 {
			p.kept.ends = append(p.kept.ends, uint32(i))
		}
	}
	return p.putAnew(b)
}

// putAnew puts in what the slave has to read.
func (p *pty) putAnew(b *before) (err error) {
	fd := int(p.master.File.Fd())
	set := func(on bool, req uint, v int) {
		if on && err == nil {
			err = unix.IoctlSetPointerInt(fd, req, v)
		}
	}
	set(b.locked, unix.TIOCSPTLCK, 0)
	set(b.packet, unix.TIOCPKT, 0)
	if err != nil {
		return fmt.Errorf("change its modes: %w", err)
	}
	slave, err := openPeer(p.master.File)
	if err != nil {
		return err
	}
	defer slave.Close()
	if err := refill(p.master.File, slave, b.attr, &contents{in: p.kept.in, ends: p.kept.ends}); err != nil {
		return err
	}
	set(b.packet, unix.TIOCPKT, 1)
	set(b.locked, unix.TIOCSPTLCK, 1)
	return err
}

// lastEnd is how many bytes of in belong to lines that have ended.
func lastEnd(t *unix.Termios, in []byte, ends []uint32) int {
	n := bytes.LastIndexByte(in, '\n')
	for _, c := range []uint8{t.Cc[unix.VEOL], t.Cc[unix.VEOL2]} {
		if c != 0 {
			n = max(n, bytes.LastIndexByte(in, c))
		}
	}
	if len(ends) > 0 {
		n = max(n, int(ends[len(ends)-1]))
	}
	return n + 1
}
