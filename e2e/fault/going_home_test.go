package fault

import (
	"errors"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// TestGoingHome: a thread that stands in the code of a killed ckpt is waited
// for, but not for ever. Package tracee tests that there are such.
func TestGoingHome(t *testing.T) {
	e := harness.New(t, "")
	c := e.Start("going-home", nil, harness.Program(t, "going_home.c"))
	var j harness.Journal
	harness.Eventually(t, "it stands there", func() error {
		if !strings.Contains(c.Log(), `"there"`) {
			return errors.Join(errors.New("not yet"), c.Alive())
		}
		return nil
	})
	counts(c, &j, "main")
	r := e.Try("dump", c.Name, e.Join("image"))
	if r.Code != 3 || !strings.Contains(r.Err, "pid 3 (going_home)") || !strings.Contains(r.Err, "a ckpt that was killed") {
		t.Errorf("it should be told who is not home, with exit code 3: %v", r)
	}
	absent(e, e.Join("image"))
	untraced(c)
	counts(c, &j, "main")
	c.Kill("USR1")
	counts(c, &j, "main", "child")
	c.Dump(e.Join("image"))
	read(t, c, &j)
	e.Restore(e.Join("image"), "")
	counts(c, &j, "main", "child")
}
