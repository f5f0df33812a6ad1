package fault

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// TestRefusedCgroup: a process that is in a control group of its own is refused
// as long as it is there. One that came by ckpt exec, and whose parent has ended,
// may have its group from there.
func TestRefusedCgroup(t *testing.T) {
	own, below := newCgroup(t)
	if below == "" {
		return // no hierarchy in which one can be made
	}
	e := harness.New(t, "")
	c := e.Start("grouped", nil, harness.Program(t, "refused.c"), "empty keyrings")
	var j harness.Journal
	counts(c, &j, "parent")
	move := func(n int, dir string) {
		t.Helper()
		pid := strconv.Itoa(c.Ps().Processes[n].PID)
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(pid), 0); err != nil {
			t.Fatal(err)
		}
	}
	move(0, below)
	image := e.Join("image")
	for _, args := range [][]string{{"dump", c.Name, image}, {"check", c.Name}} {
		r := e.Try(args...)
		if told := r.Out + r.Err; r.Code != 3 || !strings.Contains(told, "pid 2 (refused): control groups: it is in control group ") ||
			!strings.Contains(told, filepath.Base(below)+", its parent in ") || !strings.Contains(told, "move it to its parent's group before the dump") {
			t.Errorf("want exit code 3, the reason and a way out: %v", r)
		}
	}
	absent(e, image)
	untraced(c)
	counts(c, &j, "parent")
	move(0, own)
	e.Run("exec", c.Name, "--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 </dev/null &")
	move(1, below)
	if r := e.Try("dump", c.Name, image); r.Code != 0 || !strings.Contains(r.Err, "a restore puts it into the control group of all others") || !strings.Contains(r.Err, filepath.Base(below)) {
		t.Errorf("want it told, and exit code 0: %v", r)
	}
	e.Restore(image, "")
	counts(c, &j, "parent")
}

// newCgroup makes a control group below the test's own; "" where it may not. It
// is gone with the test.
func newCgroup(t *testing.T) (own, below string) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	_, path, ok := strings.Cut("\n"+string(text), "\n0::")
	if !ok {
		return "", ""
	}
	path, _, _ = strings.Cut(path, "\n")
	for l := range strings.Lines(string(mounts)) {
		f := strings.Fields(l)
		if len(f) < 3 || f[2] != "cgroup2" {
			continue
		}
		own = filepath.Join(f[1], path)
		below, err := os.MkdirTemp(own, "ckpt-test-")
		if err != nil {
			continue
		}
		t.Cleanup(func() {
			if err := os.Remove(below); err != nil {
				t.Error(err)
			}
		})
		return own, below
	}
	return "", ""
}
