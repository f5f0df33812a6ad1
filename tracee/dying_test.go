package tracee

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestKilledLeader: the end of a leader is not reported before that of its
// threads, which ckpt traces too and has not waited for.
func TestKilledLeader(t *testing.T) {
	for _, c := range []struct {
		name string
		wait func(*Thread) error
	}{
		{"wait", func(lead *Thread) error { _, err := lead.wait(); return err }},
		{"patience", func(lead *Thread) error {
			if err := lead.WillStop(t.Context(), 5*time.Second); err != nil {
				return err
			}
			_, err := lead.WaitStopped()
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := startTarget(t, "spin", "futex", "nanosleep")
			tids := tasks(t, g.pid)
			result := make(chan error, 1)
			go func() {
				runtime.LockOSThread()
				ts, err := stopAll(g.pid, tids)
				if err == nil {
					err = unix.Kill(g.pid, unix.SIGKILL)
				}
				if err == nil {
					err = c.wait(ts[0])
				}
				result <- err
			}()
			select {
			case err := <-result:
				if !errors.Is(err, ErrGone) {
					t.Errorf("got %v, want %v", err, ErrGone)
				}
			case <-time.After(20 * time.Second):
				t.Error("it waits for ever")
			}
		})
	}
}
