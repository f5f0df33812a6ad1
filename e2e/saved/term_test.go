package saved

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ckpt/e2e/harness"
)

// foreground starts a container with ckpt in the foreground, which is told to end like
// any program of a service manager, or of a batch system.
func foreground(e *harness.Env, args ...string) (*harness.Launched, *harness.Container) {
	e.T.Helper()
	l := e.Launch(true, append([]string{harness.Ckpt()}, args...)...)
	harness.Says(e.T, l, "ready") // what the container writes is printed
	return l, e.Own("job")
}

// exits requires how ckpt in the foreground ends.
func exits(l *harness.Launched, code int, says string) {
	l.Env.T.Helper()
	if st := l.Wait(); st.ExitStatus() != code || !strings.Contains(l.Log(), says) {
		l.Env.T.Errorf("it ends with %d, want %d and %q; it said:\n%s", st.ExitStatus(), code, says, l.Log())
	}
}

// TestOnTerm: SIGTERM saves the container, which ends; the newest image brings it back,
// and so it does the next time.
func TestOnTerm(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			l, c := foreground(e, "start", "job", "--foreground", "--on-term", "--to", "saves", "--", harness.Program(t, "refusing.py"))
			l.Kill("TERM")
			exits(l, 0, "job: saved in "+e.Join("saves/000001-"))
			if s := c.Ps(); s.State != "dumped" {
				t.Errorf("it is %s", s.State)
			}
			// In the background: it is the same, and told by the same signal.
			e.Restore(e.Join("saves"), "", "--latest")
			s := c.Ps().Saves
			if s == nil || s.OnTerm != 60e9 || s.Every != 0 || s.To != e.Join("saves") {
				t.Fatalf("%+v", s)
			}
			c.Kill("USR1")
			c.Says("cannot be saved")
			c.Kill("USR1")
			c.Says("can be saved")
			if err := syscall.Kill(s.Saver, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			untilGone(t, s.Saver)
			if at := numbers(t, e.Join("saves")); at != "1 2<1" {
				t.Errorf("there are %s", at)
			}
			// What --resume restores is no new start.
			e.Run("start", "job", "--resume", "--on-term", "--to", "saves", "--", harness.Program(t, "refusing.py"))
			if n := strings.Count(c.Log(), "ready"); n != 1 {
				t.Errorf("its log, with %d starts:\n%s", n, c.Log())
			}
			c.Kill("USR1")
			harness.Eventually(t, "it goes on", func() error {
				if strings.Count(c.Log(), "cannot be saved") != 2 {
					return fmt.Errorf("%s", c.Log())
				}
				return nil
			})
		})
	}
}

// TestOnTermFails: if the container cannot be saved, or not in time, its command is told
// to end, as if there were no --on-term; the images before stay.
func TestOnTermFails(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			l, c := foreground(e, "start", "job", "--foreground", "--every", "1s", "--on-term=30s", "--to", "saves", "--", harness.Program(t, "refusing.py"))
			untilImage(c, 1)
			c.Kill("USR1")
			c.Says("cannot be saved")
			before := images(t, e.Join("saves"))
			l.Kill("TERM")
			exits(l, 128+15, "the container was not saved")
			after := images(t, e.Join("saves"))
			if len(after) != len(before) || len(after) == 0 {
				t.Errorf("images: %v, then %v", before, after)
			}
			for _, i := range after {
				e.Run("verify", i)
			}
		})
	}
}

func TestOnTermTooShort(t *testing.T) {
	e := harness.New(t, harness.Users()[0])
	l, c := foreground(e, "start", "job", "--foreground", "--on-term=1s", "--to", "saves", "--", harness.Program(t, "vforking.c"))
	child := c.Ps().Processes[1].PID
	l.Kill("TERM")
	harness.Eventually(t, "the dump is given up", func() error {
		if !strings.Contains(l.Log(), "the time was not enough (--on-term)") {
			return errors.New(l.Log())
		}
		return l.Alive()
	})
	// A process in vfork(2) hears SIGTERM when that ends.
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	exits(l, 128+15, "")
	if left, err := filepath.Glob(e.Join("saves/*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestForeground: without a schedule, too, ckpt prints what the container writes, passes
// SIGTERM on to its command, and exits with that one's status.
func TestForeground(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			l, c := foreground(e, "start", "job", "--foreground", "--", harness.Program(t, "refusing.py"))
			l.Kill("TERM")
			exits(l, 128+15, "ready\n")
			if s := c.Ps(); s.State != "exited" {
				t.Errorf("it is %s", s.State)
			}
			l = e.Launch(true, harness.Ckpt(), "start", "job", "--foreground", "--", "/bin/sh", "-c", "echo ready; exit 7")
			exits(l, 7, "ready\n")
		})
	}
}
