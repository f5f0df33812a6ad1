package tty

import (
	"fmt"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	ttyimg "github.com/checkpoint-restore/go-criu/v7/crit/images/tty"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
)

// pair is one terminal being restored.
type pair struct {
	master, slave *ttyimg.TtyInfoEntry // slave is always there
	masterID      uint32               // the master's entry in files.img; 0: it is closed
	slaves        int                  // descriptions of the slave
	left          int                  // descriptions still to be made
	contents      contents

	ptmx *os.File // ckpt's own, as peer
	peer *os.File // the slave; nil: not opened yet
}

type restorer struct{ pairs map[uint32]*pair }

func (s *restorer) load(r *kind.Restore) (err error) {
	if s.pairs == nil {
		s.pairs, err = read(r)
	}
	return err
}

// read gives the terminals of the image by index.
func read(r *kind.Restore) (map[uint32]*pair, error) {
	out := map[uint32]*pair{}
	err := image.Each(r.In, image.TTYInfo, "", func(e *ttyimg.TtyInfoEntry, _ func(int) ([]byte, error)) error {
		if e.GetType() != ttyimg.TtyType_PTY || e.Pty == nil {
			return failure.Unsupportedf("a terminal of type %v cannot be restored", e.GetType())
		}
		n := e.GetPty().GetIndex()
		if out[n] == nil {
			out[n] = &pair{}
		}
		if unix.Major(uint64(e.GetRdev())) == auxMajor {
			out[n].master = e
		} else {
			out[n].slave = e
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for id, e := range r.Entries {
		if e.GetTty() == nil {
			continue
		}
		p := find(out, e.GetTty().GetTtyInfoId())
		if p == nil {
			continue
		}
		p.left++
		if p.master != nil && p.master.GetId() == e.GetTty().GetTtyInfoId() {
			if p.masterID != 0 {
				return nil, failure.Damagedf("files %d and %d are both the master of terminal %d", p.masterID, id, p.master.GetPty().GetIndex())
			}
			p.masterID = id
		} else {
			p.slaves++
		}
	}
	return out, readContents(r, out)
}

// readContents finds what waits in each terminal. The entry is that of the end
// that has to read it.
func readContents(r *kind.Restore, pairs map[uint32]*pair) error {
	for _, p := range pairs {
		x := r.Extras[p.masterID]
		p.contents = contents{ends: x.GetInputEnds(), stop: x.GetStopped()}
	}
	return image.Each(r.In, image.TTYData, "", func(e *ttyimg.TtyDataEntry, _ func(int) ([]byte, error)) error {
		p := find(pairs, e.GetTtyId())
		switch {
		case p == nil:
			return failure.Damagedf("something waits in terminal %d, which is not in %s", e.GetTtyId(), image.TTYInfo.Name(""))
		case p.master != nil && p.master.GetId() == e.GetTtyId():
			p.contents.out = e.GetData()
		default:
			p.contents.in = e.GetData()
		}
		return nil
	})
}

func (s *restorer) restore(r *kind.Restore, e *fdinfo.FileEntry) (_ *os.File, err error) {
	t := e.GetTty()
	if t == nil {
		return nil, failure.Damagedf("a terminal without its entry")
	}
	if err := s.load(r); err != nil {
		return nil, err
	}
	p := find(s.pairs, t.GetTtyInfoId())
	if p == nil || p.slave == nil {
		return nil, failure.Damagedf("terminal %d is not in %s", t.GetTtyInfoId(), image.TTYInfo.Name(""))
	}
	if err := p.create(r); err != nil {
		return nil, err
	}
	f, err := p.open(r, e)
	if p.left--; err == nil && p.left == 0 {
		err = p.done()
	}
	if err == nil {
		err = r.RestoreOwner(f, t.GetFown())
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, err
	}
	return f, nil
}

func find(pairs map[uint32]*pair, info uint32) *pair {
	for _, p := range pairs {
		if p.slave != nil && p.slave.GetId() == info || p.master != nil && p.master.GetId() == info {
			return p
		}
	}
	return nil
}

func (p *pair) index() uint32 { return p.slave.GetPty().GetIndex() }

func (p *pair) name() string { return fmt.Sprintf("/dev/pts/%d", p.index()) }

// open makes a description. The master has only one: opening it again would
// make another terminal. openpty(3) by TIOCGPTPEER leaves out O_LARGEFILE.
func (p *pair) open(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	if f, err := p.openDevTTY(r, e); f != nil || err != nil {
		return f, err
	}
	flags := e.GetTty().GetFlags()
	if e.GetId() != p.masterID && p.peer == nil {
		return nil, failure.Damagedf("terminal %d has no slave", p.index())
	}
	if e.GetId() != p.masterID && flags&kind.LargeFile == 0 {
		fd, err := peerOf(p.ptmx, kind.OpenFlags(flags))
		if err != nil {
			return nil, err
		}
		return kind.NewFile(fd, flags, p.name())
	}
	if e.GetId() != p.masterID {
		return r.Reopen(p.peer, flags)
	}
	fd, err := unix.FcntlInt(p.ptmx.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate the master: %w", err)
	}
	return kind.NewFile(fd, flags, p.ptmx.Name())
}

// create makes the terminal as it was, but for what would keep ckpt out,
// unless it is there already.
func (p *pair) create(r *kind.Restore) error {
	if p.ptmx != nil {
		return nil
	}
	f, err := openIndex(p.index())
	if err != nil {
		return err
	}
	p.ptmx = f
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock the terminal (TIOCSPTLCK): %w", err)
	}
	if p.masterID != 0 {
		if err := p.set(r); err != nil {
			return err
		}
	}
	if p.slaves == 0 && !r.Extras[p.masterID].GetHungUp() {
		return nil // no slave has ever been opened
	}
	p.peer, err = openPeer(f)
	return err
}

// openIndex opens /dev/ptmx until the terminal has the wanted number: the
// kernel gives the lowest free one.
func openIndex(want uint32) (_ *os.File, err error) {
	var lower []*os.File
	defer func() {
		for _, f := range lower {
			f.Close()
		}
	}()
	for {
		fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("make a terminal (/dev/ptmx): %w", err)
		}
		f := os.NewFile(uintptr(fd), "/dev/ptmx")
		n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
		switch {
		case err != nil:
			f.Close()
			return nil, fmt.Errorf("ask for its number (TIOCGPTN): %w", err)
		case n == want:
			return f, nil
		case n > want:
			f.Close()
			return nil, failure.WithHint(fmt.Errorf("the terminal /dev/pts/%d, which the program knows by that name, is in use", want),
				fmt.Sprintf("end the program that runs in /dev/pts/%d", want))
		}
		lower = append(lower, f)
	}
}

// peerOf opens the slave without its path, which may be hidden. O_CLOEXEC
// would stay among the status flags of the description (dentry_open() in
// ptm_open_peer() of the kernel's pty.c).
func peerOf(ptmx *os.File, flags int) (fd int, err error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, ptmx.Fd(), unix.TIOCGPTPEER, uintptr(flags&^unix.O_CLOEXEC|unix.O_NOCTTY))
	if errno != 0 {
		return -1, fmt.Errorf("open the slave (TIOCGPTPEER): %w", errno)
	}
	unix.CloseOnExec(int(n))
	return int(n), nil
}

func openPeer(ptmx *os.File) (*os.File, error) {
	fd, err := peerOf(ptmx, unix.O_RDWR)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "terminal"), nil
}

// set gives the terminal its attributes.
func (p *pair) set(r *kind.Restore) error {
	fd := int(p.ptmx.Fd())
	if n := r.Extras[p.masterID].GetInode(); n != nil {
		path := p.name()
		if err := unix.Lchown(path, int(n.GetUid()), int(n.GetGid())); err != nil {
			return fmt.Errorf("give %s to user %d: %w", path, n.GetUid(), err)
		}
		if err := unix.Chmod(path, n.GetMode()&^unix.S_IFMT); err != nil {
			return fmt.Errorf("set the permissions of %s: %w", path, err)
		}
	}
	if e := p.slave.GetTermios(); e != nil {
		if err := unix.IoctlSetTermios(fd, unix.TCSETS2, termios(e)); err != nil {
			return fmt.Errorf("set its attributes (TCSETS2): %w", err)
		}
	}
	if e := p.slave.GetTermiosLocked(); e != nil && *termios(e) != (unix.Termios{}) {
		if err := unix.IoctlSetTermios(fd, unix.TIOCSLCKTRMIOS, termios(e)); err != nil {
			return fmt.Errorf("lock its attributes (TIOCSLCKTRMIOS): %w", err)
		}
	}
	if w := p.slave.GetWinsize(); w != nil {
		ws := &unix.Winsize{Row: uint16(w.GetWsRow()), Col: uint16(w.GetWsCol()), Xpixel: uint16(w.GetWsXpixel()), Ypixel: uint16(w.GetWsYpixel())}
		if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, ws); err != nil {
			return fmt.Errorf("set its window size (TIOCSWINSZ): %w", err)
		}
	}
	return nil
}

func termios(e *ttyimg.TermiosEntry) *unix.Termios {
	t := &unix.Termios{Iflag: e.GetCIflag(), Oflag: e.GetCOflag(), Cflag: e.GetCCflag(), Lflag: e.GetCLflag(),
		Line: uint8(e.GetCLine()), Ispeed: e.GetCIspeed(), Ospeed: e.GetCOspeed()}
	for i, c := range e.GetCCc() {
		if i < len(t.Cc) {
			t.Cc[i] = uint8(c)
		}
	}
	return t
}

// fill gives it what waits in it.
func (p *pair) fill() error {
	c := &p.contents
	if len(c.in)+len(c.out) == 0 && c.stop == image.FileExtra_NO || p.slave.GetTermios() == nil {
		return nil
	}
	t := termios(p.slave.GetTermios())
	if err := refill(p.ptmx, p.peer, t, c); err != nil {
		return err
	}
	return stop(p.ptmx, p.peer, t, c.stop)
}

// done sets what keeps others out or is disturbed by what came before, and
// lets go ckpt's own ends.
func (p *pair) done() error {
	fd := int(p.ptmx.Fd())
	set := func(f *os.File, want bool, req uint, what string) error {
		if !want {
			return nil
		}
		if err := unix.IoctlSetPointerInt(int(f.Fd()), req, 1); err != nil {
			return fmt.Errorf("set its %s: %w", what, err)
		}
		return nil
	}
	if p.peer != nil {
		if err := p.fill(); err != nil {
			return err
		}
		if p.slave.GetExclusive() {
			if err := unix.IoctlSetInt(int(p.peer.Fd()), unix.TIOCEXCL, 0); err != nil {
				return fmt.Errorf("set exclusive mode (TIOCEXCL): %w", err)
			}
		}
		p.peer.Close()
	}
	if p.master.GetExclusive() {
		if err := unix.IoctlSetInt(fd, unix.TIOCEXCL, 0); err != nil {
			return fmt.Errorf("set exclusive mode (TIOCEXCL): %w", err)
		}
	}
	if err := set(p.ptmx, p.master.GetPacketMode(), unix.TIOCPKT, "packet mode (TIOCPKT)"); err != nil {
		return err
	}
	if err := set(p.ptmx, p.master.GetLocked(), unix.TIOCSPTLCK, "lock (TIOCSPTLCK)"); err != nil {
		return err
	}
	return p.ptmx.Close()
}
