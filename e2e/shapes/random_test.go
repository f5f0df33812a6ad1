package shapes

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// TestRandom lets processes do random things, saves what comes of it, and
// lets the original and a restored copy do the same things from there on: all
// results must be the same, new pids too, and so must the two in the end.
//
// A seed makes a history: the same one on every machine of the same kernel,
// for root and for others each. What is left out, or told apart in outcome,
// is what a dump refuses by design: see fate.dump.
func TestRandom(t *testing.T) {
	from, n := harness.Seeds(t, ciSeeds)
	for seed := from; seed < from+n; seed++ {
		for _, user := range harness.Users() {
			t.Run(fmt.Sprintf("seed %d/as %s", seed, user), func(t *testing.T) {
				t.Parallel()
				random(t, seed, user)
			})
		}
	}
}

// mix is how wild a history is.
type mix struct {
	steps, procs, later          int
	share, threads, stop, spaces bool
}

var mixes = []mix{
	{steps: 60, procs: 12, later: 40, spaces: true},
	{steps: 120, procs: 30, later: 60, threads: true, stop: true, spaces: true},
	{steps: 120, procs: 30, later: 60, share: true, threads: true, stop: true},
	{steps: 30, procs: 8, later: 20},
	{steps: 60, procs: 12, later: 40, threads: true},
	{steps: 60, procs: 12, later: 40, stop: true},
	{steps: 60, procs: 12, later: 40, share: true},
	{steps: 60, procs: 12, later: 40, share: true, threads: true, spaces: true},
	{steps: 700, procs: 200, later: 60, threads: true, stop: true},
	{steps: 700, procs: 200, later: 60, threads: true, stop: true, spaces: true},
}

func random(t *testing.T, seed uint64, user string) {
	x := mixes[int(seed)%len(mixes)]
	flags := [][]string{nil, {"--no-init"}}[int(seed)/len(mixes)%2]
	p := startPuppet(harness.New(t, user), "random", flags)
	h := &fate{rng: rand.New(rand.NewPCG(seed, 0)), mix: x, p: p, odd: map[int]bool{}, apart: map[int]bool{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("CKPT_SEED=%d go test ./e2e/shapes -run 'TestRandom/.*/as_%s$' repeats it; history:\n  %s", seed, user, strings.Join(h.log, "\n  "))
		}
	})
	for range x.steps {
		h.step()
	}
	if !h.dump(p, p.c.Env.Join("image1"), "--leave-running") {
		return
	}
	was := p.state()
	t.Logf("%d processes, %d pid namespaces", len(was.ps.Processes), len(was.namespaces()))
	q := p.copied("copy", was)
	h.log = append(h.log, "dump and restore")
	h.q = q
	for range x.later {
		if h.step(); t.Failed() {
			return
		}
	}
	is := p.state()
	q.same("after all", is, true)
	if d := cmp.Diff(p.gone(), q.gone()); d != "" {
		t.Errorf("who is dead or stopped (-original +copy):\n%s", d)
	}
	if !h.dump(q, q.c.Env.Join("image2")) {
		return
	}
	q.c.Env.Restore(q.c.Env.Join("image2"), "")
	q.same("restored again", p.state(), true)
	p.detach()
	q.detach()
}

// dump saves one of the two, and makes sure that it changed nothing. It is
// false for a tree that is refused by design, and left as it was. Processes
// that a dump refuses, and that can go, are ended, as the refusal advises.
func (h *fate) dump(p *puppet, image string, flags ...string) bool {
	p.t.Helper()
	try := func() harness.Result {
		was := p.state()
		p.detach()
		check := p.c.Env.Try("check", p.c.Name)
		r := p.c.Env.Try(append([]string{"dump", p.c.Name, image}, flags...)...)
		if check.Code != r.Code {
			p.t.Errorf("%v\n%v", check, r)
		}
		if r.Code != 0 || len(flags) > 0 {
			p.same(fmt.Sprint("after ", r), was, false)
		}
		return r
	}
	for barren := p.barren(); len(barren) > 0; barren = p.barren() {
		r := try()
		for _, pid := range barren {
			want := regexp.MustCompile(fmt.Sprintf(`pid %d \(\w+\): pid namespaces: its children are to be born in a pid namespace whose first process has ended`, pid))
			if r.Code != 3 || !want.MatchString(r.Err) {
				p.t.Fatalf("%q should be told, with exit code 3: %v", want, r)
			}
			name := h.any(func(t *task) bool { return t.pid == pid && !t.dead }).name
			h.run(act{name + " is killed, since it cannot fork", func(p *puppet) []int { return []int{p.kill(name)} }})
		}
	}
	r := try()
	shared := h.mix.share && (strings.Contains(r.Err, "share their") || strings.Contains(r.Err, "share memory, files or directories"))
	if r.Code == 3 && (shared || p.unnamed(r.Err)) {
		p.t.Logf("refused: %s", r.Err)
		p.detach()
		return false
	}
	if r.Code != 0 {
		p.t.Fatal(r)
	}
	return true
}

// gone tells of every task whether it is dead or stopped.
func (p *puppet) gone() map[string]string {
	out := map[string]string{}
	for name, t := range p.tasks {
		out[name] = fmt.Sprint("dead ", t.dead, " stopped ", t.stopped)
	}
	return out
}

// deepest is how many pid namespaces lie in each other, below the container's.
const deepest = 3

// fate is what the tasks of p, and of its copy q if there is one, do.
type fate struct {
	rng  *rand.Rand
	mix  mix
	p, q *puppet
	born int
	odd  map[int]bool // pids that have made a child with an exit signal of its own
	// apart are pids that have made a pid namespace for their children; true:
	// its first process, too. A second child of theirs would be refused.
	apart map[int]bool
	log   []string
}

// act is one thing to do, and what comes of it.
type act struct {
	what string
	do   func(*puppet) []int
}

func (h *fate) step() {
	h.p.t.Helper()
	if a := h.choose(); a.do != nil {
		h.run(a)
	}
}

func (h *fate) run(a act) {
	h.p.t.Helper()
	got := a.do(h.p)
	h.log = append(h.log, fmt.Sprintf("%s: %v", a.what, got))
	if h.q == nil {
		return
	}
	if copied := a.do(h.q); !slices.Equal(got, copied) {
		h.p.t.Errorf("%s: the original got %v, the copy %v", a.what, got, copied)
	}
}

// who chooses a task that can act; others than the command on request.
func (h *fate) who(notRoot bool) *task {
	var all []*task
	for _, name := range slices.Sorted(maps.Keys(h.p.tasks)) {
		t := h.p.tasks[name]
		if !t.dead && !t.stopped && !(notRoot && t.proc == "root") {
			all = append(all, t)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[h.rng.IntN(len(all))]
}

// any chooses a task that fits, dead or alive.
func (h *fate) any(fits func(*task) bool) *task {
	var all []*task
	for _, name := range slices.Sorted(maps.Keys(h.p.tasks)) {
		if t := h.p.tasks[name]; fits(t) {
			all = append(all, t)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[h.rng.IntN(len(all))]
}

func (h *fate) alive() (n int) {
	for _, t := range h.p.tasks {
		if !t.dead {
			n++
		}
	}
	return n
}

func (h *fate) choose() act {
	full := h.alive() >= h.mix.procs
	switch k := h.rng.IntN(40); {
	case k < 14:
		if full {
			return h.end()
		}
		return h.fork()
	case k < 16:
		if !h.mix.threads || full {
			return act{}
		}
		return h.thread()
	case k < 23:
		return h.group()
	case k < 28:
		return h.end()
	case k < 32:
		return h.wait()
	case k < 35:
		return h.signal()
	case k < 38:
		if !h.mix.stop {
			return act{}
		}
		return h.stop()
	default:
		return h.setting()
	}
}

func (h *fate) name() string { h.born++; return fmt.Sprint("t", h.born) }

func (h *fate) fork() act {
	t, name := h.who(false), h.name()
	if begun, unshared := h.apart[t.pid]; begun {
		return act{}
	} else if unshared {
		h.apart[t.pid] = true
	}
	flags, sig := 0, unix.SIGCHLD
	switch h.rng.IntN(10) {
	case 0:
		flags, sig = unix.CLONE_PARENT, 0
	case 1:
		// A process that comes to a new parent gets SIGCHLD back; else it is
		// its own parent's affair.
		sig = []unix.Signal{0, unix.SIGUSR1}[h.rng.IntN(2)]
	}
	if h.mix.share {
		for _, f := range []int{unix.CLONE_FILES, unix.CLONE_FS, unix.CLONE_VM, unix.CLONE_VM | unix.CLONE_SIGHAND} {
			if h.rng.IntN(6) == 0 {
				flags |= f
			}
		}
	}
	if sig != unix.SIGCHLD {
		h.odd[t.pid] = true
	}
	if h.mix.spaces && t.levels < deepest && h.rng.IntN(6) == 0 {
		flags |= unix.CLONE_NEWPID
		if h.rng.IntN(2) == 0 {
			return act{fmt.Sprintf("%s forks %s, flags %#x, signal %d: setsid", t.name, name, flags, sig), func(p *puppet) []int {
				if got := p.clone(t.name, name, flags, sig); got < 0 {
					return []int{got}
				} else {
					return []int{got, p.setsid(name)}
				}
			}}
		}
	}
	return act{fmt.Sprintf("%s forks %s, flags %#x, signal %d", t.name, name, flags, sig), func(p *puppet) []int {
		return []int{p.clone(t.name, name, flags, sig)}
	}}
}

func (h *fate) thread() act {
	t, name := h.who(false), h.name()
	return act{fmt.Sprintf("%s makes thread %s", t.name, name), func(p *puppet) []int { return []int{p.thread(t.name, name)} }}
}

func (h *fate) group() act {
	t := h.who(true)
	if t == nil {
		return act{}
	}
	if h.rng.IntN(3) == 0 {
		return act{t.name + ": setsid", func(p *puppet) []int { return []int{p.setsid(t.name)} }}
	}
	whose, group := 0, 0
	if other := h.any(func(o *task) bool { return o.proc != t.proc && !o.first() }); other != nil && h.rng.IntN(4) == 0 {
		whose = other.at // works for a child only
	}
	if other := h.who(false); h.rng.IntN(2) == 0 {
		// One made in a namespace below keeps that from ending before who
		// is in it. So does the first process of a namespace for itself, for
		// ever: that is refused (restore/tree).
		if group = h.p.look(other.name).PGID; t.first() || h.any(func(o *task) bool { return o.space == t.space && o.self == group }) == nil {
			return act{}
		}
	}
	return act{fmt.Sprintf("%s: setpgid %d %d", t.name, whose, group), func(p *puppet) []int { return p.do(t.name, opSetpgid, whose, group)[:1] }}
}

// end ends a process, by itself or by others, or a thread of several.
func (h *fate) end() act {
	t := h.who(true)
	if t == nil {
		return act{}
	}
	switch h.rng.IntN(6) {
	case 0:
		sig := []unix.Signal{unix.SIGTERM, unix.SIGUSR1, unix.SIGKILL}[h.rng.IntN(3)]
		if sig == unix.SIGKILL || t.self == 1 {
			return h.kill()
		}
		return act{fmt.Sprintf("%s dies of signal %d", t.name, sig), func(p *puppet) []int { return []int{p.die(t.name, sig)} }}
	case 1:
		return h.kill()
	case 2, 3:
		if h.p.threads(t) > 1 {
			return act{t.name + " exits, a thread", func(p *puppet) []int { return []int{p.exitThread(t.name)} }}
		}
	}
	code := h.rng.IntN(256)
	return act{fmt.Sprintf("%s exits with code %d", t.name, code), func(p *puppet) []int { return []int{p.exit(t.name, code)} }}
}

func (h *fate) kill() act {
	t := h.any(func(t *task) bool { return !t.dead && t.proc != "root" })
	if t == nil {
		return act{}
	}
	return act{t.name + " is killed", func(p *puppet) []int { return []int{p.kill(t.name)} }}
}

// threads counts the living ones of a task's process.
func (p *puppet) threads(t *task) (n int) {
	for _, o := range p.tasks {
		if o.pid == t.pid && !o.dead {
			n++
		}
	}
	return n
}

func (h *fate) wait() act {
	dead := h.any(func(t *task) bool { return t.dead || t.stopped })
	if dead == nil {
		return act{}
	}
	t := h.who(false)
	if ppid := h.p.ask(opParent, dead.pid); ppid > 0 && h.rng.IntN(4) != 0 {
		if parent := h.any(func(t *task) bool { return t.pid == ppid && !t.dead && !t.stopped }); parent != nil {
			t = parent
		}
	}
	options := []int{0, unix.WALL, unix.WALL | unix.WUNTRACED, unix.WALL | unix.WCONTINUED}[h.rng.IntN(4)]
	return act{fmt.Sprintf("%s waits for %s, options %#x", t.name, dead.name, options), func(p *puppet) []int {
		pid, status := p.wait(t.name, dead.name, options)
		return []int{pid, int(status)}
	}}
}

// signal sends a signal that waits, as all do, or takes one that does.
func (h *fate) signal() act {
	t := h.who(false)
	sig := []unix.Signal{unix.SIGCHLD, unix.SIGUSR1, unix.SIGHUP}[h.rng.IntN(3)]
	if h.rng.IntN(2) == 0 {
		return act{fmt.Sprintf("%s takes signal %d", t.name, sig), func(p *puppet) []int { return p.do(t.name, opTake, int(sig))[:1] }}
	}
	to := h.p.look(h.who(false).name)
	pid := []int{to.PID, -to.PGID}[h.rng.IntN(2)]
	return act{fmt.Sprintf("%s: kill %d %d", t.name, pid, sig), func(p *puppet) []int { return p.do(t.name, opKill, pid, int(sig))[:1] }}
}

func (h *fate) stop() act {
	if t := h.any(func(t *task) bool { return t.stopped && !t.dead }); t != nil && h.rng.IntN(2) == 0 {
		return act{t.name + " goes on", func(p *puppet) []int { return []int{p.cont(t.name)} }}
	}
	t := h.who(true)
	if t == nil {
		return act{}
	}
	return act{t.name + " is stopped", func(p *puppet) []int { return []int{p.stop(t.name)} }}
}

func (h *fate) setting() act {
	t := h.who(true)
	if t == nil {
		return act{}
	}
	switch h.rng.IntN(5) {
	case 0:
		// Beside other threads it is refused: TestThreadsApart.
		if _, before := h.apart[t.pid]; h.mix.spaces && !before && t.levels < deepest && t.pid == t.tid && h.p.threads(t) == 1 {
			h.apart[t.pid] = false
			return act{t.name + ": unshare CLONE_NEWPID", func(p *puppet) []int { return p.do(t.name, opUnshare, unix.CLONE_NEWPID)[:1] }}
		}
	case 4:
		if h.mix.share && h.p.threads(t) == 1 { // a thread apart is refused: TestThreadsApart
			flags := []int{unix.CLONE_FILES, unix.CLONE_FS}[h.rng.IntN(2)]
			return act{fmt.Sprintf("%s: unshare %#x", t.name, flags), func(p *puppet) []int { return p.do(t.name, opUnshare, flags)[:1] }}
		}
	case 1:
		how := h.rng.IntN(3)
		return act{fmt.Sprintf("%s: handle SIGCHLD %d", t.name, how), func(p *puppet) []int { return p.do(t.name, opHandle, int(unix.SIGCHLD), how)[:1] }}
	case 2:
		if h.odd[t.pid] {
			// Its children would tell their end by SIGCHLD from then on
			// (do_notify_parent(), self_exec_id), which the kernel does not show.
			return act{}
		}
		return act{t.name + " runs the program anew", func(p *puppet) []int { return []int{p.exec(t.name)} }}
	}
	on := min(1, h.rng.IntN(3))
	return act{fmt.Sprintf("%s: subreaper %d", t.name, on), func(p *puppet) []int { return []int{p.subreaper(t.name, on)} }}
}
