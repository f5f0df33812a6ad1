package tracee

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// ErrDeaf: the thread does not stop. The kernel holds it where no signal
// reaches it: an uninterruptible wait, or vfork(2) until the child execs.
var ErrDeaf = errors.New("it does not stop")

const (
	// promptly is how long a thread has that is about to stop, before it is
	// worth while to sleep: a sleep takes several times as long as the stop, and
	// until its stop is seen, a call that it fails has failed (WaitStopped).
	promptly   = 200 * time.Microsecond
	firstPause = 20 * time.Microsecond
)

// WillStop waits until the stop that Interrupt asked for, or the thread's
// end, can be collected, so that WaitStopped does not block. It gives up with
// ErrDeaf after patience, and with ctx's error when ctx ends.
func (t *Thread) WillStop(ctx context.Context, patience time.Duration) error {
	began := time.Now()
	deadline := began.Add(patience)
	for pause := firstPause; ; pause = min(2*pause, time.Millisecond) {
		var si unix.Siginfo
		err := unix.Waitid(unix.P_PID, t.TID, &si, unix.WEXITED|unix.WSTOPPED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return t.wrap("wait for its stop", err)
		case si.Signo != 0:
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		now := time.Now()
		if now.After(deadline) {
			return ErrDeaf
		}
		if now.Sub(began) < promptly {
			_, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
			pause = firstPause
			continue
		}
		if pause == time.Millisecond && dying(t.TID) {
			reapBelow(t.TID)
		}
		time.Sleep(pause)
	}
}
