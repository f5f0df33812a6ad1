// Package timer is the timers of a process: the three of setitimer(2), and
// POSIX timers (timer_create(2)).
//
// # What the kernel shows
//
// /proc/PID/timers lists POSIX timers with signal, value, target and clock
// (CONFIG_CHECKPOINT_RESTORE). What is left of each, timer_gettime(2) and
// getitimer(2) tell the process itself.
//
// # What is saved
//
// In core-VPID.img interval and rest of each timer: a timer goes on with what
// was left, also one that was set to a time of day. Of a POSIX timer on
// CLOCK_MONOTONIC or CLOCK_BOOTTIME, which go on where they stopped, the moment
// itself is saved: the time that a restore takes does not delay it, and a
// signal of it that waits comes anew from the timer itself, which counts what
// it overruns. POSIX timers keep their ids. The thread that a timer signals (SIGEV_THREAD_ID), and the process or
// thread whose CPU time it counts, are virtual ids.
//
// # What is lost
//
// The count of timer_getoverrun(2) of the last signal, and of the one that
// waits what it had overrun before the dump (the kernel tells it only when the
// signal is taken); the id that the next
// timer_create(2) would get. A timer on a device's clock, or on the CPU time
// of a process that is not in the container, is refused.
//
// # Needs
//
// PR_TIMER_CREATE_RESTORE_IDS (6.16, commit ec2d0c04624b) to bring back any
// id at once. Before it the kernel numbers from 0 up in a new process (commit
// 5ed67f05f66c), so ids are counted up to, a few thousand at most.
package timer

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/timer"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

// specSize is struct itimerval and struct itimerspec alike: seconds and
// fraction of the interval, then of the rest.
const specSize = 32

// clockSize is struct timespec.
const clockSize = 16

// itimers are ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF.
const itimers = 3

// New gives the timers of a process, and what makes the POSIX timers among
// them: a job of the leading thread, after all threads are born and before it
// loses its capabilities.
func New() (kind.Process, kind.Thread) {
	s := &saver{asked: map[*kind.Proc]time.Duration{}}
	timers := kind.Process{
		Name:    "timers",
		Saves:   "interval and rest of the three of setitimer(2)",
		Observe: observe,
		Ask:     s.ask,
		Late:    s.late,
		Sound:   sound,
		Restore: start,
		Limits:  "the overrun count of a signal that was already delivered is not kept (timer_getoverrun), which a dump tells",
	}
	maker := kind.Thread{
		Name:    "POSIX timers",
		Saves:   "those of timer_create(2): ids, clocks, whom they signal and how, interval and rest",
		Refuses: "the clock of a device, or the CPU time of a process that is not in the container",
		Needs:   "/proc/PID/timers (CONFIG_CHECKPOINT_RESTORE); for any id at once 6.16 (PR_TIMER_CREATE_RESTORE_IDS); CAP_WAKE_ALARM for alarm clocks",
		Restore: func(_ *kind.Restore, t *kind.Target, tt *kind.TargetThread) error {
			if tt != t.Threads[0] {
				return nil
			}
			return makeTimers(tt.Script, known(t, t.TC.GetTimers().GetPosix()), kernel.RestoresTimerIDs())
		},
	}
	return timers, maker
}

func observe(d *kind.Dump, p *kind.Proc) error {
	all, err := p.FS.Timers()
	if err != nil {
		return err
	}
	for _, t := range all {
		if _, err := describe(d, p, t); err != nil {
			return fmt.Errorf("timer %d: %w", t.ID, err)
		}
	}
	return nil
}

type saver struct {
	asked map[*kind.Proc]time.Duration // CLOCK_MONOTONIC inside just before its timers were read
}

// ask reads the list once more: only now does no thread of the process run.
func (sv *saver) ask(d *kind.Dump, p *kind.Proc, s *tracee.Script) (func() error, error) {
	all, err := p.FS.Timers()
	if err != nil {
		return nil, err
	}
	before := s.Space(clockSize)
	s.Must(unix.SYS_CLOCK_GETTIME, unix.CLOCK_MONOTONIC, before)
	old := s.Space(itimers * specSize)
	for which := range uint64(itimers) {
		s.Note(s.Must(unix.SYS_GETITIMER, which, old+which*specSize), "read interval timer")
	}
	specs := s.Space(len(all) * specSize)
	overruns := make([]tracee.Step, len(all))
	for i, t := range all {
		name := fmt.Sprintf("read timer %d", t.ID)
		s.Note(s.Must(unix.SYS_TIMER_GETTIME, uint64(t.ID), specs+uint64(i)*specSize), name)
		overruns[i] = s.Must(unix.SYS_TIMER_GETOVERRUN, uint64(t.ID))
		s.Note(overruns[i], name)
	}
	// The process reads its own clocks, after its timers: one that is
	// restored must not be early.
	clocks := s.Space(2 * clockSize)
	s.Must(unix.SYS_CLOCK_GETTIME, unix.CLOCK_MONOTONIC, clocks)
	s.Must(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, clocks+clockSize)
	return func() error {
		now := words(s.Bytes(clocks, 2*clockSize))
		e := &timer.TaskTimersEntry{}
		for which, to := range []**timer.ItimerEntry{&e.Real, &e.Virt, &e.Prof} {
			*to = decodeItimer(s.Bytes(old+uint64(which)*specSize, specSize))
		}
		for i, t := range all {
			pt, err := describe(d, p, t)
			if err != nil {
				return fmt.Errorf("timer %d: %w", t.ID, err)
			}
			n, err := s.Result(overruns[i])
			if err != nil {
				return fmt.Errorf("timer %d: read overruns: %w", t.ID, err)
			}
			pt.Overrun = proto.Uint32(uint32(n))
			if n > 0 {
				d.Log.Warn("how often a timer ran out until its last signal came (timer_getoverrun) is not kept", "vpid", p.VPID, "comm", p.Comm, "timer", t.ID)
			}
			decodeSpec(pt, s.Bytes(specs+uint64(i)*specSize, specSize))
			e.Posix = append(e.Posix, pt)
			if x := due(pt, now); x != nil {
				p.Extra.Timers = append(p.Extra.Timers, x)
			}
		}
		p.TC.Timers = e
		sv.asked[p] = timespec(s.Bytes(before, clockSize))
		return markPending(p)
	}, nil
}

// markPending notes which timers have a signal that waits, directed to the
// process or to one of its threads.
func markPending(p *kind.Proc) error {
	if len(p.Extra.Timers) == 0 {
		return nil
	}
	ids := map[uint32]bool{}
	for _, t := range p.Threads {
		if t.Traced == nil {
			continue
		}
		for _, shared := range []bool{true, false} {
			if shared && t != p.Lead() {
				continue
			}
			queue, err := t.Traced.Pending(shared)
			if err != nil {
				return err
			}
			for _, info := range queue {
				if id, ok := image.TimerOf(info); ok {
					ids[id] = true
				}
			}
		}
	}
	for _, x := range p.Extra.Timers {
		x.Pending = ids[x.GetId()]
	}
	return nil
}

func timespec(b []byte) time.Duration {
	return time.Duration(binary.LittleEndian.Uint64(b))*time.Second + time.Duration(binary.LittleEndian.Uint64(b[8:]))
}

func words(b []byte) (w [4]uint64) {
	for i := range w {
		w[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return w
}

// due is the moment at which an armed timer runs out, nil for a clock that
// does not go on where it stopped; now is CLOCK_MONOTONIC and CLOCK_BOOTTIME.
func due(e *timer.PosixTimerEntry, now [4]uint64) *image.TimerDue {
	if e.GetVsec()|e.GetVnsec() == 0 {
		return nil
	}
	at := now[:2]
	switch e.GetClockId() {
	case unix.CLOCK_MONOTONIC:
	case unix.CLOCK_BOOTTIME, unix.CLOCK_BOOTTIME_ALARM:
		at = now[2:]
	default:
		return nil
	}
	const second = 1e9
	return &image.TimerDue{Id: e.GetItId(), ExpiresNs: int64((at[0]+e.GetVsec())*second + at[1] + e.GetVnsec())}
}

func decodeItimer(b []byte) *timer.ItimerEntry {
	w := words(b)
	return &timer.ItimerEntry{Isec: proto.Uint64(w[0]), Iusec: proto.Uint64(w[1]), Vsec: proto.Uint64(w[2]), Vusec: proto.Uint64(w[3])}
}

func decodeSpec(e *timer.PosixTimerEntry, b []byte) {
	w := words(b)
	e.Isec, e.Insec, e.Vsec, e.Vnsec = proto.Uint64(w[0]), proto.Uint64(w[1]), proto.Uint64(w[2]), proto.Uint64(w[3])
}

// describe is all of a timer but its times.
func describe(d *kind.Dump, p *kind.Proc, t procfs.Timer) (*timer.PosixTimerEntry, error) {
	if err := checkClock(d, int32(t.ClockID)); err != nil {
		return nil, err
	}
	e := &timer.PosixTimerEntry{
		ItId: proto.Uint32(uint32(t.ID)), ClockId: proto.Uint32(uint32(int32(t.ClockID))),
		SiSigno: proto.Uint32(uint32(t.Signal)), ItSigevNotify: proto.Uint32(uint32(t.Notify)),
		SivalPtr: proto.Uint64(t.Value),
	}
	if t.Notify&procfs.NotifyThreadID == 0 {
		return e, nil
	}
	v, ok := thread(p, t.Target)
	if !ok {
		// The thread has ended: the timer expires in silence from now on
		// (posix_timer_event() finds nobody). SIGEV_NONE does the same.
		e.ItSigevNotify = proto.Uint32(procfs.NotifyNone)
		return e, nil
	}
	e.NotifyThreadId = proto.Int32(v)
	return e, nil
}

func thread(p *kind.Proc, host int) (int32, bool) {
	for _, t := range p.Threads {
		if int(t.Host) == host {
			return int32(t.VTID), true
		}
	}
	return 0, false
}
