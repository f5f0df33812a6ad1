package state

import (
	"fmt"
	"slices"
	"testing"

	"ckpt/e2e/harness"
)

// program looks at itself whenever it is asked (e2e/program/state.h).
type program struct {
	source string
	args   []string
	// root: an ordinary user may not make what it looks at.
	root bool
	// flags are those of ckpt start.
	flags []string
	// alone: it needs a thing that exists once on the machine, and is gone
	// between dump and restore.
	alone bool
}

var programs = []program{
	{source: "registers.c"},
	{source: "thread.c"},
	{source: "locks.c"},
	{source: "pending.c"},
	{source: "handlers.c", args: []string{"catch"}},
	{source: "handlers.c", args: []string{"ignore"}},
	{source: "timers.c"},
	{source: "cputime.c"},
	{source: "files.c"},
	{source: "leases.c"},
	{source: "mlockall.c"},
	{source: "mlockall.c", args: []string{"onfault"}},
	{source: "queues.c"},
	{source: "sockets.c"},
	{source: "ipc.c"},
	{source: "pty.c"},
	{source: "ctty.c"},
	{source: "ctty.c", flags: []string{"--no-init"}},
	{source: "process.c"},
	{source: "process.c", args: []string{"chroot"}, root: true},
	{source: "process.c", flags: []string{"--no-init"}},
	{source: "pending.c", flags: []string{"--no-init"}},
	{source: "locks.c", flags: []string{"--no-init"}},
	{source: "timers.c", flags: []string{"--no-init"}},
	{source: "sockets.c", flags: []string{"--no-init", "--net", "none"}},
	{source: "pty.c", flags: []string{"--no-init"}},
	{source: "netlink.c", flags: []string{"--net", "none"}},
	{source: "netlink.c", args: []string{"own"}, flags: []string{"--net", "none"}, root: true},
	{source: "netlink.c", alone: true}, // its ports are those of the host
	{source: "rawsocks.c", args: []string{"own"}, flags: []string{"--net", "none"}, root: true},
	{source: "rawsocks.c", root: true, alone: true}, // what others send comes to it, too
	{source: "nested.c", root: true},                // an ordinary user makes a pid namespace in a user namespace only
	{source: "nested.c", flags: []string{"--no-init"}, root: true},
	{source: "spaces.c", root: true},
	{source: "opened.c", root: true},
	{source: "creds.c", root: true},
	{source: "seccomp.c", root: true},
	{source: "seccomp.c", args: []string{"no-new-privs"}, root: true},
}

func (p program) name() string {
	name := p.source
	for _, a := range append(slices.Clone(p.flags), p.args...) {
		name += " " + a
	}
	return name
}

// course is what a program lives through between its looks.
type course func(s *harness.Subject)

var courses = map[string]course{
	"restored": func(s *harness.Subject) {
		s.Generation()
		s.Look()
		s.Generation()
		s.Generation() // it may hardly have run in between
		s.Look()
	},
	"left running": func(s *harness.Subject) {
		s.Dump(s.Image(), "--leave-running")
		s.Look()
		s.Dump(s.Image(), "--leave-running")
		s.Dump(s.Image(), "--leave-running")
	},
	"left running, then restored": func(s *harness.Subject) {
		s.Dump(s.Image(), "--leave-running")
		s.Generation()
	},
}

func TestState(t *testing.T) {
	for _, p := range programs {
		for _, user := range harness.Users() {
			if p.root && !harness.AsRoot(user) {
				continue
			}
			for name, through := range courses {
				t.Run(fmt.Sprintf("%s/as %s/%s", p.name(), user, name), func(t *testing.T) {
					if !p.alone {
						t.Parallel()
					}
					e := harness.New(t, user)
					s := e.Watch("state", p.flags, append([]string{harness.Program(t, p.source)}, p.args...)...)
					s.Look()
					through(s)
					s.Finish()
				})
			}
		}
	}
}
