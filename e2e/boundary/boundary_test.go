// Package boundary has a test for every place where Linux shows, takes or
// stores an id of a process, thread, group or session: a program that tells
// what it sees of it, is saved, brought back where all its old numbers belong
// to others, and looks again. docs/pid-boundaries.md is the table of them.
package boundary

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ckpt/e2e/harness"
	"ckpt/kind/kindtest"
)

func TestMain(m *testing.M) { harness.Main(m) }

// row is one place.
type row struct {
	number int // in docs/pid-boundaries.md
	// source is a program of e2e/program (see state.h there).
	source string
	args   []string
	// flags are those of ckpt start.
	flags []string
	// since is the first kernel version that has it.
	since string
	// inner is how it is run in a user namespace (e2e/program/inner.c).
	inner string
	// root: an ordinary user may not make what it looks at.
	root bool
	// churn are names of processes that come and go.
	churn harness.Churn
	// outside looks from outside, whenever the program has looked.
	outside func(*harness.Subject)
}

func (r row) name() string {
	words := append([]string{fmt.Sprintf("%d %s", r.number, strings.TrimSuffix(filepath.Base(r.source), ".c"))}, append(r.flags, r.args...)...)
	if r.inner != "" {
		words = append(words, "inner", r.inner)
	}
	return strings.Join(words, " ")
}

func (r row) command(t *testing.T) (command []string) {
	if r.inner != "" {
		command = []string{harness.Program(t, "inner.c"), r.inner}
	}
	return append(append(command, harness.Program(t, r.source)), r.args...)
}

var rows = []row{
	{number: 1, source: "boundary/targets.c"},
	{number: 1, source: "boundary/execs.c"},
	{number: 1, source: "boundary/execs.c", flags: []string{"--no-init"}},
	{number: 2, source: "boundary/zombies.c"},
	{number: 3, source: "boundary/leaders.c"},
	{number: 4, source: "boundary/parents.c"},
	{number: 5, source: "boundary/proc.c"},
	{number: 5, source: "boundary/proc.c", args: []string{"dead"}},
	{number: 6, source: "boundary/owner.c"},
	{number: 7, source: "boundary/peercreds.c"},
	{number: 7, source: "boundary/peercreds.c", args: []string{"messages"}},
	{number: 7, source: "boundary/peercreds.c", args: []string{"messages", "gone"}, root: true},
	{number: 7, source: "boundary/peercreds.c", inner: "m", root: true},
	{number: 7, source: "boundary/peercreds.c", inner: "po"},
	{number: 7, source: "boundary/deadpeers.c", inner: "m", root: true},
	{number: 7, source: "boundary/deadpeers.c"},
	{number: 7, source: "boundary/deadpeers.c", flags: []string{"--no-init"}},
	{number: 8, source: "boundary/terminal.c"},
	{number: 9, source: "boundary/sysvpids.c"},
	{number: 9, source: "boundary/sysvpids.c", flags: []string{"--no-init"}},
	{number: 10, source: "boundary/filelocks.c"},
	{number: 11, source: "boundary/mqueue.c"},
	{number: 11, source: "boundary/mqueue.c", args: []string{"notify"}},
	{number: 11, source: "boundary/mqueue.c", args: []string{"many"}, root: true},
	{number: 12, source: "boundary/timerids.c"},
	{number: 13, source: "boundary/senders.c"},
	{number: 14, source: "boundary/futexes.c"},
	{number: 15, source: "boundary/pidfd.c"},
	{number: 15, source: "boundary/entered.c", root: true},
	{number: 16, source: "boundary/deathsig.c"},
	{number: 17, source: "boundary/cgroups.c"},
	{number: 18, source: "boundary/ports.c", flags: []string{"--net", "none"}},
	{number: 18, source: "boundary/fanout.c", flags: []string{"--net", "none"}, root: true},
	{number: 19, source: "boundary/next.c"},
	{number: 19, source: "boundary/next.c", args: []string{"exec"}, outside: execs},
	{number: 19, source: "boundary/pidmax.c", root: true, since: "6.14"},
	{number: 20, source: "nested.c", root: true},
	{number: 20, source: "nested.c", inner: "o"},
	{number: 20, source: "nested.c", inner: "po"},
	{number: 20, source: "nested.c", inner: "tpio"},
	{number: 21, source: "boundary/births.c", churn: harness.Churn{Comms: []string{"true", "births"}}},
	{number: 23, source: "boundary/pidfiles.c"},
	{number: 24, source: "boundary/targets.c", args: []string{"outside"}, outside: translated},
}

func TestRows(t *testing.T) {
	for _, r := range rows {
		for _, user := range harness.Users() {
			if r.root && !harness.AsRoot(user) || r.since != "" && !kindtest.Since(t, r.since) {
				continue
			}
			t.Run(r.name()+"/as "+user, func(t *testing.T) {
				t.Parallel()
				r.live(t, harness.New(t, user))
			})
		}
	}
}

// live is what each program goes through: two generations, each under other
// host ids, and a dump that leaves it running.
func (r row) live(t *testing.T, e *harness.Env) {
	s := e.Watch("boundary", r.flags, r.command(t)...)
	look := func() {
		t.Helper()
		s.Look()
		if r.outside != nil {
			r.outside(s)
		}
	}
	look()
	for range 2 {
		before := s.Ps()
		image := s.Image()
		s.Dump(image)
		if os.Geteuid() == 0 {
			harness.Take(t, before.HostIDs()...)
		}
		e.Restore(image, "")
		if err := harness.SameInside(before, s.Ps(), r.churn); err != nil {
			t.Error(err)
		}
		look()
	}
	s.Dump(s.Image(), "--leave-running")
	look()
	s.Finish()
}
