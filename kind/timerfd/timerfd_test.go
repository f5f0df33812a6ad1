package timerfd

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/procfs"
)

func make1(t *testing.T, clock, flags int, v unix.ItimerSpec) *os.File {
	t.Helper()
	fd, err := unix.TimerfdCreate(clock, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "timerfd")
	t.Cleanup(func() { f.Close() })
	if err := unix.TimerfdSettime(fd, flags, &v, nil); err != nil {
		t.Fatal(err)
	}
	return f
}

func spec(value, interval time.Duration) unix.ItimerSpec {
	return unix.ItimerSpec{Value: unix.NsecToTimespec(int64(value)), Interval: unix.NsecToTimespec(int64(interval))}
}

// expired waits until f has expired.
func expired(t *testing.T, f *os.File) {
	t.Helper()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}, 10000)
	if err != nil || n != 1 {
		t.Fatalf("timer does not expire: %d, %v", n, err)
	}
}

func ticks(f *os.File) (uint64, error) {
	var b [8]byte
	_, err := unix.Read(int(f.Fd()), b[:])
	return binary.NativeEndian.Uint64(b[:]), err
}

func get(t *testing.T, f *os.File) unix.ItimerSpec {
	t.Helper()
	var v unix.ItimerSpec
	if err := unix.TimerfdGettime(int(f.Fd()), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestNotArmed(t *testing.T) {
	f := kindtest.File(t, Kind, make1(t, unix.CLOCK_MONOTONIC, 0, spec(0, time.Minute)))[0]
	if v := get(t, f); v != spec(0, time.Minute) {
		t.Errorf("got %v", v)
	}
	if _, err := ticks(f); err != unix.EAGAIN {
		t.Errorf("read: %v, want EAGAIN", err)
	}
}

func TestOneShotExpired(t *testing.T) {
	f := make1(t, unix.CLOCK_BOOTTIME, 0, spec(1, 0))
	expired(t, f)
	got := kindtest.File(t, Kind, f)[0]
	if n, err := ticks(got); n != 1 || err != nil {
		t.Errorf("read %d, %v, want 1 expiration", n, err)
	}
	if v := get(t, got); v != spec(0, 0) {
		t.Errorf("armed again: %v", v)
	}
}

// again takes f through a dump and a restore; what an armed timer's image
// holds depends on when it is made, so it is made once.
func again(t *testing.T, f *os.File) *os.File {
	t.Helper()
	b := kindtest.New(t, Kind)
	s, err := b.Try(f)
	if err != nil {
		t.Fatal(err)
	}
	return b.Restore(s)[0]
}

func TestArmed(t *testing.T) {
	now := func(clock int32) time.Duration {
		var ts unix.Timespec
		if err := unix.ClockGettime(base(clock), &ts); err != nil {
			t.Fatal(err)
		}
		return time.Duration(ts.Nano())
	}
	for _, clock := range []int{unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_REALTIME_ALARM, unix.CLOCK_BOOTTIME_ALARM} {
		for _, flags := range []int{0, unix.TFD_TIMER_ABSTIME, unix.TFD_TIMER_ABSTIME | unix.TFD_TIMER_CANCEL_ON_SET} {
			v := spec(time.Hour, time.Minute)
			if flags != 0 {
				v = spec(now(int32(clock))+time.Hour, time.Minute)
			}
			f := make1(t, clock, flags, v)
			got := again(t, f)
			a, b := get(t, f), get(t, got)
			if d := a.Value.Nano() - b.Value.Nano(); d < -int64(time.Second) || d > int64(time.Second) || a.Interval != b.Interval {
				t.Errorf("clock %d, flags %d: %v before, %v after", clock, flags, a, b)
			}
			s, err := read(&kind.Desc{File: got})
			if err != nil || s.state != (state{clock: int32(clock), flags: uint32(flags)}) {
				t.Errorf("clock %d, flags %d: restored as %+v, %v", clock, flags, s, err)
			}
		}
	}
}

// A periodic timer that expired shows no time left in fdinfo: it must go on all the same.
func TestPeriodicExpired(t *testing.T) {
	f := make1(t, unix.CLOCK_MONOTONIC, 0, spec(1, time.Hour))
	expired(t, f)
	self, err := procfs.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	info, err := self.FDInfo(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := (&kind.Desc{Info: info}).InfoLine("it_value"); v != "(0, 0)" {
		t.Fatalf("fdinfo shows %s: the test does not test anything", v)
	}
	got := again(t, f)
	if v := get(t, got); v.Value.Sec < 3500 {
		t.Errorf("time left %v, want nearly an hour", v.Value)
	}
	if n, err := ticks(got); n != 1 || err != nil {
		t.Errorf("read %d, %v, want 1 expiration", n, err)
	}
}

// A time of day that passed while the container was away fires at once.
func TestWallClockPassed(t *testing.T) {
	f := make1(t, unix.CLOCK_REALTIME, unix.TFD_TIMER_ABSTIME, spec(time.Duration(time.Now().Add(300*time.Millisecond).UnixNano()), 0))
	b := kindtest.New(t, Kind)
	s, err := b.Try(f)
	if err != nil {
		t.Fatal(err)
	}
	expired(t, f)
	got := b.Restore(s)[0]
	if n, err := ticks(got); n != 1 || err != nil {
		t.Errorf("read %d, %v, want 1 expiration", n, err)
	}
}

func TestRest(t *testing.T) {
	for _, c := range []struct {
		left, interval, next int64
		missed               uint64
	}{
		{5, 0, 5, 0}, {5, 3, 5, 0}, {0, 0, 1, 0}, {-9, 0, 1, 0},
		{0, 10, 10, 1}, {-1, 10, 9, 1}, {-9, 10, 1, 1}, {-10, 10, 10, 2}, {-25, 10, 5, 3},
	} {
		if next, missed := rest(c.left, c.interval); next != c.next || missed != c.missed {
			t.Errorf("%d left of every %d: %d and %d missed, want %d and %d", c.left, c.interval, next, missed, c.next, c.missed)
		}
	}
}

// TestCanceled: the kernel counts a change of the wall clock as an expiration,
// which is imitated here: it would be one for the whole machine.
func TestCanceled(t *testing.T) {
	const canceled = unix.TFD_TIMER_ABSTIME | unix.TFD_TIMER_CANCEL_ON_SET
	far := time.Duration(time.Now().Add(time.Hour).UnixNano())
	for name, c := range map[string]struct {
		flags   int
		period  time.Duration
		ticks   uint64
		refused bool
	}{
		"once":                     {canceled, 0, 1, true},
		"once, nothing to be read": {canceled, 0, 0, false},
		"periodic":                 {canceled, time.Minute, 1, false},
		"once, whatever the clock": {unix.TFD_TIMER_ABSTIME, 0, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := make1(t, unix.CLOCK_REALTIME, c.flags, spec(far, c.period))
			if c.ticks > 0 {
				if err := kernel.SetTimerTicks(f.Fd(), c.ticks); err != nil {
					t.Fatal(err)
				}
			}
			_, err := kindtest.New(t, Kind).Try(f)
			if got := err != nil; got != c.refused || got && !strings.Contains(err.Error(), "a change of the wall clock waits to be read (ECANCELED, TFD_TIMER_CANCEL_ON_SET)") {
				t.Errorf("it gives %v", err)
			}
		})
	}
}
