// Package state is what a process and a thread are: programs that look at
// themselves before and after.
package state

import (
	"fmt"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// TestMemory: mappings of every sort, over three generations and a dump that
// leaves them be. The program compares contents and /proc/self/smaps.
func TestMemory(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			c := e.Start("memory", nil, harness.Program(t, "memory.c"))
			said(t, c, "ready")
			asked := 0
			check := func() {
				t.Helper()
				asked++
				c.Kill("USR1")
				said(t, c, fmt.Sprintf("good %d", asked))
			}
			check()
			for n := range 3 {
				image := e.Join(fmt.Sprintf("image%d", n))
				c.Dump(image)
				e.Restore(image, "")
				check()
			}
			c.Dump(e.Join("left"), "--leave-running")
			check()
		})
	}
}

// said waits until the container's log has a line.
func said(t *testing.T, c *harness.Container, line string) {
	t.Helper()
	harness.Eventually(t, "it says "+line, func() error {
		log := c.Log()
		if strings.Contains(log, "BAD") {
			t.Fatalf("it says:\n%s", log)
		}
		if strings.Contains(log, line+"\n") {
			return nil
		}
		if err := c.Alive(); err != nil {
			return err
		}
		return fmt.Errorf("so far: %q", log)
	})
}
