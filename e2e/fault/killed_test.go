package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"ckpt/e2e/harness"
)

// interrupted runs ckpt and sends it a signal after a while; it says how the
// command ended, and whether the signal was in time.
func interrupted(e *harness.Env, after time.Duration, sig syscall.Signal, args ...string) (harness.Result, bool) {
	e.T.Helper()
	cmd := e.Command(context.Background(), harness.Ckpt(), args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		e.T.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { cmd.Process.Signal(sig) })
	cmd.Wait()
	fired := !timer.Stop()
	return harness.Result{Args: args, Code: cmd.ProcessState.ExitCode(), Err: errs.String(), Took: after}, fired
}

// instants are spread over a little more than the time that work takes.
func instants(work time.Duration, n int) []time.Duration {
	var out []time.Duration
	for i := range n + 1 {
		out = append(out, work*time.Duration(i)*11/time.Duration(n*10))
	}
	return out
}

// TestDumpInterrupted: whenever a dump is stopped or killed, the container
// goes on, and there is either a whole image or none.
func TestDumpInterrupted(t *testing.T) {
	const megabytes = 500
	e := harness.New(t, "")
	c := e.Start("big", nil, harness.Program(t, "big.c"), fmt.Sprint(megabytes))
	var j harness.Journal
	counts(c, &j, "main")
	var work time.Duration
	for range 2 { // the first finds the page cache cold
		begin := time.Now()
		c.Dump(e.Join("whole"), "--leave-running")
		work = time.Since(begin)
		remove(t, e.Join("whole"))
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		for _, after := range instants(work, 8) {
			image := e.Join("image")
			r, fired := interrupted(e, after, sig, "dump", c.Name, image, "--leave-running")
			t.Logf("%v after %v of %v: exit code %d", sig, after, work, r.Code)
			counts(c, &j, "main")
			untraced(c)
			_, err := os.Lstat(image)
			switch {
			case err == nil: // it was done, or as good as
				e.Run("verify", image)
			case !errors.Is(err, os.ErrNotExist):
				t.Fatal(err)
			case fired && sig == syscall.SIGINT && r.Code != 130 && r.Code != -1:
				t.Errorf("SIGINT after %v: exit code 130 expected: %v", after, r)
			case !fired:
				t.Errorf("it ended by itself and there is no image: %v", r)
			}
			// What a killed dump leaves is no image for anybody, and in
			// nobody's way.
			for _, p := range e.Partial() {
				if sig != syscall.SIGKILL {
					t.Errorf("%v after %v left %s", sig, after, p)
				}
				if r := e.Try("restore", p, "--name", "partial"); r.Code == 0 {
					t.Errorf("part of an image was restored: %v", r)
				}
			}
			remove(t, image)
			c.Dump(image, "--leave-running")
			remove(t, image)
			if p := e.Partial(); len(p) > 0 {
				t.Errorf("left of the killed dump after the next one: %v", p)
				remove(t, p...)
			}
			counts(c, &j, "main")
		}
	}
}

func remove(t *testing.T, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if err := os.RemoveAll(p); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDumpThenEndInterrupted: the same for a dump that ends the container.
// It runs as long as there is no image, and the image is good once it does not.
//
// A call that signal(7) names as failing with EINTR after a stop may do so once
// when ckpt is killed, see docs/decisions/injection-heals-itself.md.
func TestDumpThenEndInterrupted(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		e := harness.New(t, "")
		family := []string{harness.Program(t, "family.c"), e.Mkdir("family")}
		if sig == syscall.SIGKILL {
			family = append(family, "interruptible")
		}
		c := e.Start("family", nil, family...)
		j := new(harness.Journal)
		counts(c, j, "main")
		begin := time.Now()
		c.Dump(e.Join("probe"), "--leave-running")
		work := time.Since(begin)
		for i, after := range instants(work, 12) {
			image := e.Join(fmt.Sprintf("image%d", i))
			before := j.Clone()
			r, _ := interrupted(e, after, sig, "dump", c.Name, image)
			_, err := os.Lstat(image)
			state := endsOrCounts(c, j)
			t.Logf("%v after %v of %v: exit code %d, container %s, image: %v", sig, after, work, r.Code, state, err == nil)
			if state != "running" {
				if err != nil {
					t.Fatalf("the container is %s and there is no image: %v", state, r)
				}
				read(t, c, j)
				e.Restore(image, "")
			}
			counts(c, j, "main", "turns0", "pinger", "sysv", "caller", "events", "timer")
			untraced(c)
			for who, threads := range map[string]int{"sysv": 1, "caller": 2, "events": 1, "timer": 1} {
				if n := j.Last(who).Count - before.Last(who).Count; n > threads {
					t.Errorf("%s saw EINTR %d times", who, n)
				}
			}
			remove(t, append(e.Partial(), image)...)
		}
	}
}

// endsOrCounts waits until a container goes on or does not: one that was killed
// is seen for a moment yet.
func endsOrCounts(c *harness.Container, j *harness.Journal) (state string) {
	t := c.Env.T
	t.Helper()
	from := -1
	harness.Eventually(t, "it goes on or has ended", func() error {
		if state = c.Ps().State; state != "running" {
			return nil
		}
		if err := j.Read(c.Log()); err != nil {
			return harness.Final{Err: err}
		}
		n := j.Last("main").N
		if from < 0 {
			from = n
		}
		if n < from+3 {
			return fmt.Errorf("main stands at step %d", n)
		}
		return nil
	})
	return state
}

// TestRestoreInterrupted: whenever a restore is stopped or killed, the
// container is either there, whole, or nothing of it is.
func TestRestoreInterrupted(t *testing.T) {
	t.Run("plain", func(t *testing.T) { restoreInterrupted(t) })
	t.Run("in user namespaces", func(t *testing.T) { restoreInterrupted(t, harness.Program(t, "inner.c"), "tpo") })
}

// restoreInterrupted: in runs the program.
func restoreInterrupted(t *testing.T, in ...string) {
	e := harness.New(t, "")
	c := e.Start("family", nil, append(in, harness.Program(t, "family.c"), e.Mkdir("family"))...)
	j := new(harness.Journal)
	counts(c, j, "main")
	image := e.Join("image")
	before := c.Ps()
	c.Dump(image)
	read(t, c, j)
	c.Remove()
	begin := time.Now()
	e.Restore(image, "probe").Remove()
	work := time.Since(begin)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		for i, after := range instants(work, 15) {
			name := fmt.Sprintf("try-%d-%d", sig, i)
			e.Own(name)
			r, _ := interrupted(e, after, sig, "restore", image, "--name", name)
			t.Logf("%v after %v of %v: exit code %d", sig, after, work, r.Code)
			// Before ckpt looks for signals, one ends it (-1).
			if sig == syscall.SIGINT && r.Code != 0 && r.Code != 130 && r.Code != -1 {
				t.Errorf("SIGINT after %v: exit code 130 expected: %v", after, r)
			}
			if r.Code == 130 && len(e.Processes()) > 0 {
				t.Errorf("%v after %v: processes left: %v", sig, after, e.Processes())
			}
			// A supervisor whose command was killed needs a moment to notice.
			harness.Eventually(t, "nothing or all of it is there", func() error {
				if len(e.Processes()) == 0 {
					return nil
				}
				if r := e.Try("ps", name); r.Code != 0 {
					return fmt.Errorf("processes: %v", e.Processes())
				}
				if n := len((&harness.Container{Env: e, Name: name}).Ps().Processes); n != len(before.Processes) {
					return fmt.Errorf("%d processes instead of %d", n, len(before.Processes))
				}
				return nil
			})
			if r := e.Try("rm", "-f", name); r.Code != 0 && r.Code != 5 {
				t.Error(r)
			}
			harness.Eventually(t, "no process is left", func() error {
				if p := e.Processes(); len(p) > 0 {
					return fmt.Errorf("%v", p)
				}
				return nil
			})
		}
	}
	// The image is as good as ever.
	copied := e.Restore(image, "last")
	counts(copied, j, "main", "turns0", "pinger", "sysv", "caller", "events", "timer")
}
