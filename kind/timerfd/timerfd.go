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
// time left even of an absolute timer. That is right for clocks that go on
// where they stopped, but a timer set for a time of day has to fire at that
// time of day: for those the moment itself is saved beside it.
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
	"time"

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
		Type:    fdinfo.FdTypes_TIMERFD,
		Owns:    func(d *kind.Desc) bool { return d.Link == link },
		Refuse:  func(_ *kind.Dump, d *kind.Desc) error { _, err := parse(d); return err },
		Dump:    dump,
		Restore: restore,
		Limits:  "a change of the wall clock not yet read with TFD_TIMER_CANCEL_ON_SET (ECANCELED) is not kept",
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

func dump(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	owner, err := d.Owner(desc)
	if err != nil {
		return nil, err
	}
	left, s, err := read(desc)
	if err != nil {
		return nil, err
	}
	if s.flags&unix.TFD_TIMER_ABSTIME != 0 && wall(s.clock) && armed(left) {
		at := time.Now().Add(time.Duration(left.Value.Nano())).UnixNano()
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

// read asks for the time left, which counts what has expired, and only then
// for the count.
func read(desc *kind.Desc) (left unix.ItimerSpec, s state, err error) {
	if err := unix.TimerfdGettime(int(desc.File.Fd()), &left); err != nil {
		return left, s, fmt.Errorf("read it (timerfd_gettime): %w", err)
	}
	self, err := procfs.Open(os.Getpid())
	if err != nil {
		return left, s, err
	}
	defer self.Close()
	info, err := self.FDInfo(int(desc.File.Fd()))
	if err != nil {
		return left, s, err
	}
	s, err = parse(&kind.Desc{Info: info})
	return left, s, err
}

func armed(t unix.ItimerSpec) bool { return t.Value.Sec != 0 || t.Value.Nsec != 0 }

func wall(clock int32) bool { return base(clock) == unix.CLOCK_REALTIME }

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
	err = set(fd, t, r.Extras[e.GetId()].GetExpiresNs())
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
func set(fd int, t *timerfd.TimerfdEntry, expires int64) error {
	v, err := value(t, expires)
	if err != nil {
		return err
	}
	if err := unix.TimerfdSettime(fd, int(t.GetSettimeFlags()), &v, nil); err != nil {
		return fmt.Errorf("arm it (timerfd_settime): %w", err)
	}
	if t.GetTicks() == 0 {
		return nil
	}
	if err := kernel.SetTimerTicks(uintptr(fd), t.GetTicks()); err != nil {
		return fmt.Errorf("set its %d expirations (TFD_IOC_SET_TICKS): %w", t.GetTicks(), err)
	}
	return nil
}

func value(t *timerfd.TimerfdEntry, expires int64) (unix.ItimerSpec, error) {
	v := unix.ItimerSpec{
		Interval: unix.Timespec{Sec: int64(t.GetIsec()), Nsec: int64(t.GetInsec())},
		Value:    unix.Timespec{Sec: int64(t.GetVsec()), Nsec: int64(t.GetVnsec())},
	}
	if t.GetSettimeFlags()&unix.TFD_TIMER_ABSTIME == 0 || !armed(v) {
		return v, nil
	}
	if expires != 0 {
		v.Value = unix.NsecToTimespec(expires)
		return v, nil
	}
	var now unix.Timespec
	if err := unix.ClockGettime(base(int32(t.GetClockid())), &now); err != nil {
		return v, fmt.Errorf("read its clock: %w", err)
	}
	v.Value = unix.NsecToTimespec(now.Nano() + v.Value.Nano())
	return v, nil
}
