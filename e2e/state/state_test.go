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
	{source: "nested.c", root: true},   // an ordinary user makes a pid namespace in a user namespace only
	{source: "nested.c", flags: []string{"--no-init"}, root: true},
	{source: "spaces.c", root: true},
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
type course func(s *subject)

var courses = map[string]course{
	"restored": func(s *subject) {
		s.generation()
		s.look()
		s.generation()
		s.generation() // it may hardly have run in between
		s.look()
	},
	"left running": func(s *subject) {
		s.c.Dump(s.image(), "--leave-running")
		s.look()
		s.c.Dump(s.image(), "--leave-running")
		s.c.Dump(s.image(), "--leave-running")
	},
	"left running, then restored": func(s *subject) {
		s.c.Dump(s.image(), "--leave-running")
		s.generation()
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
					s := &subject{t: t, e: e}
					s.c = e.Start("state", p.flags, append([]string{harness.Program(t, p.source)}, p.args...)...)
					said(t, s.c, "ready")
					s.look()
					through(s)
					s.c.Kill("USR2")
					said(t, s.c, "done")
				})
			}
		}
	}
}

// subject is a running program.
type subject struct {
	t             *testing.T
	e             *harness.Env
	c             *harness.Container
	looks, images int
}

func (s *subject) look() {
	s.t.Helper()
	s.looks++
	s.c.Kill("USR1")
	said(s.t, s.c, fmt.Sprintf("good %d", s.looks))
}

func (s *subject) image() string {
	s.images++
	return s.e.Join(fmt.Sprintf("image%d", s.images))
}

func (s *subject) generation() {
	s.t.Helper()
	image := s.image()
	s.c.Dump(image)
	s.e.Restore(image, "")
}
