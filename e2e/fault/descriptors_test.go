package fault

import (
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// TestTooFewDescriptors: a dump that may not open as many files as it has to says
// so, and not that the container is gone, which goes on.
func TestTooFewDescriptors(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			c := e.Start("many", nil, "sh", "-c", "for i in $(seq 100); do sleep 1000 & done; echo up; wait")
			c.Says("up")
			out, err := e.Command(t.Context(), "sh", "-c", "ulimit -n 100 && exec "+harness.Ckpt()+" dump many img").CombinedOutput()
			if err == nil || !strings.Contains(string(out), "too many open files\nckpt: hint: allow ckpt more open files (ulimit -Hn)\n") {
				t.Errorf("%v: it says %q", err, out)
			}
			if f := c.Dump(e.Join("img")); f.Processes != 101 {
				t.Errorf("%+v", f)
			}
			e.Restore(e.Join("img"), "")
		})
	}
}
