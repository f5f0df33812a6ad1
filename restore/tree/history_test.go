package tree

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/pidns"
)

// history lets random processes do random things, so that every tree it ends
// in is one that the kernel can show.
type history struct {
	*model
	rng  *rand.Rand
	next pidns.VPID
	log  []string
}

type mix struct {
	init, share, signals, spaces bool
	steps, procs                 int
}

func newHistory(seed uint64, x mix) *history {
	h := &history{model: newModel(), rng: rand.New(rand.NewPCG(seed, 7)), next: 2}
	for range 1 + h.rng.IntN(x.steps) {
		h.act(x)
	}
	return h
}

// pick chooses a living process (init seldom) or, dead, a zombie.
func (h *history) pick(dead bool) *task {
	var all []*task
	for p := pidns.VPID(1); p < h.next; p++ {
		if t := h.procs[p]; t != nil && t.dead == dead {
			all = append(all, t)
		}
	}
	if len(all) == 0 {
		return nil
	}
	if t := all[h.rng.IntN(len(all))]; t.pid != 1 || h.rng.IntN(4) == 0 {
		return t
	}
	return all[h.rng.IntN(len(all))]
}

func (h *history) act(x mix) {
	p := h.pick(false)
	var err error
	what := ""
	switch k := h.rng.IntN(20); {
	case k < 8:
		if len(h.procs) >= x.procs {
			return
		}
		what, err = h.randomFork(p, x)
	case k < 10:
		what, err = fmt.Sprintf("%d: setsid", p.pid), h.setsid(p.pid)
	case k < 13:
		g := p.pid
		if q := h.pick(false); h.rng.IntN(2) == 0 {
			g = q.pgid
		}
		if p.space == p.pid && g != p.pid && h.rng.IntN(8) != 0 {
			return // often refused: endless
		}
		what, err = fmt.Sprintf("%d: setpgid %d", p.pid, g), h.setpgid(p.pid, g)
	case k < 16:
		st := unix.WaitStatus(h.rng.IntN(256) << 8)
		what, err = fmt.Sprintf("%d: exit", p.pid), h.exit(p.pid, st)
	case k < 18:
		z := h.pick(true)
		if z == nil {
			return
		}
		what, err = fmt.Sprintf("%d: reap %d", z.parent, z.pid), h.reap(z.parent, z.pid)
	default:
		on := h.rng.IntN(3) != 0
		what, err = fmt.Sprintf("%d: subreaper %v", p.pid, on), h.subreaper(p.pid, on)
	}
	if err == nil {
		h.log = append(h.log, what)
	}
}

func (h *history) randomFork(p *task, x mix) (string, error) {
	sig := unix.SIGCHLD
	var flags uint64
	if h.rng.IntN(8) == 0 && p.pid != 1 {
		flags, sig = unix.CLONE_PARENT, 0
	} else if x.signals && h.rng.IntN(5) == 0 {
		sig = []unix.Signal{0, unix.SIGUSR1}[h.rng.IntN(2)]
	}
	if x.share {
		for _, f := range []uint64{unix.CLONE_FILES, unix.CLONE_FS, unix.CLONE_VM} {
			if h.rng.IntN(6) == 0 {
				flags |= f
			}
		}
		if flags&unix.CLONE_VM != 0 && h.rng.IntN(2) == 0 {
			flags |= unix.CLONE_SIGHAND
		}
	}
	if x.spaces && h.rng.IntN(6) == 0 {
		flags |= unix.CLONE_NEWPID
	}
	id := h.next
	if old := pidns.VPID(2 + h.rng.IntN(int(h.next))); h.rng.IntN(4) == 0 && old < h.next && !h.inUse(old) {
		id = old // numbers come round again
	} else {
		h.next++
	}
	var nested []pidns.VPID
	for _, space := range h.spaces(p.space)[1:] {
		free := pidns.VPID(2)
		for h.given(space, free) {
			free++
		}
		nested = append(nested, free)
	}
	if flags&unix.CLONE_NEWPID != 0 {
		nested = append(nested, pidns.Init)
	}
	return fmt.Sprintf("%d: fork %d%v flags %#x signal %d", p.pid, id, nested, flags, sig), h.fork(p.pid, id, nested, flags, sig)
}

// rebuild compiles rows and runs the steps; it returns what came out, with the
// dead lingering or not.
func rebuild(rows []Row, o Options) ([]Row, error) {
	quick, err := rebuildOnce(rows, o)
	if err != nil {
		return nil, err
	}
	o.Linger = true
	slow, err := rebuildOnce(rows, o)
	if d := cmp.Diff(quick, slow); err == nil && d != "" {
		err = fmt.Errorf("lingering changes it: -without +with:\n%s", d)
	}
	return quick, err
}

func rebuildOnce(rows []Row, o Options) ([]Row, error) {
	steps, err := Compile(rows, o)
	if err != nil {
		return nil, err
	}
	m := newModel()
	if err := m.run(steps); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, list(steps))
	}
	told := Told(steps)
	for _, t := range m.procs {
		if d := cmp.Diff(t.told, told[t.pid]); !t.dead && d != "" {
			return nil, fmt.Errorf("pid %d is told by ends: -model +Told:\n%s%s", t.pid, d, list(steps))
		}
	}
	return m.rows(o.NoInit), nil
}

func list(steps []Step) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintln(&b, " ", s)
	}
	return b.String()
}

// TestAnyHistory: whatever processes did, the tree they left is built again.
func TestAnyHistory(t *testing.T) {
	seeds := 2000
	if testing.Short() {
		seeds = 1000
	}
	for _, c := range []struct {
		name string
		mix  mix
	}{
		{"small", mix{steps: 25, procs: 7}},
		{"middle", mix{steps: 80, procs: 14}},
		{"large", mix{steps: 300, procs: 40}},
		{"vpid 1 among the rows", mix{steps: 60, procs: 12, init: true}},
		{"exit signals", mix{steps: 40, procs: 9, signals: true}},
		{"pid namespaces", mix{steps: 60, procs: 12, spaces: true}},
		{"many in pid namespaces", mix{steps: 300, procs: 40, spaces: true, init: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			unnamed, n := 0, uint64(seeds)/uint64(1+c.mix.procs/10)
			for seed := range n {
				h := newHistory(seed, c.mix)
				want := h.rows(c.mix.init)
				got, err := rebuild(want, Options{NoInit: c.mix.init})
				if h.endless() {
					if err == nil || !strings.Contains(err.Error(), "Linux never ends such a namespace") {
						t.Fatalf("seed %d: got %v for a pid namespace that never ends\nrows:\n%s", seed, err, table(want))
					}
					continue
				}
				if h.unnamed() && err != nil && strings.Contains(err.Error(), "made outside of its pid namespace") {
					unnamed++
					continue
				}
				if err != nil {
					t.Fatalf("seed %d: %v\nhistory:\n  %s\nrows:\n%s", seed, err, strings.Join(h.log, "\n  "), table(want))
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Fatalf("seed %d: -want +got:\n%s\nhistory:\n  %s", seed, d, strings.Join(h.log, "\n  "))
				}
			}
			if unnamed > int(n)/3 {
				t.Errorf("%d of %d trees refused", unnamed, n)
			}
		})
	}
}

// endless tells whether the first process of a pid namespace is in a group
// made inside by another.
func (m *model) endless() bool {
	for _, p := range m.procs {
		if p.space == p.pid && p.pid != pidns.Init && !p.dead && p.pgid != p.pid && len(m.sees(p, p.pgid)) == len(m.spaces(p.space))-1 {
			return true
		}
	}
	return false
}

// unnamed tells whether a process is in a group that was made outside of its
// pid namespace.
func (m *model) unnamed() bool {
	for _, p := range m.procs {
		if len(m.sees(p, p.pgid)) < len(m.spaces(p.space))-1 {
			return true
		}
	}
	return false
}

// TestAnySharing: with shared objects some trees are refused; what is not
// refused is right, and refusals stay rare.
func TestAnySharing(t *testing.T) {
	const seeds = 8000
	refused := 0
	x := mix{steps: 60, procs: 12, share: true}
	for seed := range uint64(seeds) {
		h := newHistory(seed, x)
		want := h.rows(false)
		if _, err := Compile(want, Options{}); err != nil {
			if !strings.Contains(err.Error(), "between them, which cannot pass it on") {
				t.Fatalf("seed %d: %v\n%s", seed, err, table(want))
			}
			refused++
			continue
		}
		got, err := rebuild(want, Options{})
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, table(want))
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("seed %d: -want +got:\n%s\nhistory:\n  %s", seed, d, strings.Join(h.log, "\n  "))
		}
	}
	t.Logf("%d of %d refused", refused, seeds)
	if refused > seeds/1000 {
		t.Errorf("%d of %d trees refused", refused, seeds)
	}
}

func table(rows []Row) string {
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "  pid %d parent %d group %d session %d zombie %v subreaper %v signal %d objects %d %d %d %d\n",
			r.VPID, r.PPID, r.PGID, r.SID, r.Zombie, r.Subreaper, r.ExitSignal, r.VM, r.Files, r.FS, r.Sighand)
		if r.Space != pidns.Init {
			fmt.Fprintf(&b, "    in the pid namespace of %d: %v, group %v, session %v\n", r.Space, r.Nested, r.GroupNested, r.SessionNested)
		}
	}
	return b.String()
}
