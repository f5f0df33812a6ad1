package state

import (
	"fmt"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// TestShared: what processes share by clone(2) flags they share afterwards.
func TestShared(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			c := e.Start("share", nil, harness.Program(t, "share.c"))
			goOn := func() {
				t.Helper()
				from := strings.Count(c.Log(), "ok ")
				c.Says(fmt.Sprintf(" %d 0", from+3)) // none of "BAD" meanwhile
			}
			goOn()
			before := c.Ps()
			for n := range 3 {
				image := e.Join(fmt.Sprintf("image%d", n))
				c.Dump(image)
				e.Restore(image, "")
				goOn()
			}
			if err := harness.SameInside(before, c.Ps(), harness.Churn{}); err != nil {
				t.Error(err)
			}
			c.Dump(e.Join("left"), "--leave-running")
			goOn()
		})
	}
}
