package shapes

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// ciSeeds is how many histories a plain run tries (harness.Seeds).
const ciSeeds = 12

// TestAnyHistory: whatever processes did to their tree, it is the same after
// two restores, and a dump that leaves it running does not disturb it.
func TestAnyHistory(t *testing.T) {
	from, n := harness.Seeds(t, ciSeeds)
	for seed := from; seed < from+n; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			h := &history{rng: rand.New(rand.NewPCG(seed, 11))}
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("CKPT_SEED=%d repeats it; history:\n  %s", seed, strings.Join(h.log, "\n  "))
				}
			})
			s := shape{build: h.live, after: func(*puppet) {}}
			user := harness.Users()[seed%uint64(len(harness.Users()))]
			flags := starts["init"]
			if seed/2%2 == 1 {
				flags = starts["no init"]
			}
			if seed%3 == 2 {
				leftRunning(t, s, user, flags)
			} else {
				restored(t, s, user, flags)
			}
		})
	}
}

// history lets random tasks do random things. What the kernel refuses is part
// of it. Left out is what a dump may refuse (restore/tree tells what), and
// stops, which the end of others can undo (orphaned process groups).
type history struct {
	rng *rand.Rand
	log []string
	n   int
}

func (h *history) live(p *puppet) {
	for range 10 + h.rng.IntN(60) {
		h.act(p)
	}
}

// pick chooses a task that is dead or not; "" if there is none.
func (h *history) pick(p *puppet, dead bool) string {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(p.tasks)), func(name string) bool { return p.tasks[name].dead != dead })
	if len(names) == 0 {
		return ""
	}
	return names[h.rng.IntN(len(names))]
}

func (h *history) act(p *puppet) {
	who := h.pick(p, false)
	t := p.task(who)
	note := func(what string, result int) { h.log = append(h.log, fmt.Sprintf("%s: %s: %d", who, what, result)) }
	switch k := h.rng.IntN(22); {
	case k < 8:
		flags, sig := 0, unix.SIGCHLD
		if h.rng.IntN(6) == 0 {
			flags, sig = cloneParent, 0
		}
		name := h.name("p")
		note(fmt.Sprintf("fork %s flags %#x", name, flags), p.clone(who, name, flags, sig))
	case k < 10:
		name := h.name("t")
		note("thread "+name, p.thread(who, name))
	case k < 12:
		note("setsid", p.setsid(who))
	case k < 15:
		group := 0
		if h.rng.IntN(2) == 0 {
			group = p.look(h.pick(p, false)).PGID
		}
		note(fmt.Sprint("setpgid ", group), p.setpgid(who, group))
	case k < 18:
		if t.proc != "root" {
			note("exit", p.exit(who, h.rng.IntN(256)))
		}
	case k < 19:
		if t.proc != "root" && h.others(p, t) {
			note("exit of the thread", p.exitThread(who))
		}
	case k < 20:
		if child := h.pick(p, true); child != "" {
			pid, _ := p.wait(who, child, 0)
			note("wait for "+child, pid)
		}
	default:
		on := min(1, h.rng.IntN(3))
		note(fmt.Sprint("subreaper ", on), p.subreaper(who, on))
	}
}

func (h *history) name(kind string) string {
	h.n++
	return fmt.Sprintf("%s%d", kind, h.n)
}

// others tells whether the process has another thread.
func (h *history) others(p *puppet, t *task) bool {
	for _, o := range p.tasks {
		if o != t && o.pid == t.pid && !o.dead {
			return true
		}
	}
	return false
}
