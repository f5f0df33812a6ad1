package fault

import (
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// thing is one that e2e/program/refuses.c holds.
type thing struct {
	name string
	root bool   // an ordinary user is refused it, or something before it
	says string // what the dump says
	// check is what ckpt check says: "" the same, "-" that it would dump, since
	// only a stop shows it and programs ordinarily have no such thing, else what
	// it has not looked at.
	check string
}

var things = []thing{
	{name: "secret file", says: "fd 3: /secretmem is secret memory (memfd_secret), which nobody else can read"},
	{name: "secret memory", says: " /secretmem: secret memory (memfd_secret), which nobody else can read"},
	{name: "dispatch", says: "its system calls are dispatched to itself (PR_SET_SYSCALL_USER_DISPATCH)", check: "-"},
	{name: "ldt", says: "it has a local descriptor table (modify_ldt)", check: "-"},
	{name: "notifier", root: true, says: "a seccomp listener: system calls of other processes wait for its answers"},
	{name: "notifier gone", root: true, says: "a seccomp filter hands calls to a supervisor (SECCOMP_RET_USER_NOTIF)", check: "seccomp filters that ask a supervisor"},
	{name: "undo", says: "it shares semaphore undo values with pid ", check: "undo values of semaphores"},
	{name: "hung up", root: true, says: "a slave of terminal /dev/pts/0 was hung up (vhangup) while its master is open"},
}

// TestRefusedThings: a dump says what it does not carry, and what to do; the
// program goes on. A check says the same, or that it has not looked.
func TestRefusedThings(t *testing.T) {
	for _, th := range things {
		for _, user := range harness.Users() {
			if th.root && !harness.AsRoot(user) {
				continue
			}
			t.Run(th.name+"/as "+user, func(t *testing.T) {
				t.Parallel()
				e := harness.New(t, user)
				c := e.Start("refuses", nil, harness.Program(t, "refuses.c"), th.name)
				var j harness.Journal
				counts(c, &j, "main")
				r := e.Try("dump", c.Name, e.Join("image"))
				if r.Code != 3 || !strings.Contains(r.Err, th.says) || !strings.Contains(r.Err, "ckpt: hint: ") {
					t.Errorf("want exit code 3, %q and a hint: %v", th.says, r)
				}
				code, says := 0, th.check
				switch th.check {
				case "":
					code, says = 3, th.says
				case "-":
					says = "would dump"
				}
				if r := e.Try("check", c.Name); r.Code != code || !strings.Contains(r.Out, says) {
					t.Errorf("check: want exit code %d and %q: %v", code, says, r)
				}
				absent(e, e.Join("image"))
				untraced(c)
				counts(c, &j, "main")
			})
		}
	}
}
