package boundary

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// execs has one more process made in the container, which tells the program
// what pid it was given.
func execs(s *harness.Subject) {
	s.Env.T.Helper()
	s.Env.Run("exec", s.Name, "--", "/bin/sh", "-c", "echo $$ >last")
}

// translated compares what `ckpt ps` says with what the kernel says of the
// same host ids, and reaches the processes by the one and by the other.
func translated(s *harness.Subject) {
	t := s.Env.T
	t.Helper()
	ps := s.Ps()
	var inside []string
	for _, p := range ps.Processes {
		inside = append(inside, strconv.Itoa(p.VPID))
		for _, th := range p.Threads {
			if v := innermost(t, fmt.Sprintf("/proc/%d/task/%d/status", p.PID, th.TID), "NSpid:"); v != th.VTID {
				t.Errorf("ckpt ps says that host thread %d is %d inside, the kernel %d", th.TID, th.VTID, v)
			}
		}
		status := fmt.Sprintf("/proc/%d/status", p.PID)
		if g, n := innermost(t, status, "NSpgid:"), innermost(t, status, "NSsid:"); g != p.VPGID || n != p.VSID {
			t.Errorf("pid %d: ckpt ps says group %d and session %d, the kernel %d and %d", p.VPID, p.VPGID, p.VSID, g, n)
		}
	}
	// Who looks from inside, by the same numbers.
	seen := strings.Fields(s.Env.Run("exec", s.Name, "--", "/bin/sh", "-c", "cd /proc && echo [0-9]*"))
	for _, v := range inside {
		if !slices.Contains(seen, v) {
			t.Errorf("pid %s is not seen from inside: %v", v, seen)
		}
	}
	for _, v := range inside {
		s.Env.Run("exec", s.Name, "--", "/bin/sh", "-c", "kill -0 "+v)
	}
	if table := s.Env.Run("ps", s.Name); strings.Count(table, "\n") != len(inside)+1 {
		t.Errorf("%d processes, and ckpt ps prints:\n%s", len(inside), table)
	}
	if log := s.Env.Run("logs", s.Name); log != s.Log() {
		t.Errorf("ckpt logs prints:\n%s\nand the log is:\n%s", log, s.Log())
	}
}

// innermost is the last number of a line of /proc/PID/status.
func innermost(t testing.TB, path, key string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v", err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key {
			n, err := strconv.Atoi(f[len(f)-1])
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			return n
		}
	}
	t.Fatalf("%s has no %s", path, key)
	return 0
}
