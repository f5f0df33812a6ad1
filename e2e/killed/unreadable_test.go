package killed

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// TestUnreadable: whichever system call fails by which a command reads an image, it
// says what has failed and what to do, and nothing is there of what it was to make.
func TestUnreadable(t *testing.T) {
	for _, sort := range []string{"plain", "all that"} {
		t.Run(sort, func(t *testing.T) {
			e := harness.New(t, "")
			c := e.Watch("subject", []string{"--net", "none"}, harness.Program(t, "changing.c"))
			flags := sorts(t, e)[sort]
			c.Dump(e.Join("first"), "--leave-running")
			image, next := e.Join("image"), e.Join("next")
			c.Dump(image, append(flags, "--leave-running")...)
			e.Own("unreadable")
			fault := harness.Fault{Below: []string{image}, Errno: unix.EIO, Reads: true}
			for _, args := range [][]string{
				{"restore", image, "--name", "unreadable"},
				{"verify", image},
				{"check", image},
				{"inspect", image},
				{"diff", image, e.Join("first")},
				{"core", image, "2", next},
				{"dump", c.Name, next, "--leave-running", "--parent", image},
			} {
				args = append(args, "--identity", "key")
				clean := func(r harness.Stepped) {
					if err := os.RemoveAll(next); err != nil {
						t.Fatal(err)
					}
					if args[0] == "restore" && r.Code == 0 {
						e.Run("rm", "-f", "unreadable")
					}
				}
				none := e.FailAt(0, fault, args...)
				if none.Code != 0 && args[0] != "check" {
					t.Fatal(none)
				}
				clean(none)
				walk(t, none.Steps, 1, func(n int) {
					r := e.FailAt(n, fault, args...)
					what := fmt.Sprintf("step %d, %s", n, r.What)
					// Where a link leads is asked for messages only.
					harmless := strings.HasPrefix(r.What, "readlinkat ")
					if !r.Hit || r.Code == 0 && harmless {
						clean(r)
						return
					}
					if r.Code != 1 || !strings.Contains(r.Err, "input/output error") || !strings.Contains(r.Err, "ckpt: hint: its disk fails") {
						t.Errorf("%s: want exit code 1, the reason and what to do: %v", what, r)
					}
					if there := existing(append(e.Partial(), next)...); len(there) > 0 {
						t.Errorf("%s: left: %v", what, there)
					}
					if ps := e.Try("ps", "unreadable"); args[0] == "restore" && ps.Code != 5 {
						t.Errorf("%s: a container is there: %v", what, ps)
					}
					clean(r)
				})
			}
			c.Look()
		})
	}
}
