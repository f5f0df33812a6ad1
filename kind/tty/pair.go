package tty

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/procfs"
)

// Devices (Documentation/admin-guide/devices.txt).
const (
	auxMajor   = 5 // 0 /dev/tty, 2 /dev/ptmx; 1, /dev/console, is the machine's
	slaveMajor = 136
	oldMajors  = 143 // 136 to 143 are those of slaves before devpts
)

func owns(d *kind.Desc) bool {
	if d.Stat.Mode&unix.S_IFMT != unix.S_IFCHR || d.Info.Flags&unix.O_PATH != 0 {
		return false
	}
	major, minor := unix.Major(d.Stat.Rdev), unix.Minor(d.Stat.Rdev)
	switch major {
	case 4: // consoles and serial lines
		return true
	case auxMajor:
		return minor == 0 || minor == 2
	}
	return major >= slaveMajor && major <= oldMajors
}

func isMaster(d *kind.Desc) bool { return d.Stat.Rdev == unix.Mkdev(auxMajor, 2) }

// index is N of /dev/pts/N; hungUp: the master is closed for good.
func index(d *kind.Desc) (n uint32, hungUp bool, err error) {
	if isMaster(d) {
		i, err := unix.IoctlGetUint32(int(d.File.Fd()), unix.TIOCGPTN)
		if err != nil {
			return 0, false, fmt.Errorf("ask for its number (TIOCGPTN): %w", err)
		}
		return i, false, nil
	}
	dev, err := unix.IoctlGetUint32(int(d.File.Fd()), unix.TIOCGDEV)
	if errors.Is(err, unix.EIO) {
		dev, hungUp, err = uint32(d.Stat.Rdev), true, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("ask which terminal it is (TIOCGDEV): %w", err)
	}
	if major := unix.Major(uint64(dev)); major < slaveMajor || major > oldMajors {
		if hungUp {
			return 0, true, failure.WithHint(failure.Unsupportedf("%s of a terminal that is gone", d.Link), "let the program close it before the dump")
		}
		return 0, false, failure.WithHint(
			failure.Unsupportedf("%s is a terminal outside the container", d.Link),
			"start the program with its input and output redirected, or under script(1) inside the container")
	}
	return unix.Minor(uint64(dev)), hungUp, nil
}

// pty is one pair.
type pty struct {
	index  uint32
	master *kind.Desc
	slave  *kind.Desc // one of them
	hungUp bool
	kept   *contents // of those of saver.seen, once asked
	// console: its master is Dump.Console, of those of saver.seen.
	console bool
}

func (p *pty) see(d *kind.Desc, hungUp bool) error {
	switch {
	case !isMaster(d):
		p.slave, p.hungUp = d, p.hungUp || hungUp
	case p.master != nil && p.master.ID != d.ID:
		return failure.WithHint(failure.Unsupportedf("two terminals have the number %d: those of several devpts file systems are not carried", p.index),
			"close one of them before the dump")
	default:
		p.master = d
	}
	return nil
}

// any is a description to say it by.
func (p *pty) any() *kind.Desc {
	if p.master != nil {
		return p.master
	}
	return p.slave
}

// own is the device of the container's /dev/pts; 0: it has none.
func own(d *kind.Dump) (uint64, error) {
	m, err := procfs.OnTop(int(d.Home), "devpts", "/dev/pts")
	if m == nil || err != nil {
		return 0, err
	}
	return m.Dev, nil
}

// foreign tells whether d is a slave of another /dev/pts, whose number says
// nothing here.
func foreign(d *kind.Desc, own uint64) bool {
	major := unix.Major(d.Stat.Rdev)
	return own != 0 && major >= slaveMajor && major <= oldMajors && d.Stat.Dev != own
}

// look finds, once, the terminals that descriptors of the container lead to.
func (s *saver) look(d *kind.Dump) (err error) {
	if s.seen != nil {
		return nil
	}
	if s.own, err = own(d); err != nil {
		return err
	}
	seen := map[uint32]*pty{}
	for _, p := range d.Procs {
		for _, fd := range p.Fds {
			if !owns(fd.Desc) || foreign(fd.Desc, s.own) || s.checkMaster(d, fd.Desc) != nil {
				continue // refuse says so where it is that descriptor's turn
			}
			n, hungUp, err := index(fd.Desc)
			if err != nil {
				continue
			}
			if seen[n] == nil {
				seen[n] = &pty{index: n}
			}
			if err := seen[n].see(fd.Desc, hungUp); err != nil {
				return err
			}
		}
	}
	s.seen = seen
	return s.lookConsole(d)
}
