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

// WillStop waits until the stop that Interrupt asked for, or the thread's
// end, can be collected, so that WaitStopped does not block. It gives up with
// ErrDeaf after patience, and with ctx's error when ctx ends.
func (t *Thread) WillStop(ctx context.Context, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for pause := 20 * time.Microsecond; ; pause = min(2*pause, time.Millisecond) {
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
		if time.Now().After(deadline) {
			return ErrDeaf
		}
		if pause == time.Millisecond && dying(t.TID) {
			reapBelow(t.TID)
		}
		time.Sleep(pause)
	}
}
