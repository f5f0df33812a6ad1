package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/procfs"
)

// instants are when a command is killed: from before it did anything until
// after it would have ended by itself.
func instants() []time.Duration {
	var out []time.Duration
	for d := time.Duration(0); d < 24*time.Millisecond; d += 600 * time.Microsecond {
		out = append(out, d)
	}
	return out
}

// killAfter runs ckpt and kills it after d.
func killAfter(t *testing.T, d time.Duration, bin, state string, args ...string) {
	t.Helper()
	cmd := exec.Command(bin, args...)
	cmd.Env = append(os.Environ(), "CKPT_STATE="+state)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(d, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Wait()
}

// adopt makes orphans of ckpt children of the test, which can then see and
// reap all of them.
func adopt(t *testing.T) {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
}

func children(t *testing.T) []int {
	t.Helper()
	self, err := procfs.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cs, err := self.Children()
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

// ended waits for a child at most d and reaps it.
func ended(t *testing.T, pid int, d time.Duration) bool {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(d/time.Millisecond))
	if err != nil && err != unix.EINTR {
		t.Fatal(err)
	}
	if n == 1 {
		unix.Wait4(pid, nil, 0, nil)
	}
	return n == 1
}

// gone waits at most d until a process, which may be nobody's child here, has
// ended.
func gone(t *testing.T, pid int, d time.Duration) bool {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(d/time.Millisecond))
	if err != nil && err != unix.EINTR {
		t.Fatal(err)
	}
	return n == 1
}

// However early or late `ckpt start` is killed, there is either a container
// that runs, or nothing at all.
func TestStartKilled(t *testing.T) {
	bin := binary(t)
	adopt(t)
	ran := map[bool]int{}
	for _, d := range instants() {
		state := filepath.Join(t.TempDir(), "state")
		killAfter(t, d, bin, state, "start", "a", "--", "sleep", "1000")
		store := container.NewStore(state)
		running := false
		for end := time.Now().Add(10 * time.Second); ; {
			left := children(t)
			c, err := store.Get("a")
			if err == nil {
				running = true
				if st, err := c.State(); st != container.Running || err != nil {
					t.Fatalf("after %v: it is %s (%v)", d, st, err)
				}
				if err := c.Remove(t.Context(), true); err != nil {
					t.Fatal(err)
				}
			} else if !errors.Is(err, failure.ErrNoContainer) {
				t.Fatal(err)
			}
			if len(left) == 0 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("after %v: processes are left: %v", d, left)
			}
			ended(t, left[0], 20*time.Millisecond)
		}
		ran[running]++
		if ents, _ := os.ReadDir(filepath.Join(state, "a")); len(ents) > 0 {
			t.Errorf("after %v: its directory is left: %v", d, ents)
		}
	}
	t.Logf("%d ran, %d were undone", ran[true], ran[false])
}

// However early or late `ckpt exec` is killed, the container runs on, and in
// it is either the process asked for or nothing new.
func TestExecKilled(t *testing.T) {
	bin := binary(t)
	adopt(t)
	state := filepath.Join(t.TempDir(), "state")
	killAfter(t, time.Minute, bin, state, "start", "a", "--", "sleep", "1000")
	c, err := container.NewStore(state).Get("a")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Remove(t.Context(), true); err != nil {
			t.Error(err)
		}
		for _, pid := range children(t) {
			if !ended(t, pid, 10*time.Second) {
				t.Errorf("process %d is left", pid)
			}
		}
	}()
	ran := map[bool]int{}
	for _, d := range instants() {
		killAfter(t, d, bin, state, "exec", "a", "--", "sleep", "2000")
		for _, pid := range children(t) {
			if pid != c.Supervisor && !ended(t, pid, 10*time.Second) {
				t.Fatalf("after %v: process %d is left outside", d, pid)
			}
		}
		running := false
		ps, err := c.Processes()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range ps {
			switch {
			case p.VPID == 2:
			case p.VPPID == 1 && p.Comm == "sleep" && len(p.Command) == 2 && p.Command[1] == "2000":
				running = true
				if err := unix.Kill(int(p.PID), unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				gone(t, int(p.PID), 10*time.Second)
			// One that was half made has been killed with ckpt; it may take a
			// processor to die.
			case !gone(t, int(p.PID), 10*time.Second):
				t.Fatalf("after %v: a stray process: %+v", d, p)
			}
		}
		if st, err := c.State(); st != container.Running || err != nil {
			t.Fatalf("after %v: the container is %s (%v)", d, st, err)
		}
		ran[running]++
	}
	t.Logf("%d ran, %d did not", ran[true], ran[false])
}
