package tty

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

// lookConsole adds the container's own terminal to those that are seen. No process has
// its master; it is said of the first.
func (s *saver) lookConsole(d *kind.Dump) error {
	if d.Console == nil {
		return nil
	}
	desc := &kind.Desc{Proc: d.Procs[0], FD: -1, File: d.Console, Link: "/dev/ptmx"}
	if err := unix.Fstat(int(d.Console.Fd()), &desc.Stat); err != nil {
		return fmt.Errorf("stat the container's terminal: %w", err)
	}
	self, err := procfs.Open(os.Getpid())
	if err != nil {
		return err
	}
	defer self.Close()
	if desc.Info, err = self.FDInfo(int(d.Console.Fd())); err != nil {
		return err
	}
	n, _, err := index(desc)
	if err != nil {
		return err
	}
	if s.seen[n] == nil {
		s.seen[n] = &pty{index: n}
	}
	s.seen[n].console = true
	return s.seen[n].see(desc, false)
}

// askConsole reads what waits in the container's own terminal, and puts it back. What
// has come out of it is not there any more: who serves it has that.
func (s *saver) askConsole(d *kind.Dump, p *pty) error {
	if !p.console || p.kept != nil || d.Whole == nil {
		return nil
	}
	b, err := p.before()
	if b == nil || err != nil {
		return err
	}
	p.kept = &contents{}
	if b.stopped {
		if p.kept.stop, err = p.howStopped(b); err != nil {
			return err
		}
	}
	if b.idle() {
		return nil
	}
	var read func() error
	return d.Whole(consoleRoom, func(sc *tracee.Script) error {
		read = p.readAndPutBack(sc, d.ConsoleFD, b)
		return nil
	}, func(*tracee.Script) error {
		err := read()
		if p.kept == nil {
			err = errors.Join(err, errors.New("what waits in the container's terminal cannot be read"))
		}
		return err
	})
}

// consoleRoom is what its calls take, in bytes (mostScript).
const consoleRoom = 64 << 10
