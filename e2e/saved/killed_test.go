package saved

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// TestKilledAtSteps: whoever saves a container is killed, the dump and what keeps the
// directory, at one step after the other of a new image and of the removal of the one
// before: there is always an image, each there is is whole, and the newest is restored.
func TestKilledAtSteps(t *testing.T) {
	e := harness.New(t, harness.Users()[0])
	dir := e.Join("saves")
	c := e.Start("job", []string{"--on-term", "--to", "saves"}, harness.Program(t, "refusing.py"))
	c.Says("ready")
	e.Run("dump", "job", filepath.Join(dir, "000001-20260117T080500Z"))
	newest := func() string {
		have := images(t, dir)
		if len(have) == 0 {
			t.Fatal("there is no image any more")
		}
		return have[len(have)-1]
	}
	for n := 1; ; n += 2 {
		before := newest()
		r := e.KillAt(n, dir, "restore", "--latest", "saves", "--foreground", "--every", "1s", "--keep", "1")
		if !r.Hit || r.Code == 0 {
			t.Fatalf("step %d (%s): %v", n, r.What, r)
		}
		have := images(t, dir)
		for _, i := range have {
			e.Run("verify", i)
		}
		if r := e.Try("rm", "-f", "job"); r.Code != 0 && r.Code != 5 { // 5: it was killed before there was one
			t.Error(r)
		}
		switch now := have[len(have)-1]; {
		case now < before: // names are in the order they were made
			t.Errorf("step %d (%s): %s is gone, and there are %v", n, r.What, before, have)
		case now > before && len(have) == 1: // the new one stands, and those before are gone
			e.Own("job")
			e.Restore(dir, "", "--latest")
			return
		}
	}
}

// TestStartKilled: the command, its saver or the supervisor is killed on the way: then
// there is a container that runs, with a process that saves it or told to be without one,
// or nothing is left of it.
func TestStartKilled(t *testing.T) {
	e := harness.New(t, harness.Users()[0])
	args := []string{"start", "job", "--every", "1h", "--to", "saves", "--", harness.Program(t, "refusing.py")}
	steps := e.AtStep(0, unix.SIGKILL, args...).Steps
	c := e.Own("job")
	c.Remove()
	for n := 1; n <= steps; n += max(1, steps/40) {
		r := e.AtStep(n, unix.SIGKILL, args...)
		harness.Eventually(t, "it runs, or is gone", func() error {
			ps := e.Try("ps", "job", "--json")
			switch left := len(e.Processes()); {
			case ps.Code == 0 && strings.Contains(ps.Out, `"state": "running"`) && strings.Contains(ps.Out, `"saves": {`):
				return nil
			case ps.Code == 5 && left == 0:
				return nil
			default:
				return fmt.Errorf("step %d: %d processes, %v, after %v", n, left, ps, r)
			}
		})
		if r := e.Try("rm", "-f", "job"); r.Code != 0 && r.Code != 5 {
			t.Errorf("step %d: %v", n, r)
		}
		harness.Eventually(t, "its processes are gone", func() error {
			if left := e.Processes(); len(left) > 0 {
				return fmt.Errorf("step %d: %v", n, left)
			}
			return nil
		})
	}
}

// TestStartInterrupted: Ctrl-C undoes all of it, or comes too late.
func TestStartInterrupted(t *testing.T) {
	e := harness.New(t, harness.Users()[0])
	args := []string{"start", "job", "--every", "1h", "--to", "saves", "--", harness.Program(t, "refusing.py")}
	undone := 0
	for n := 1; ; n++ {
		r := e.AtStep(n, unix.SIGINT, args...)
		ps := e.Try("ps", "job", "--json")
		switch {
		case (r.Code == 130 || r.Code == -1) && ps.Code == 5: // -1: it did not look out for signals yet
			if r.Code == 130 {
				undone++
			}
			if left, err := filepath.Glob(e.Join("saves*")); err != nil || len(left) > 0 {
				t.Errorf("step %d: left %v, %v", n, left, err)
			}
		case r.Code != 0 || ps.Code != 0 || !strings.Contains(ps.Out, `"state": "running"`):
			t.Errorf("step %d: %v, then %v", n, r, ps)
		}
		if r := e.Try("rm", "-f", "job"); r.Code != 0 && r.Code != 5 {
			t.Errorf("step %d: %v", n, r)
		}
		if !r.Hit {
			break
		}
		if err := os.RemoveAll(e.Join("saves")); err != nil {
			t.Fatal(err)
		}
	}
	if undone == 0 {
		t.Error("it was never undone")
	}
}
