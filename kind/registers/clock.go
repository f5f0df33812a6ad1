package registers

import (
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/procfs"
)

// clock tells how long a thread has been asleep, from the time it was last
// put on its CPU (se.exec_start of /proc/TID/sched). That is counted by the
// CPU's own scheduler clock, and those of different CPUs differ by seconds.
type clock struct {
	start   time.Duration // CLOCK_MONOTONIC, before anything was stopped
	offsets map[int]time.Duration
}

func newClock() *clock { return &clock{start: monotonic(), offsets: map[int]time.Duration{}} }

func monotonic() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail: the clock is always there
	return time.Duration(ts.Nano())
}

// asleep is the time from execStart on cpu to when the dump began, and so
// never more than the thread had slept when it was stopped: what is left of
// its sleep is rather too long than too short. 0 if it cannot be told.
func (c *clock) asleep(execStart uint64, cpu int) time.Duration {
	if execStart == 0 {
		return 0
	}
	off, ok := c.offsets[cpu]
	if !ok {
		var err error
		if off, err = schedOffset(cpu); err != nil {
			return 0 // a CPU this process may not use
		}
		c.offsets[cpu] = off
	}
	return max(0, c.start+off-time.Duration(execStart))
}

// schedOffset is the scheduler clock of cpu minus CLOCK_MONOTONIC, exact to
// some 20 us: a thread that has just been put on a CPU shows its clock.
func schedOffset(cpu int) (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		return 0, err
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return 0, err
	}
	defer func() { _ = unix.SchedSetaffinity(0, &old) }()
	p, err := procfs.Open(os.Getpid())
	if err != nil {
		return 0, err
	}
	defer p.Close()
	t, err := p.Thread(unix.Gettid())
	if err != nil {
		return 0, err
	}
	defer t.Close()
	if _, _, e := unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0); e != 0 {
		return 0, e
	}
	now := monotonic()
	v, err := t.SchedExecStart()
	if err != nil {
		return 0, err
	}
	return time.Duration(v) - now, nil
}
