package images

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// heirGenerations is how often a family is saved.
const heirGenerations = 6

// TestHeirs: processes that do random things to their memory, are forked, execute
// their program and end hold what they must after each of many dumps, each another
// sort of image: after a parent or not, compressed, encrypted, signed, a stream.
func TestHeirs(t *testing.T) {
	from, n := harness.Seeds(t, 4)
	for seed := from; seed < from+n; seed++ {
		user := harness.Users()[seed%uint64(len(harness.Users()))]
		t.Run(fmt.Sprintf("seed %d/as %s", seed, user), func(t *testing.T) {
			t.Parallel()
			e := harness.New(t, user)
			shell(t, e, "age-keygen -o age 2>said && sed -n 's/^Public key: //p' said >recipient && ssh-keygen -q -t ed25519 -N '' -f ssh")
			h := &heirs{rng: rand.New(rand.NewPCG(seed, 17)), s: e.Watch("heirs", nil, harness.Program(t, "heirs.c"), fmt.Sprint(seed))}
			h.signed = h.chance(4)
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("CKPT_SEED=%d repeats it; dumps:\n  %s", seed, strings.Join(h.log, "\n  "))
				}
			})
			for i := range heirGenerations {
				h.s.Look()
				h.generation(i)
			}
			h.s.Look()
		})
	}
}

// heirs is a family, and how it is saved.
type heirs struct {
	rng    *rand.Rand
	s      *harness.Subject
	signed bool   // all images of it are
	last   string // the directory that can be a parent; "": none
	log    []string
}

func (h *heirs) chance(in int) bool { return h.rng.IntN(in) == 0 }

// generation saves it and brings it back, or lets it go on.
func (h *heirs) generation(i int) {
	h.s.Env.T.Helper()
	dir, stream := fmt.Sprint("image", i), h.chance(5)
	var flags []string
	if h.signed {
		flags = append(flags, "--sign", "ssh")
	}
	if h.chance(3) {
		flags = append(flags, "--encrypt", "recipient")
	}
	if h.chance(2) {
		flags = append(flags, "--compress")
	}
	goesOn := h.chance(3)
	if goesOn {
		flags = append(flags, "--leave-running")
	}
	keys := []string{"--identity", "age"}
	if h.signed {
		keys = append(keys, "--verify-key", "ssh.pub")
	}
	if !stream && h.last != "" && !h.chance(6) {
		flags = append(append(flags, "--parent", h.last), keys...)
	}
	what := strings.Join(append([]string{"dump", "heirs", dir}, flags...), " ")
	if stream {
		what = strings.Join(append([]string{"dump", "heirs", "-"}, flags...), " ") + " >" + dir
	}
	h.log = append(h.log, what)
	shell(h.s.Env.T.(*testing.T), h.s.Env, harness.Ckpt()+" "+what)
	if !stream {
		h.last = dir
	}
	if goesOn && h.chance(2) {
		return
	}
	if goesOn {
		h.s.Remove()
	}
	h.s.Env.Restore(dir, "", keys...)
}
