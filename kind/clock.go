package kind

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/pidns"
	"ckpt/procfs"
)

// Clocks are readings of, or offsets to, the two clocks that a time namespace
// gives offsets to (time_namespaces(7)).
type Clocks struct {
	Monotonic, Boottime time.Duration
}

// of is the one that a clock id means; CLOCK_BOOTTIME_ALARM goes by
// CLOCK_BOOTTIME.
func (c Clocks) of(clock int32) (time.Duration, bool) {
	switch clock {
	case unix.CLOCK_MONOTONIC:
		return c.Monotonic, true
	case unix.CLOCK_BOOTTIME, unix.CLOCK_BOOTTIME_ALARM:
		return c.Boottime, true
	}
	return 0, false
}

// ClockOffsets reads the offsets of the time namespace of a process's
// children, counted from the first time namespace.
func ClockOffsets(p *procfs.Proc) (Clocks, error) {
	lines, err := p.TimensOffsets()
	if err != nil {
		return Clocks{}, err
	}
	var c Clocks
	for _, l := range lines {
		d := time.Duration(l.Sec)*time.Second + time.Duration(l.Nsec)
		switch l.Clock {
		case "monotonic", "1":
			c.Monotonic = d
		case "boottime", "7":
			c.Boottime = d
		}
	}
	return c, nil
}

// apart is how far the clocks of its time namespace are ahead of own's.
func apart(own, its *procfs.Proc) (*Clocks, error) {
	a, err := ClockOffsets(own)
	if err != nil {
		return nil, err
	}
	b, err := ClockOffsets(its)
	if err != nil {
		return nil, err
	}
	return &Clocks{b.Monotonic - a.Monotonic, b.Boottime - a.Boottime}, nil
}

// ClockOffset is what a clock of the container is ahead of the same clock as
// ckpt reads it; ok is false for a clock that is the same everywhere, and
// that does not go on where it stopped.
func (d *Dump) ClockOffset(clock int32) (offset time.Duration, ok bool, err error) {
	if d.clocks == nil {
		own, err := procfs.Open(os.Getpid())
		if err != nil {
			return 0, false, err
		}
		defer own.Close()
		its, err := procfs.Open(int(d.Home))
		if err != nil {
			return 0, false, err
		}
		defer its.Close()
		if d.clocks, err = apart(own, its); err != nil {
			return 0, false, err
		}
	}
	offset, ok = d.clocks.of(clock)
	return offset, ok, nil
}

// ClockOffset is Dump.ClockOffset for the new container.
func (r *Restore) ClockOffset(clock int32) (offset time.Duration, ok bool, err error) {
	if r.clocks == nil {
		own, err := procfs.OpenAt(r.HostProc, "self")
		if err != nil {
			return 0, false, err
		}
		defer own.Close()
		its := own
		if h, ok := r.HostPID(pidns.Init); ok { // it is not while a kind is tested alone
			if its, err = procfs.OpenAt(r.HostProc, h.String()); err != nil {
				return 0, false, err
			}
			defer its.Close()
		}
		if r.clocks, err = apart(own, its); err != nil {
			return 0, false, err
		}
	}
	offset, ok = r.clocks.of(clock)
	return offset, ok, nil
}
