package state

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"ckpt/e2e/harness"
)

// reading is a line of e2e/program/clock.c, in ns.
type reading struct{ N, Mono, Boot, Real, Uptime time.Duration }

// read gives the n-th reading of a log.
func read(t *testing.T, c *harness.Container, n int) (r reading) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("reading %d", n), func() error {
		for line := range strings.Lines(c.Log()) {
			if strings.HasSuffix(line, "\n") && json.Unmarshal([]byte(line), &r) == nil && int(r.N) == n {
				return nil
			}
		}
		if err := c.Alive(); err != nil {
			return err
		}
		return fmt.Errorf("so far: %q", c.Log())
	})
	return r
}

// goesOn fails unless the clocks that have offsets stood still for away, or
// longer, between two readings, and agree with each other.
func goesOn(t *testing.T, before, after reading, away time.Duration) {
	t.Helper()
	mono, boot, real := after.Mono-before.Mono, after.Boot-before.Boot, after.Real-before.Real
	const precise = 20 * time.Millisecond // they are read one after the other
	if mono < 0 || mono > real-away+precise {
		t.Errorf("CLOCK_MONOTONIC went by %v in %v, of which it should have stood still for %v", mono, real, away)
	}
	if d := mono - boot; d < -precise || d > precise {
		t.Errorf("CLOCK_MONOTONIC went by %v, CLOCK_BOOTTIME by %v", mono, boot)
	}
	if d := after.Boot - after.Uptime; d < -2*precise || d > 2*precise {
		t.Errorf("CLOCK_BOOTTIME is %v, /proc/uptime %v", after.Boot, after.Uptime)
	}
}

// TestClocks: in a restored container they go on where they stopped, also in a
// second generation, in copies that have been away for another time, and for
// a program that comes in from outside.
func TestClocks(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			clock := harness.Program(t, "clock.c")
			c := e.Start("clock", nil, clock)
			var last reading
			read(t, c, 0)
			ask := func(c *harness.Container, n int) reading {
				c.Kill("USR1")
				return read(t, c, n)
			}
			for n := 1; n <= 2; n++ {
				image := e.Join(fmt.Sprintf("image%d", n))
				last = ask(c, 2*n-1)
				c.Dump(image)
				dumped := time.Now()
				<-time.After(700 * time.Millisecond) // how long it is away is what is tested
				away := time.Since(dumped)
				e.Restore(image, "")
				now := ask(c, 2*n)
				goesOn(t, last, now, away)

				copied := e.Restore(image, fmt.Sprintf("copy%d", n))
				goesOn(t, last, ask(copied, 2*n), away)
				copied.Remove()

				var other reading
				if err := json.Unmarshal([]byte(e.Run("exec", "clock", "--", clock, "once")), &other); err != nil {
					t.Fatal(err)
				}
				goesOn(t, last, other, away)
				if other.Mono < now.Mono {
					t.Errorf("a program that came in later reads %v, the container %v", other.Mono, now.Mono)
				}
			}
		})
	}
}
