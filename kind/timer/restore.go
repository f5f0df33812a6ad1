package timer

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/timer"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// maxCounted is the highest timer id that is counted up to: two calls for
// each number before it that is not wanted.
const maxCounted = 4096

// timerAbstime is TIMER_ABSTIME of timer_settime(2).
const timerAbstime = 1

// start arms all timers in the last script, so that they run out no sooner
// than the program runs.
func start(_ *kind.Restore, t *kind.Target) error {
	e := t.TC.GetTimers()
	if e == nil {
		return nil
	}
	for which, it := range []*timer.ItimerEntry{e.Real, e.Virt, e.Prof} {
		if err := armItimer(t.Late, uint64(which), it); err != nil {
			return err
		}
	}
	due := map[uint32]*image.TimerDue{}
	for _, x := range t.Extra.GetTimers() {
		due[x.GetId()] = x
	}
	for _, pt := range e.Posix {
		if err := check(pt); err != nil {
			return fmt.Errorf("timer %d: %w", pt.GetItId(), err)
		}
		arm(t.Late, pt, due[pt.GetItId()])
	}
	return nil
}

// makeTimers makes POSIX timers, not armed yet. They signal threads and an
// alarm timer takes CAP_WAKE_ALARM, hence its place: the leading thread's
// script, which runs when all threads are born.
func makeTimers(s *tracee.Script, all []*timer.PosixTimerEntry, byID bool) error {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b *timer.PosixTimerEntry) int { return cmp.Compare(a.GetItId(), b.GetItId()) })
	for i, pt := range sorted {
		if i > 0 && sorted[i-1].GetItId() == pt.GetItId() {
			return failure.Damagedf("two timers have the id %d", pt.GetItId())
		}
	}
	if !byID {
		return makeByCounting(s, sorted)
	}
	makeByID(s, sorted)
	return nil
}

// known gives the threads to be signalled by the ids that the process knows
// them by.
func known(t *kind.Target, all []*timer.PosixTimerEntry) []*timer.PosixTimerEntry {
	var out []*timer.PosixTimerEntry
	for _, e := range all {
		e = proto.CloneOf(e)
		for _, tt := range t.Threads {
			if e.NotifyThreadId != nil && pidns.VPID(e.GetNotifyThreadId()) == tt.VTID {
				e.NotifyThreadId = proto.Int32(int32(tt.Own()))
				break
			}
		}
		out = append(out, e)
	}
	return out
}

func check(e *timer.PosixTimerEntry) error {
	if e.GetInsec() >= 1e9 || e.GetVnsec() >= 1e9 || e.GetIsec() >= 1<<63 || e.GetVsec() >= 1<<63 || e.GetItId() >= 1<<31 {
		return failure.Damagedf("%d.%09d s every %d.%09d s is no time", e.GetVsec(), e.GetVnsec(), e.GetIsec(), e.GetInsec())
	}
	return nil
}

// makeByID tells the kernel each id.
func makeByID(s *tracee.Script, all []*timer.PosixTimerEntry) {
	if len(all) == 0 {
		return
	}
	s.Note(s.Must(unix.SYS_PRCTL, kernel.PRTimerRestoreIDs, 1, 0, 0, 0), "choose timer ids")
	for _, e := range all {
		id := s.Data(binary.LittleEndian.AppendUint32(nil, e.GetItId()))
		create(s, e, id)
	}
	s.Note(s.Must(unix.SYS_PRCTL, kernel.PRTimerRestoreIDs, 0, 0, 0, 0), "let the kernel choose timer ids")
}

// makeByCounting makes timers, and deletes those in between, since the kernel
// gives a new process the ids 0, 1, 2 and so on.
func makeByCounting(s *tracee.Script, all []*timer.PosixTimerEntry) error {
	next, out := uint32(0), s.Space(4)
	for _, e := range all {
		if e.GetItId() > maxCounted {
			return failure.WithHint(failure.Unsupportedf("timer %d: this kernel cannot make a timer with a chosen id", e.GetItId()),
				"restore under Linux 6.16 or later")
		}
		for ; next < e.GetItId(); next++ {
			skip := &timer.PosixTimerEntry{ItSigevNotify: uint32p(procfs.NotifyNone), ClockId: uint32p(unix.CLOCK_MONOTONIC)}
			create(s, skip, out)
			s.Note(s.Must(unix.SYS_TIMER_DELETE, uint64(next)), "count timer ids")
		}
		create(s, e, out)
		next++
	}
	return nil
}

func uint32p(v uint32) *uint32 { return &v }

// create adds timer_create(2); id is the address of the id.
func create(s *tracee.Script, e *timer.PosixTimerEntry, id uint64) {
	clock := uint64(int64(int32(e.GetClockId())))
	st := s.Must(unix.SYS_TIMER_CREATE, clock, s.Data(sigevent(e)), id)
	s.Note(st, fmt.Sprintf("make timer %d", e.GetItId()))
	s.Explain(st, func(errno unix.Errno) error {
		if errno != unix.EAGAIN { // each timer keeps room for its signal
			return nil
		}
		return failure.WithHint(failure.Unsupportedf("timer %d: more timers and waiting signals than one user may have", e.GetItId()),
			"raise the limit (ulimit -i), or end programs of the same user that have many")
	})
}

// sigevent is struct sigevent of 64 bytes: value, signal, way, thread.
func sigevent(e *timer.PosixTimerEntry) []byte {
	b := make([]byte, 64)
	le := binary.LittleEndian
	le.PutUint64(b, e.GetSivalPtr())
	le.PutUint32(b[8:], e.GetSiSigno())
	le.PutUint32(b[12:], e.GetItSigevNotify())
	le.PutUint32(b[16:], uint32(e.GetNotifyThreadId()))
	return b
}

// arm starts a timer; due is nil where only what was left is known. One that is armed never reads as 0 (the
// kernel then says 1 ns), but an image of criu's of a kernel that did means the
// interval.
func arm(s *tracee.Script, e *timer.PosixTimerEntry, due *image.TimerDue) {
	sec, nsec, flags := e.GetVsec(), e.GetVnsec(), uint64(0)
	if sec|nsec == 0 {
		sec, nsec = e.GetIsec(), e.GetInsec()
	}
	if sec|nsec == 0 {
		return
	}
	if at := due.GetExpiresNs(); at > 0 {
		// A moment in the past makes it run out at once: it queues its signal
		// and counts from there what it misses.
		if due.GetPending() {
			at = max(1, at-int64(e.GetIsec()*1e9+e.GetInsec()))
		}
		sec, nsec, flags = uint64(at/1e9), uint64(at%1e9), timerAbstime
	}
	st := s.Must(unix.SYS_TIMER_SETTIME, uint64(e.GetItId()), flags, s.Data(encode(e.GetIsec(), e.GetInsec(), sec, nsec)), 0)
	s.Note(st, fmt.Sprintf("start timer %d", e.GetItId()))
}

// armItimer: a timer that has just run out reads as 0 with its interval set,
// until its signal is taken and rearms it; the least that can be set is 1 us.
func armItimer(s *tracee.Script, which uint64, e *timer.ItimerEntry) error {
	isec, iusec, sec, usec := e.GetIsec(), e.GetIusec(), e.GetVsec(), e.GetVusec()
	if iusec >= 1e6 || usec >= 1e6 || isec >= 1<<63 || sec >= 1<<63 {
		return failure.Damagedf("interval timer %d: %d.%06d s every %d.%06d s is no time", which, sec, usec, isec, iusec)
	}
	if isec|iusec|sec|usec == 0 {
		return nil
	}
	if sec|usec == 0 {
		usec = 1
	}
	s.Note(s.Must(unix.SYS_SETITIMER, which, s.Data(encode(isec, iusec, sec, usec)), 0), "start interval timer")
	return nil
}

func encode(w ...uint64) []byte {
	var b []byte
	for _, v := range w {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}
