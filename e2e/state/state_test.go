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
	// inner is how it is run in a user namespace (e2e/program/inner.c).
	inner string
}

var programs = []program{
	{source: "registers.c"},
	{source: "thread.c"},
	{source: "locks.c"},
	{source: "robust.c"},
	{source: "pending.c"},
	{source: "fullqueue.c"},
	{source: "stopping.c"},
	{source: "stopped.c"},
	{source: "stopped.c", inner: "po"},
	{source: "handlers.c", args: []string{"catch"}},
	{source: "handlers.c", args: []string{"ignore"}},
	{source: "timers.c"},
	{source: "cputime.c"},
	{source: "files.c"},
	{source: "names.c"},
	{source: "names.c", args: []string{"root"}, root: true},
	{source: "attributes.c"},
	{source: "attributes.c", args: []string{"root"}, root: true}, // who else makes a file immutable
	{source: "leases.c"},
	{source: "nsfiles.c"},
	{source: "nsfiles.c", flags: []string{"--no-init"}},
	{source: "mappings.c"},
	{source: "crowd.c"},
	{source: "limits.c"},
	{source: "keys.c"},
	{source: "vdso.c", args: []string{"moved"}},
	{source: "vdso.c", args: []string{"data"}},
	{source: "vdso.c", args: []string{"none"}},
	{source: "vdso.c", args: []string{"closed"}},
	{source: "mlockall.c"},
	{source: "mlockall.c", args: []string{"onfault"}},
	{source: "queues.c"},
	{source: "watching.c"},
	{source: "marks.c"},
	{source: "events.c"},
	{source: "aio.c"},
	{source: "sockets.c"},
	{source: "sockopts.c", flags: []string{"--net", "none"}},
	{source: "sockopts.c", root: true}, // connections on the host's network are root's
	{source: "ipc.c"},
	{source: "pty.c"},
	{source: "ptydata.c"},
	{source: "ctty.c"},
	{source: "ctty.c", args: []string{"child"}},
	{source: "ctty.c", args: []string{"leader"}},
	{source: "settings.c"},
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
	{source: "waiting.c", flags: []string{"--net", "none"}},
	{source: "waiting.c", root: true}, // the state of connections on the host's network is root's
	{source: "datagrams.c"},
	{source: "datagrams.c", flags: []string{"--net", "none"}},
	{source: "packets.c", args: []string{"own"}, flags: []string{"--net", "none"}, root: true},
	{source: "packets.c", root: true},
	{source: "rawsocks.c", args: []string{"own"}, flags: []string{"--net", "none"}, root: true},
	{source: "rawsocks.c", root: true, alone: true}, // what others send comes to it, too
	{source: "nested.c", root: true},                // an ordinary user makes a pid namespace in a user namespace only
	{source: "nested.c", flags: []string{"--no-init"}, root: true},
	{source: "spaces.c", root: true},
	{source: "spaces.c", args: []string{"threads"}, root: true},
	{source: "opened.c", root: true},
	{source: "creds.c", root: true},
	{source: "seccomp.c", root: true},
	{source: "seccomp.c", args: []string{"no-new-privs"}, root: true},
	{source: "thread.c", inner: "o"},
	{source: "thread.c", inner: "po"},
	{source: "locks.c", inner: "po"},
	{source: "pending.c", inner: "po"},
	{source: "timers.c", inner: "ps"},
	{source: "files.c", inner: "o"},
	{source: "files.c", inner: "po"},
	{source: "queues.c", inner: "ps"},
	{source: "sockets.c", inner: "s"},
	{source: "sockets.c", inner: "ps"},
	{source: "pty.c", inner: "po"},
	{source: "ctty.c", inner: "po"},
	{source: "process.c", inner: "pio"},
	{source: "process.c", inner: "tpo"},
	{source: "nested.c", inner: "o"},
	{source: "nested.c", inner: "po"},
	{source: "nested.c", inner: "tpo"},
	{source: "spaces.c", inner: "po"},
	{source: "spaces.c", inner: "tpio"},
	{source: "spaces.c", inner: "twpo"},
	{source: "thread.c", inner: "n", root: true},
	{source: "thread.c", inner: "pn", root: true},
	{source: "creds.c", args: []string{"inner"}, inner: "m", root: true},
	{source: "creds.c", args: []string{"inner"}, inner: "pim", root: true},
	{source: "process.c", inner: "m", root: true},
	{source: "process.c", inner: "pim", root: true},
	{source: "files.c", inner: "pim", root: true},
	{source: "ipc.c", inner: "m", root: true},
	{source: "nested.c", inner: "pim", root: true},
	{source: "spaces.c", inner: "m", root: true},
	{source: "seccomp.c", inner: "po", root: true},
}

func (p program) name() string {
	name := p.source
	if p.inner != "" {
		name += " inner " + p.inner
	}
	for _, a := range append(slices.Clone(p.flags), p.args...) {
		name += " " + a
	}
	return name
}

func (p program) command(t *testing.T) (command []string) {
	if p.inner != "" {
		command = []string{harness.Program(t, "inner.c"), p.inner}
	}
	return append(append(command, harness.Program(t, p.source)), p.args...)
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
					s := e.Watch("state", p.flags, p.command(t)...)
					s.Look()
					through(s)
					s.Finish()
				})
			}
		}
	}
}
