package killed

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// sorts are flags of dumps whose images are written in other ways.
func sorts(t *testing.T, e *harness.Env) map[string][]string {
	t.Helper()
	if out, err := e.Command(t.Context(), "sh", "-c", "age-keygen -o key 2>said && sed -n 's/^Public key: //p' said >recipient && ssh-keygen -q -t ed25519 -N '' -f sign").CombinedOutput(); err != nil {
		t.Fatalf("make keys: %v: %s", err, out)
	}
	return map[string][]string{
		"plain":    nil,
		"packed":   {"--compress"},
		"sealed":   {"--encrypt", "recipient", "--sign", "sign"},
		"changes":  {"--parent", e.Join("first")},
		"all that": {"--compress", "--encrypt", "recipient", "--sign", "sign", "--parent", e.Join("first")},
	}
}

// TestEnding: a dump that is to end the container is killed or stopped. Then the
// container runs, with everything as it was, or there is a whole image of it; and
// that brings it back.
func TestEnding(t *testing.T) {
	for _, sort := range []string{"plain", "packed", "sealed", "changes", "all that"} {
		for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGINT} {
			t.Run(fmt.Sprintf("%s/%s", sort, unix.SignalName(sig)), func(t *testing.T) {
				e := harness.New(t, "")
				c := e.Watch("subject", []string{"--net", "none"}, harness.Program(t, "ipc.c"))
				flags := sorts(t, e)[sort]
				c.Dump(e.Join("first"), "--leave-running")
				image := e.Join("image")
				dump := append([]string{"dump", c.Name, image}, flags...)
				restore := func() {
					e.Restore(image, "", "--identity", "key")
					if err := os.RemoveAll(image); err != nil {
						t.Fatal(err)
					}
				}
				steps := e.AtStep(0, sig, dump...).Steps
				restore()
				c.Look()
				walk(t, steps, 3, func(n int) {
					what := fmt.Sprintf("%v at step %d", sig, n)
					before, err := footprint(c.Container)
					if err != nil {
						t.Fatal(err)
					}
					r := e.AtStep(n, sig, dump...)
					_, missing := os.Lstat(image)
					if missing == nil {
						e.Run("verify", image, "--identity", "key")
					}
					harness.Eventually(t, what+": it runs, or has ended", func() error {
						if s := c.Ps().State; s != "running" && s != "dumped" && s != "exited" {
							return fmt.Errorf("it is %s", s)
						}
						return nil
					})
					switch {
					case c.Ps().State == "running":
						if sig == unix.SIGINT && r.Code == 0 {
							t.Errorf("%s: it runs, and the exit code is 0", what)
						}
						same(c.Container, what, before)
						if missing == nil {
							c.Look()
							if err := os.RemoveAll(image); err != nil {
								t.Fatal(err)
							}
						}
					case missing != nil:
						t.Fatalf("%s: the container is gone, and there is no image: %v", what, r)
					default:
						restore()
					}
					c.Look()
				})
				e.Run(dump...) // which clears what killed ones have left
				if p := e.Partial(); len(p) > 0 {
					t.Errorf("left of killed dumps after the last one: %v", p)
				}
				restore()
				c.Look()
			})
		}
	}
}

// TestEndingIntoAStream: the same of a stream, in which a part of an image can be.
func TestEndingIntoAStream(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGINT} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			e := harness.New(t, "")
			c := e.Watch("subject", []string{"--net", "none"}, harness.Program(t, "ipc.c"))
			spool := e.Mkdir("spool")
			e.Setenv("TMPDIR", spool)
			steps := e.AtStep(0, sig, "dump", c.Name, "-", "--leave-running").Steps
			walk(t, steps, 6, func(n int) {
				what := fmt.Sprintf("%v at step %d", sig, n)
				before, err := footprint(c.Container)
				if err != nil {
					t.Fatal(err)
				}
				r := e.AtStep(n, sig, "dump", c.Name, "-")
				stream := e.WriteFile("stream", r.Out)
				whole := e.Try("verify", stream).Code == 0
				if c.Ps().State == "running" {
					same(c.Container, what, before)
				} else if !whole {
					t.Fatalf("%s: the container is gone, and there is no image: %v", what, r)
				} else {
					e.Restore(stream, "")
				}
				c.Look()
				left, err := os.ReadDir(spool)
				if err != nil || len(left) > 0 {
					t.Errorf("%s left %v (%v)", what, left, err)
				}
			})
		})
	}
}
