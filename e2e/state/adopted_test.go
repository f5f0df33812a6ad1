package state

import (
	"fmt"
	"slices"
	"testing"

	"ckpt/e2e/harness"
)

// adopted is a program that was started without ckpt, and then lives on in a
// container: that goes on without a log, and the program writes where it did.
type adopted struct {
	*harness.Container
	from *harness.Launched
}

func (a adopted) Log() string { return a.from.Log() }

// seeOwners are the programs that look at who owns what is root's: inside the
// container of an ordinary user that is nobody.
var seeOwners = []string{"files.c", "queues.c", "pty.c", "ctty.c", "events.c", "marks.c", "watching.c"}

// What a container keeps, a process that was started without one keeps on its
// way into one: left running, restored, and then saved as a container.
func TestAdopted(t *testing.T) {
	for _, p := range programs {
		if len(p.flags) > 0 || p.source == "ipc.c" { // its objects would be those of the host
			continue
		}
		if p.inner != "" || p.source == "nsfiles.c" { // a user namespace is refused there
			continue
		}
		for _, user := range harness.Users() {
			if (p.root || slices.Contains(seeOwners, p.source)) && !harness.AsRoot(user) {
				continue
			}
			t.Run(fmt.Sprintf("%s/as %s", p.name(), user), func(t *testing.T) {
				if !p.alone {
					t.Parallel()
				}
				e := harness.New(t, user)
				e.Setenv("CKPT_E2E_ADOPTED", "1")
				l := e.Launch(true, append([]string{harness.Program(t, p.source)}, p.args...)...)
				looks := 0
				look := func(at interface {
					harness.Speaker
					Kill(string)
				}) {
					looks++
					at.Kill("USR1")
					harness.Says(t, at, fmt.Sprintf("good %d", looks))
				}
				harness.Says(t, l, "ready")
				look(l)
				l.Dump(e.Join("image1"), "--leave-running")
				look(l)
				c := adopted{l.Adopt(e.Join("image2"), "state"), l}
				look(c)
				c.Dump(e.Join("image3"))
				e.Restore(e.Join("image3"), "")
				look(c)
				c.Kill("USR2")
				harness.Says(t, c, "done")
			})
		}
	}
}
