package state

import (
	"fmt"
	"testing"

	"ckpt/e2e/harness"
)

// TestConnections: TCP connections with both ends inside, full, half closed
// and in use; on the host's network as root, on one of their own for
// everybody.
func TestConnections(t *testing.T) {
	for _, user := range users() {
		for _, flags := range [][]string{nil, {"--net", "none"}} {
			if user != "" && flags == nil {
				continue // an ordinary user may not look into connections on the host's network
			}
			t.Run(fmt.Sprintf("as %s %v", user, flags), func(t *testing.T) {
				e := harness.New(t, user)
				c := e.Start("connections", flags, harness.Tool(t, "python3", "/usr/bin"), harness.Program(t, "connections.py"))
				said(t, c, "ready")
				check := func(n int) {
					t.Helper()
					c.Kill("USR1")
					said(t, c, fmt.Sprintf("good %d", n))
					said(t, c, fmt.Sprintf("ready %d", n))
				}
				for n := range 3 {
					image := e.Join(fmt.Sprintf("image%d", n))
					c.Dump(image)
					e.Restore(image, "")
					check(n + 1)
				}
				c.Dump(e.Join("left"), "--leave-running")
				check(4)
			})
		}
	}
}
