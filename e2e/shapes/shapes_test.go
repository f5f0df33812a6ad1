// Package shapes is process trees of any shape: built by a program that does
// what it is told (e2e/program/puppet.c), dumped, restored, and asked again
// from inside and outside.
package shapes

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ckpt/e2e/harness"
	"ckpt/kernel"
	"ckpt/kind/kindtest"
)

func TestMain(m *testing.M) { harness.Main(m) }

// shape is a tree, and what must work in it afterwards.
type shape struct {
	name string
	// args are those of the program.
	args  []string
	build func(*puppet)
	// after is asked of the restored tree and of the one left running. It
	// changes the tree.
	after func(*puppet)
	// since is the first kernel on which it can be saved; one before refuses.
	since string
}

// shapes of all files.
func shapes() []shape {
	return slices.Concat(sessions, zombies, orphans, stops, shared, threads)
}

// starts are the ways to start a container.
var starts = map[string][]string{"init": nil, "no init": {"--no-init"}}

func TestShapes(t *testing.T) {
	for _, s := range shapes() {
		for _, user := range harness.Users() {
			for how, flags := range starts {
				if s.since != "" && !kindtest.Since(t, s.since) {
					t.Run(fmt.Sprintf("%s/as %s/%s/refused", s.name, user, how), func(t *testing.T) {
						t.Parallel()
						refused(t, s, user, flags)
					})
					continue
				}
				t.Run(fmt.Sprintf("%s/as %s/%s/restored", s.name, user, how), func(t *testing.T) {
					t.Parallel()
					restored(t, s, user, flags)
				})
				t.Run(fmt.Sprintf("%s/as %s/%s/left running", s.name, user, how), func(t *testing.T) {
					t.Parallel()
					leftRunning(t, s, user, flags)
				})
			}
		}
	}
}

func begin(t *testing.T, s shape, user string, flags []string) (*puppet, state) {
	t.Helper()
	p := startPuppet(harness.New(t, user), "shape", flags, s.args...)
	s.build(p)
	if t.Failed() {
		t.FailNow()
	}
	return p, p.state()
}

// refused: told why, and let be.
func refused(t *testing.T, s shape, user string, flags []string) {
	p, _ := begin(t, s, user, flags)
	p.detach()
	r := p.c.Env.Try("dump", p.c.Name, p.c.Env.Join("image"))
	if r.Code != 3 || !strings.Contains(r.Err, "before Linux "+s.since) {
		t.Error(r)
	}
	if err := p.c.Alive(); err != nil {
		t.Error(err)
	}
}

// restored: dumped and restored twice in a row.
func restored(t *testing.T, s shape, user string, flags []string) {
	p, was := begin(t, s, user, flags)
	for n := range 2 {
		image := p.c.Env.Join(fmt.Sprintf("image%d", n))
		p.detach()
		p.c.Dump(image)
		p.c.Env.Restore(image, "")
		p.same(fmt.Sprintf("restored, %d", n), was, true)
	}
	s.after(p)
	p.detach()
}

// leftRunning: a dump does not disturb the tree, nor does a second one, and
// the image gives a copy of what was.
func leftRunning(t *testing.T, s shape, user string, flags []string) {
	p, was := begin(t, s, user, flags)
	for n := range 2 {
		p.detach()
		p.c.Dump(p.c.Env.Join(fmt.Sprintf("image%d", n)), "--leave-running")
		p.same(fmt.Sprintf("left running, %d", n), was, false)
	}
	s.after(p)
	p.detach()
	q := p.copied("copy", was)
	s.after(q)
	q.detach()
}

// copied restores image1 beside the running container, as it was then.
func (p *puppet) copied(name string, was state) *puppet {
	p.t.Helper()
	q := p.on(p.c.Env.Restore(p.c.Env.Join("image1"), name))
	q.tasks, q.next, q.ended = was.tasks, was.next, was.ended
	q.same(name, was, true)
	return q
}

// state is all that is known of a tree.
type state struct {
	ps             harness.Ps
	views          map[string]view
	shares         map[string]string
	nested, spaces map[string]string
	// For a copy of the container as it was then.
	tasks map[string]*task
	next  int
	ended []int
}

func (p *puppet) state() state {
	p.t.Helper()
	copied := p.on(p.c)
	s := state{views: p.views(), ps: p.c.Ps(), tasks: copied.tasks, next: copied.next, ended: copied.ended}
	s.shares, s.nested, s.spaces = p.sharing(s.ps), p.nested(s.ps), p.spaces(s.ps)
	return s
}

// same compares the tree with what it was. anew: it must be made of other
// processes than then; else of the same.
func (p *puppet) same(what string, was state, anew bool) {
	p.t.Helper()
	is := p.state()
	if d := cmp.Diff(was.views, is.views); d != "" {
		p.t.Errorf("%s: seen from inside (-before +after):\n%s", what, d)
	}
	if d := cmp.Diff(was.shares, is.shares); d != "" {
		p.t.Errorf("%s: what processes share (-before +after):\n%s", what, d)
	}
	if d := cmp.Diff(was.nested, is.nested); d != "" {
		p.t.Errorf("%s: ids in pid namespaces (-before +after):\n%s", what, d)
	}
	if d := cmp.Diff(was.spaces, is.spaces); d != "" {
		p.t.Errorf("%s: pid namespaces (-before +after):\n%s", what, d)
	}
	// A stopped process runs for an instant when it is let go, to stop by itself.
	harness.Eventually(p.t, what, func() error {
		if d := cmp.Diff(outside(was.ps), outside(p.c.Ps())); d != "" {
			return fmt.Errorf("seen from outside (-before +after):\n%s", d)
		}
		return nil
	})
	if anew {
		if err := harness.SameInside(was.ps, is.ps, harness.Churn{}); err != nil {
			p.t.Errorf("%s: %v", what, err)
		}
	} else if d := cmp.Diff(hostIDs(was.ps), hostIDs(is.ps)); d != "" {
		p.t.Errorf("%s: ids of the host (-before +after):\n%s", what, d)
	}
	if p.t.Failed() {
		p.t.FailNow()
	}
}

// outside is `ckpt ps` without the host's numbers. A sleeping process may be
// caught running.
func outside(ps harness.Ps) map[int]string {
	out := map[int]string{}
	for _, q := range ps.Processes {
		state := q.State
		if state == "R" || state == "D" {
			state = "S"
		}
		var tids []int
		for _, th := range q.Threads {
			tids = append(tids, th.VTID)
		}
		slices.Sort(tids)
		out[q.VPID] = fmt.Sprintf("%s %s parent %d group %d session %d threads %v", q.Comm, state, q.VPPID, q.VPGID, q.VSID, tids)
	}
	return out
}

func hostIDs(ps harness.Ps) map[int]int {
	out := map[int]int{}
	for _, q := range ps.Processes {
		for _, th := range q.Threads {
			out[th.VTID] = th.TID
		}
	}
	return out
}

// living gives, for every process with a living thread, the host's number of
// one.
func (p *puppet) living(ps harness.Ps) map[int]int {
	hosts := map[int]int{}
	for _, q := range ps.Processes {
		for _, th := range q.Threads {
			if st, err := harness.ThreadState(q.PID, th.TID); err == nil && st != 'Z' {
				hosts[q.VPID] = th.TID
				break
			}
		}
	}
	return hosts
}

// sharing tells, for every process and kind of object, the first process that
// has the same (kcmp(2)).
func (p *puppet) sharing(ps harness.Ps) map[string]string {
	p.t.Helper()
	hosts := p.living(ps)
	out := map[string]string{}
	vpids := slices.Sorted(maps.Keys(hosts))
	for what, kind := range map[string]kernel.KcmpType{"vm": kernel.KcmpVM, "files": kernel.KcmpFiles, "fs": kernel.KcmpFS, "handlers": kernel.KcmpSighand} {
		for i, a := range vpids {
			for _, b := range vpids[:i] {
				n, err := kernel.Kcmp(hosts[a], hosts[b], kind, 0, 0)
				if err != nil {
					p.t.Fatalf("kcmp of pid %d and pid %d: %v", a, b, err)
				}
				if n == 0 {
					out[fmt.Sprintf("%s of %d", what, a)] = fmt.Sprintf("that of %d", b)
					break
				}
			}
		}
	}
	return out
}
