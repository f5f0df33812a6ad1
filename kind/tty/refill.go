package tty

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
)

// refillPatience is how long the kernel may take to carry what waits in a
// terminal from one end to the other.
const refillPatience = 10 * time.Second

// eager is how long it is asked without a pause.
const eager = 200 * time.Microsecond

// refill gives a terminal c's contents instead of those it has, and the
// attributes t.
// Preconditions: nobody else uses it.
func refill(master, slave *os.File, t *unix.Termios, c *contents) error {
	canonical := t.Lflag&unix.ICANON != 0
	q := quiet(t, canonical)
	in := slices.Clone(c.in)
	if len(c.ends) > 0 {
		mark, err := unused(in, q)
		if err != nil {
			return err
		}
		q.Cc[unix.VEOF] = mark
		for _, at := range c.ends {
			if int(at) >= len(in) {
				return failure.Damagedf("an end of file at byte %d of %d that wait in a terminal", at, len(in))
			}
			in[at] = mark
		}
	}
	set := func(t *unix.Termios) error {
		if err := unix.IoctlSetTermios(int(master.Fd()), unix.TCSETS2, t); err != nil {
			return fmt.Errorf("set its attributes (TCSETS2): %w", err)
		}
		return nil
	}
	if err := set(q); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(int(slave.Fd()), unix.TCFLSH, unix.TCIFLUSH); err != nil {
		return fmt.Errorf("empty it (TCFLSH): %w", err)
	}
	deadline := time.Now().Add(refillPatience)
	if err := fillInput(master, slave, q, in, c.ends, deadline); err != nil {
		return err
	}
	if err := put(slave, c.out, deadline); err != nil {
		return err
	}
	return set(t)
}

// unused is a byte that does not occur in what waits.
func unused(in []byte, t *unix.Termios) (uint8, error) {
	for c := 255; c > 0; c-- {
		if b := uint8(c); b != '\n' && b != t.Cc[unix.VEOL] && b != t.Cc[unix.VEOL2] && !slices.Contains(in, b) {
			return b, nil
		}
	}
	return 0, failure.Unsupportedf("what waits in it has every byte, and ends of files")
}

// fillInput writes what the slave has to read, and waits until it is there. A
// line that has not ended does not count: it goes with the end of the last
// one, at one stroke.
func fillInput(master, slave *os.File, t *unix.Termios, in []byte, ends []uint32, deadline time.Time) error {
	lines := len(in)
	if t.Lflag&unix.ICANON != 0 {
		lines = lastEnd(t, in, ends)
	}
	cut := 0 // before the last byte that FIONREAD will count
	for i := range lines {
		if !slices.Contains(ends, uint32(i)) {
			cut = i
		}
	}
	if len(in) > lines && lines > 0 && len(in)-cut > oneBuffer {
		return failure.Unsupportedf("a line of %d bytes that has not ended waits in it behind others", len(in)-lines)
	}
	if err := put(master, in[:cut], deadline); err != nil {
		return err
	}
	if err := put(master, in[cut:], deadline); err != nil {
		return err
	}
	return until(deadline, func() (bool, error) {
		events, err := eventsOf(slave)
		if err != nil || lines > 0 && events&unix.POLLIN == 0 {
			return false, err
		}
		n, err := unix.IoctlGetInt(int(slave.Fd()), unix.TIOCINQ)
		return n == lines-len(ends), err
	})
}

// put writes b, as the kernel makes room for it.
func put(f *os.File, b []byte, deadline time.Time) error {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, flags|unix.O_NONBLOCK)
	}
	if err != nil {
		return fmt.Errorf("set its flags: %w", err)
	}
	err = until(deadline, func() (bool, error) {
		n, err := unix.Write(int(f.Fd()), b)
		if errors.Is(err, unix.EAGAIN) {
			return false, nil
		}
		b = b[max(n, 0):]
		return len(b) == 0, err
	})
	if _, errFlags := unix.FcntlInt(f.Fd(), unix.F_SETFL, flags); err == nil && errFlags != nil {
		err = errFlags
	}
	if err != nil {
		return fmt.Errorf("put in what waits in it: %w", err)
	}
	return nil
}

// until asks again and again, at first without a pause: nothing wakes who
// waits for the kworker, which takes some 10 us.
func until(deadline time.Time, done func() (bool, error)) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for soon := time.Now().Add(eager); ; {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New("the kernel does not take it in")
		}
		if time.Now().After(soon) {
			<-tick.C
		}
	}
}

// stop stops output of the slave as it was stopped.
func stop(master, slave *os.File, t *unix.Termios, how image.FileExtra_Stop) error {
	switch how {
	case image.FileExtra_BY_CALL:
		if err := unix.IoctlSetInt(int(slave.Fd()), unix.TCXONC, tcOOff); err != nil {
			return fmt.Errorf("stop its output (TCXONC): %w", err)
		}
	case image.FileExtra_BY_CHARACTER:
		if _, err := unix.Write(int(master.Fd()), []byte{t.Cc[unix.VSTOP]}); err != nil {
			return fmt.Errorf("stop its output (ctrl-S): %w", err)
		}
		return until(time.Now().Add(refillPatience), func() (bool, error) {
			events, err := eventsOf(slave)
			return events&unix.POLLOUT == 0, err
		})
	}
	return nil
}

const (
	tcOOff = 0 // TCOOFF
	tcOOn  = 1 // TCOON
)
