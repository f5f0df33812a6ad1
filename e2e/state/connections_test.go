package state

import (
	"fmt"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// TestConnections: TCP connections with both ends inside, full, half closed
// and in use; on the host's network as root, on one of their own for
// everybody.
func TestConnections(t *testing.T) {
	for _, user := range harness.Users() {
		for _, flags := range [][]string{nil, {"--net", "none"}} {
			if flags == nil && !harness.AsRoot(user) {
				continue // an ordinary user may not look into connections on the host's network
			}
			t.Run(fmt.Sprintf("as %s %v", user, flags), func(t *testing.T) {
				e := harness.New(t, user)
				c := e.Start("connections", flags, harness.Tool(t, "python3", "/usr/bin"), harness.Program(t, "connections.py"))
				c.Says("ready")
				check := func(n int) {
					t.Helper()
					c.Kill("USR1")
					c.Says(fmt.Sprintf("good %d", n))
					c.Says(fmt.Sprintf("ready %d", n))
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

// TestAccepting: connections that wait to be accepted are let through.
func TestAccepting(t *testing.T) {
	for _, user := range harness.Users() {
		for _, family := range []string{"inet", "unix"} {
			t.Run(family+"/as "+user, func(t *testing.T) { accepting(harness.New(t, user), family) })
		}
	}
}

func accepting(e *harness.Env, family string) {
	c := e.Start("accepting", []string{"--net", "none"}, harness.Program(e.T, "accepting.c"), family)
	c.Says("ready")
	for n := range 4 {
		image := e.Join(fmt.Sprintf("image%d", n))
		c.Dump(image, "--leave-running")
		image += " too"
		c.Dump(image)
		e.Restore(image, "")
	}
	c.Kill("USR1")
	c.Says("done")
}

// TestClosedConnections: what the kernel remembers of them holds the port.
func TestClosedConnections(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			c := e.Start("closed", nil, harness.Tool(t, "python3", "/usr/bin"), harness.Program(t, "closed.py"))
			c.Says("ready")
			image := e.Join("image")
			c.Dump(image)
			if e.Root() {
				e.Restore(image, "")
				return
			}
			for _, args := range [][]string{{"check", image}, {"restore", image}} {
				if r := e.Try(args...); r.Code == 0 || !strings.Contains(r.Out+r.Err, "(TIME_WAIT)") || !strings.Contains(r.Out+r.Err, "try again in a minute") {
					t.Errorf("it should be told what holds the port: %v", r)
				}
			}
		})
	}
}
