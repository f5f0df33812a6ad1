// Package timerfd saves timers of timerfd_create(2).
//
// What the kernel shows: fdinfo has the clock, the expirations not yet read,
// the flags of the last timerfd_settime(2) and the time left.
//
// A periodic timer that expired is not rearmed until somebody asks: fdinfo
// then shows no time left. timerfd_gettime(2) counts the periods that have
// passed and rearms, as the next read would, so Dump calls it first.
//
// What is saved: all of that, status flags, owner. CRIU's entry holds the
// time left, even of an absolute timer. Beside it the moment itself is saved
// for a timer set for a time of day, and for all on clocks that go on where
// they stopped: what passes between the reading of timer and clock, and while
// the container is rebuilt, must not delay it.
//
// What is lost: see Limits.
//
// Needs: TFD_IOC_SET_TICKS (CONFIG_CHECKPOINT_RESTORE) where expirations
// wait; CAP_WAKE_ALARM for the alarm clocks.
package timerfd

import (
	"fmt"
	"os"
	"strconv"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/timerfd"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/procfs"
)

const link = "anon_inode:[timerfd]"

// Kind is timerfd_create(2).
func Kind() kind.File {
	return kind.File{
		Name:    "timerfd",
		Saves:   "clock, time left or the moment itself, period, expirations not yet read, TFD_TIMER_CANCEL_ON_SET",
		Needs:   "TFD_IOC_SET_TICKS (CONFIG_CHECKPOINT_RESTORE) where expirations wait; CAP_WAKE_ALARM for alarm clocks",
		Type:    fdinfo.FdTypes_TIMERFD,
		Owns:    func(d *kind.Desc) bool { return d.Link == link && !d.OnlyPath() },
		Refuse:  refuse,
		Dump:    dump,
		Restore: restore,
		Refuses: "a change of the wall clock not yet read (ECANCELED, TFD_TIMER_CANCEL_ON_SET) of a timer that expires once",
		Limits:  "a change of the wall clock not yet read of a periodic timer, or of one that has expired, too, counts as one more expiration",
	}
}

// state is what fdinfo says of the timer.
type state struct {
	clock int32
	ticks uint64 // expirations not yet read
	flags uint32 // TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET
}

func parse(d *kind.Desc) (s state, err error) {
	for _, f := range []struct {
		key  string
		base int
		set  func(uint64)
	}{
		{"clockid", 10, func(v uint64) { s.clock = int32(v) }},
		{"ticks", 10, func(v uint64) { s.ticks = v }},
		{"settime flags", 8, func(v uint64) { s.flags = uint32(v) }},
	} {
		line, _ := d.InfoLine(f.key)
		v, err := strconv.ParseUint(line, f.base, 64)
		if err != nil {
			return s, fmt.Errorf("read %s from fdinfo: %w", f.key, err)
		}
		f.set(v)
	}
	return s, nil
}

func refuse(d *kind.Dump, desc *kind.Desc) error {
	is, err := canceled(desc)
	if !is || err != nil {
		return err
	}
	err = failure.WithHint(failure.Unsupportedf("a change of the wall clock waits to be read (ECANCELED, TFD_TIMER_CANCEL_ON_SET)"),
		"try again in a moment, when the program has read it")
	return &kind.Busy{Err: err, Holders: d.Holders(desc), Done: func() bool {
		s, err := readState(desc)
		return err != nil || s.ticks == 0
	}}
}

// canceled tells of a timer that has still to expire, once, and has something
// to be read: the kernel counts a change of the clock as an expiration
// (timerfd_clock_was_set() of fs/timerfd.c). fdinfo shows both times as
// (seconds, nanoseconds).
func canceled(desc *kind.Desc) (bool, error) {
	s, err := parse(desc)
	const both = unix.TFD_TIMER_ABSTIME | unix.TFD_TIMER_CANCEL_ON_SET
	if err != nil || s.flags&both != both || s.ticks == 0 {
		return false, err
	}
	left, _ := desc.InfoLine("it_value")
	period, _ := desc.InfoLine("it_interval")
	const none = "(0, 0)"
	return left != none && period == none, nil
}

func dump(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	owner, err := d.Owner(desc)
	if err != nil {
		return nil, err
	}
	s, err := read(desc)
	if err != nil {
		return nil, err
	}
	left := s.left
	at, err := moment(d, s)
	if err != nil {
		return nil, err
	}
	if at != 0 {
		if err := d.Out.Add(image.FilesExtra, "", &image.FileExtra{Id: desc.ID, ExpiresNs: at}); err != nil {
			return nil, err
		}
	}
	return &fdinfo.FileEntry{Tfd: &timerfd.TimerfdEntry{
		Id: proto.Uint32(desc.ID), Flags: proto.Uint32(desc.StatusFlags()), Fown: owner,
		Clockid: proto.Uint32(uint32(s.clock)), Ticks: proto.Uint64(s.ticks), SettimeFlags: proto.Uint32(s.flags),
		Vsec: proto.Uint64(uint64(left.Value.Sec)), Vnsec: proto.Uint64(uint64(left.Value.Nsec)),
		Isec: proto.Uint64(uint64(left.Interval.Sec)), Insec: proto.Uint64(uint64(left.Interval.Nsec)),
	}}, nil
}

const (
	// readTries bounds how often a timer is read, for want of a better reading.
	readTries = 100
	// narrow is how much later, in ns, a restored timer may run out.
	narrow = 100_000
)

// reading is a timer as it was at one time.
type reading struct {
	state
	left unix.ItimerSpec
	due  int64 // when it runs out, on its clock as ckpt sees it, ns
}

// read asks for the time left, which counts what has expired, and only then
// for the count. An expiration in between would be in both: the time it took
// tells, and the timer is read again; and so it is if ckpt lost its CPU between
// the timer and its clock. One that expires all the time is taken as it is.
func read(desc *kind.Desc) (r reading, err error) {
	s, err := readState(desc)
	if err != nil {
		return r, err
	}
	for range readTries {
		sure := false
		if r, sure, err = readOnce(desc, s.clock); err != nil || sure {
			break
		}
	}
	return r, err
}

func readOnce(desc *kind.Desc, clock int32) (r reading, sure bool, err error) {
	before, err := clockNow(clock)
	if err != nil {
		return r, false, err
	}
	if err := unix.TimerfdGettime(int(desc.File.Fd()), &r.left); err != nil {
		return r, false, fmt.Errorf("read it (timerfd_gettime): %w", err)
	}
	after, err := clockNow(clock)
	if err != nil {
		return r, false, err
	}
	if r.state, err = readState(desc); err != nil {
		return r, false, err
	}
	end, err := clockNow(clock)
	r.due = after + r.left.Value.Nano()
	return r, !armed(r.left) || after-before <= narrow && end-before < r.left.Value.Nano(), err
}

func readState(desc *kind.Desc) (s state, err error) {
	self, err := procfs.Open(os.Getpid())
	if err != nil {
		return s, err
	}
	defer self.Close()
	info, err := self.FDInfo(int(desc.File.Fd()))
	if err != nil {
		return s, err
	}
	return parse(&kind.Desc{Info: info})
}

// moment is when the timer expires on its clock, as the container sees it, in
// ns; 0 where only what is left of it counts.
func moment(d *kind.Dump, t reading) (int64, error) {
	offset, goesOn, err := d.ClockOffset(base(t.clock))
	if err != nil || !armed(t.left) || !goesOn && t.flags&unix.TFD_TIMER_ABSTIME == 0 {
		return 0, err
	}
	return t.due + int64(offset), nil
}

// clockNow reads a timer's clock as ckpt sees it, in ns.
func clockNow(clock int32) (int64, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(base(clock), &now); err != nil {
		return 0, fmt.Errorf("read its clock: %w", err)
	}
	return now.Nano(), nil
}

func armed(t unix.ItimerSpec) bool { return t.Value.Sec != 0 || t.Value.Nsec != 0 }

// base is the clock that an alarm clock goes by: the alarm clocks themselves
// can be read only where the machine has a real-time clock that wakes it.
func base(clock int32) int32 {
	switch clock {
	case unix.CLOCK_REALTIME_ALARM:
		return unix.CLOCK_REALTIME
	case unix.CLOCK_BOOTTIME_ALARM:
		return unix.CLOCK_BOOTTIME
	}
	return clock
}

func restore(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	t := e.GetTfd()
	if t == nil {
		return nil, failure.Damagedf("a timerfd without its entry")
	}
	fd, err := unix.TimerfdCreate(int(t.GetClockid()), unix.TFD_CLOEXEC)
	if err == unix.EPERM {
		return nil, failure.WithHint(failure.Unsupportedf("a timer on an alarm clock needs CAP_WAKE_ALARM"), "restore as root")
	}
	if err != nil {
		return nil, fmt.Errorf("make it (timerfd_create, clock %d): %w", t.GetClockid(), err)
	}
	f, err := kind.NewFile(fd, t.GetFlags(), link)
	if err != nil {
		return nil, err
	}
	err = set(r, fd, t, r.Extras[e.GetId()].GetExpiresNs())
	if err == nil {
		err = r.RestoreOwner(f, t.GetFown())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// set arms the timer and gives it its expirations. The order matters:
// timerfd_settime(2) forgets them. A timer that is not armed is set too,
// for its flags and its interval.
func set(r *kind.Restore, fd int, t *timerfd.TimerfdEntry, expires int64) error {
	v, missed, err := value(r, t, expires)
	if err != nil {
		return err
	}
	if err := unix.TimerfdSettime(fd, int(t.GetSettimeFlags()), &v, nil); err != nil {
		return fmt.Errorf("arm it (timerfd_settime): %w", err)
	}
	ticks := t.GetTicks() + missed
	if ticks == 0 {
		return nil
	}
	if err := kernel.SetTimerTicks(uintptr(fd), ticks); err != nil {
		return fmt.Errorf("set its %d expirations (TFD_IOC_SET_TICKS): %w", ticks, err)
	}
	return nil
}

// value is what to set the timer to, and how often it expired while it did
// not exist. expires is 0 where only what was left is known.
func value(r *kind.Restore, t *timerfd.TimerfdEntry, expires int64) (v unix.ItimerSpec, missed uint64, err error) {
	v = unix.ItimerSpec{
		Interval: unix.Timespec{Sec: int64(t.GetIsec()), Nsec: int64(t.GetInsec())},
		Value:    unix.Timespec{Sec: int64(t.GetVsec()), Nsec: int64(t.GetVnsec())},
	}
	absolute := t.GetSettimeFlags()&unix.TFD_TIMER_ABSTIME != 0
	if !armed(v) || !absolute && expires == 0 {
		return v, 0, nil
	}
	clock := int32(t.GetClockid())
	now, err := clockNow(clock)
	if err != nil {
		return v, 0, err
	}
	at := now + v.Value.Nano()
	if expires != 0 {
		offset, _, err := r.ClockOffset(base(clock))
		if err != nil {
			return v, 0, err
		}
		at = expires - int64(offset)
	}
	if absolute { // the kernel counts what has passed
		v.Value = unix.NsecToTimespec(max(at, 1))
		return v, 0, nil
	}
	left, missed := rest(at-now, v.Interval.Nano())
	v.Value = unix.NsecToTimespec(left)
	return v, missed, nil
}

// rest is the time to the next expiration, not 0, of a timer that should
// expire left from now and then every interval, and how often it should have
// by now. All in ns; interval 0: once.
func rest(left, interval int64) (next int64, missed uint64) {
	switch {
	case left > 0:
		return left, 0
	case interval == 0:
		return 1, 0
	}
	n := -left/interval + 1
	return left + n*interval, uint64(n)
}
