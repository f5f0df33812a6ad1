// Package copies is many containers out of one image, and few pids for them.
package copies

import (
	"os"
	"strconv"
	"sync"
	"testing"

	"ckpt/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// TestFifty: one image, restored fifty times at once. Each copy sees the ids
// of the original, and goes its own way.
func TestFifty(t *testing.T) {
	for user, source := range map[string]string{"": "nested.c", "nobody": "pending.c"} {
		if os.Geteuid() != 0 && user == "" {
			source = "pending.c"
		} else if os.Geteuid() != 0 {
			continue
		}
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			c := e.Start("one", nil, harness.Program(t, source))
			c.Says("ready")
			before := c.Ps()
			image := e.Join("image")
			c.Dump(image)
			copies := atOnce(e, image, 50)
			pids := map[int]string{}
			for _, c := range copies {
				ps := c.Ps()
				if err := harness.SameInside(before, ps, harness.Churn{}); err != nil {
					t.Fatalf("%s: %v", c.Name, err)
				}
				for _, p := range ps.Processes {
					if other, ok := pids[p.PID]; ok {
						t.Errorf("host pid %d is in %s and in %s", p.PID, other, c.Name)
					}
					pids[p.PID] = c.Name
				}
			}
			for _, c := range copies {
				c.Kill("USR1")
			}
			for _, c := range copies {
				c.Says("good 1")
			}
			for i, c := range copies {
				if i%2 == 0 { // the others are not disturbed
					c.Remove()
				}
			}
			for i, c := range copies {
				if i%2 != 0 {
					c.Kill("USR2")
				}
			}
			for i, c := range copies {
				if i%2 != 0 {
					c.Says("done")
				}
			}
		})
	}
}

// atOnce restores an image n times under different names, all begun before the
// first is done.
func atOnce(e *harness.Env, image string, n int) (copies []*harness.Container) {
	e.T.Helper()
	results := make([]harness.Result, n)
	var all sync.WaitGroup
	for i := range n {
		c := e.Own("copy" + strconv.Itoa(i))
		copies = append(copies, c)
		all.Go(func() { results[i] = e.Try("restore", image, "--name", c.Name) })
	}
	all.Wait()
	for _, r := range results {
		if r.Code != 0 {
			e.T.Fatal(r)
		}
	}
	return copies
}
