package tty

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/procfs"
)

// refuse wants every process's descriptors to be known: both ends are looked for.
func (s *saver) refuse(d *kind.Dump, desc *kind.Desc) error {
	n, hungUp, err := index(desc)
	if err != nil {
		return err
	}
	if err := s.look(d); err != nil {
		return err
	}
	if foreign(desc, s.own) {
		if hungUp {
			return nil
		}
		return outside(d, desc.Link)
	}
	if err := s.checkMaster(d, desc); err != nil {
		return err
	}
	return s.check(d, s.seen[n], desc)
}

// checkMaster refuses the master of another /dev/pts, whose number says nothing
// here. That it is one shows only by the mount that it was opened through.
func (s *saver) checkMaster(d *kind.Dump, desc *kind.Desc) error {
	if !isMaster(desc) || s.own == 0 {
		return nil
	}
	from := d.Home
	if d.MountsOf != nil {
		from = d.MountsOf(desc)
	}
	mounts, err := procfs.Mounts(int(from))
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(mounts, func(m procfs.Mount) bool { return m.ID == desc.Info.MntID }) {
		return failure.WithHint(failure.Unsupportedf("the master of a terminal that was opened outside the container"), "have the program open /dev/ptmx itself, or close it before the dump")
	}
	return nil
}

// outside refuses a terminal whose master somebody else has.
func outside(d *kind.Dump, name string) error {
	hints := []string{"start the program with its input and output redirected, or under script(1) inside the container"}
	if d.Adopted {
		hints = []string{"start the program with setsid(1), its input and output redirected",
			"or save the terminal with it: give the pid of the tmux, screen or script(1) that runs it",
			"or close the terminal first: what outlives it (nohup, disown) can be saved"}
	}
	return failure.WithHint(failure.Unsupportedf("the terminal %s is run by a program outside the container", name), hints...)
}

func (s *saver) check(d *kind.Dump, p *pty, desc *kind.Desc) error {
	if p.master == nil {
		if p.hungUp {
			return nil
		}
		return outside(d, desc.Link)
	}
	if p.hungUp {
		return failure.WithHint(failure.Unsupportedf("a slave of terminal /dev/pts/%d was hung up (vhangup) while its master is open", p.index),
			"let the program close it before the dump")
	}
	switch n, err := p.discipline(); {
	case err != nil:
		return err
	case n != 0:
		return failure.WithHint(failure.Unsupportedf("terminal /dev/pts/%d has line discipline %d: only the ordinary one is carried", p.index, n),
			"have the program give it the ordinary one (TIOCSETD, N_TTY) before the dump")
	}
	if _, err := sessionOf(d, p.master); err != nil {
		return err
	}
	if d.Out == nil || desc.ID != p.master.ID || s.keeps(d, p) {
		return nil // what is under way now tells nothing of the time of a dump; and once is enough
	}
	if err := p.untold(d); err != nil {
		return err
	}
	for _, end := range []*kind.Desc{p.master, p.slave} {
		if end == nil {
			continue
		}
		if err := p.unread(d, end); err != nil {
			return err
		}
	}
	return nil
}

// discipline is 0 where both ends have the ordinary one (N_TTY), else what an end
// has. A slave that nobody has open is given that of its attributes when it is
// opened (tty_reopen() of drivers/tty/tty_io.c).
func (p *pty) discipline() (int, error) {
	for _, end := range []*kind.Desc{p.master, p.slave} {
		if end == nil {
			continue
		}
		n, err := unix.IoctlGetInt(int(end.File.Fd()), unix.TIOCGETD)
		if err != nil {
			return 0, fmt.Errorf("read its line discipline (TIOCGETD): %w", err)
		}
		if n != 0 {
			return n, nil
		}
	}
	if p.slave != nil {
		return 0, nil
	}
	attr, err := unix.IoctlGetTermios(int(p.master.File.Fd()), unix.TCGETS)
	if err != nil {
		return 0, fmt.Errorf("read its attributes (TCGETS): %w", err)
	}
	return int(attr.Line), nil
}

// keeps tells whether what waits in a terminal is saved, or will be.
func (s *saver) keeps(d *kind.Dump, p *pty) bool {
	if s.contents(p) != nil {
		return true
	}
	if s.asked || !slices.ContainsFunc(d.Holders(p.master), func(q *kind.Proc) bool { return !inBackground(q, p.index) }) {
		return false
	}
	b, err := p.before()
	return err == nil && b != nil
}

// untold refuses a change of state that the master's holder, in packet mode,
// has not been told of (TIOCPKT(2const)): to look at it takes it away.
func (p *pty) untold(d *kind.Dump) error {
	events, err := eventsOf(p.master.File)
	if events&unix.POLLPRI == 0 || err != nil {
		return err
	}
	return &kind.Busy{
		Err: failure.WithHint(failure.Unsupportedf("a change of state waits to be read in terminal /dev/pts/%d (packet mode)", p.index),
			"dump again: it passes as soon as the program at its other end reads it"),
		Holders: d.Holders(p.master),
		Done: func() bool {
			events, err := eventsOf(p.master.File)
			return err != nil || events&unix.POLLPRI == 0
		},
	}
}

// unread refuses data that a reader of end has not taken. Who holds the master
// is there to read: it only has to be let.
func (p *pty) unread(d *kind.Dump, end *kind.Desc) error {
	n, err := underWay(end.File)
	if n == 0 || err != nil {
		return err
	}
	err = failure.WithHint(failure.Unsupportedf("%d bytes are under way in terminal /dev/pts/%d", n, p.index),
		"dump again: they pass as soon as the program at its other end reads them")
	if end != p.master {
		return err
	}
	return &kind.Busy{Err: err, Holders: d.Holders(end), Done: func() bool {
		n, err := underWay(end.File)
		return err != nil || n == 0
	}}
}

// underWay is how many bytes can be read from an end. poll(2) brings those
// along that a worker of the kernel has yet to hand over (n_tty_poll()), which
// FIONREAD alone does not count.
func underWay(end *os.File) (int, error) {
	if _, err := kernel.Poll(end.Fd(), unix.POLLIN); err != nil {
		return 0, fmt.Errorf("poll it: %w", err)
	}
	n, err := unix.IoctlGetInt(int(end.Fd()), unix.TIOCINQ)
	if err != nil {
		return 0, fmt.Errorf("ask what is under way in it (FIONREAD): %w", err)
	}
	return n, nil
}
