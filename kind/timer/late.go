package timer

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/siginfo"
	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kind"
)

// late looks which timers have run out since they were read, for timers do
// not stand still while a process is stopped. The signal of such a one is
// among the pending by now, and the timer must not run out for it a second
// time. A timer whose moment is saved sees to that itself (TimerDue), and CPU
// time does stand still.
func (sv *saver) late(d *kind.Dump, p *kind.Proc) error {
	e := p.TC.GetTimers()
	if e == nil {
		return nil
	}
	passed, err := sv.passed(d, p)
	if err != nil {
		return err
	}
	waiting := p.TC.GetSignalsS().GetSignals()
	if it := e.GetReal(); has(waiting, isAlarm) {
		sec, usec := left(passed, time.Microsecond, it.GetIsec(), it.GetIusec(), it.GetVsec(), it.GetVusec())
		it.Vsec, it.Vusec = &sec, &usec
	}
	for _, t := range p.Threads {
		waiting = slices.Concat(waiting, t.Core.GetThreadCore().GetSignalsP().GetSignals())
	}
	for _, pt := range e.GetPosix() {
		id := pt.GetItId()
		if int32(pt.GetClockId()) < 0 || slices.ContainsFunc(p.Extra.GetTimers(), func(x *image.TimerDue) bool { return x.GetId() == id }) {
			continue
		}
		if has(waiting, func(info []byte) bool { from, ok := image.TimerOf(info); return ok && from == id }) {
			sec, nsec := left(passed, time.Nanosecond, pt.GetIsec(), pt.GetInsec(), pt.GetVsec(), pt.GetVnsec())
			pt.Vsec, pt.Vnsec = &sec, &nsec
		}
	}
	return nil
}

// passed is the time since the timers of p were read.
func (sv *saver) passed(d *kind.Dump, p *kind.Proc) (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, err
	}
	offset, _, err := d.ClockOffset(unix.CLOCK_MONOTONIC)
	return time.Duration(now.Nano()) + offset - sv.asked[p], err
}

// left is what is left of a timer of which a signal waits, when some time has
// passed since the given rest was read; unit is that of the fractions. If it
// has run out meanwhile, that is the signal, and the next interval has begun.
func left(passed, unit time.Duration, isec, ifrac, sec, frac uint64) (uint64, uint64) {
	rest := time.Duration(sec)*time.Second + time.Duration(frac)*unit
	if rest == 0 || rest > passed {
		return sec, frac
	}
	interval := time.Duration(isec)*time.Second + time.Duration(ifrac)*unit
	if interval == 0 {
		return 0, 0
	}
	rest = max(interval-(passed-rest)%interval, unit)
	return uint64(rest / time.Second), uint64(rest % time.Second / unit)
}

func has(signals []*siginfo.SiginfoEntry, is func(info []byte) bool) bool {
	return slices.ContainsFunc(signals, func(e *siginfo.SiginfoEntry) bool { return is(e.GetSiginfo()) })
}

func isAlarm(info []byte) bool {
	return len(info) >= 4 && unix.Signal(binary.LittleEndian.Uint32(info)) == unix.SIGALRM
}
