package workload

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"ckpt/e2e/harness"
)

// run is one container of a workload under test.
type run struct {
	workload
	e *harness.Env
	k client
	c *harness.Container
}

// start brings a workload up, with work in it.
func start(t *testing.T, w workload, user string) *run {
	t.Helper()
	r := &run{workload: w, e: harness.New(t, user)}
	r.k = w.new(r.e)
	var flags []string
	if w.connected && !r.e.Root() {
		flags = []string{"--net", "none"}
	}
	r.c = r.e.Start(w.name, flags, r.k.Command()...)
	r.k.Ready(r.c)
	r.k.Work(r.c)
	r.k.Check(r.c)
	return r
}

// generation dumps the container, which ends it, restores it and checks that
// it is the same. It returns what the dump tells.
func (r *run) generation(n int) harness.Figures {
	r.e.T.Helper()
	image := r.e.Join(fmt.Sprintf("image%d", n))
	before := r.c.Ps()
	r.k.Work(r.c)
	figures := r.c.Dump(image)
	r.k.Dumped(r.c)
	if s := r.c.Ps(); s.State != "dumped" || len(s.Processes) != 0 {
		r.e.T.Fatalf("after the dump it is %s, with %d processes", s.State, len(s.Processes))
	}
	r.e.Restore(image, "")
	r.same(before, r.c)
	r.k.Check(r.c)
	if err := os.RemoveAll(image); err != nil {
		r.e.T.Fatal(err)
	}
	return figures
}

// same compares the ids of c with those before.
func (r *run) same(before harness.Ps, c *harness.Container) {
	r.e.T.Helper()
	if err := harness.SameInside(before, c.Ps(), r.churn); err != nil {
		r.e.T.Fatalf("%v\nits log ends with: %s", err, c.LogTail())
	}
}

// TestRestore: dump and restore, and both again with the result.
func TestRestore(t *testing.T) {
	for _, w := range workloads {
		for _, user := range harness.Users() {
			t.Run(w.name+as(user), func(t *testing.T) {
				r := start(t, w, user)
				r.generation(1)
				r.generation(2)
				r.k.Work(r.c)
				r.k.Check(r.c)
			})
		}
	}
}

func as(user string) string {
	if user == "" {
		return ""
	}
	return " as " + user
}

// TestLeaveRunning: a dump that leaves the container running disturbs
// nothing, and its image gives a copy of what was, side by side with the
// original where a machine can hold two.
func TestLeaveRunning(t *testing.T) {
	for _, w := range workloads {
		t.Run(w.name, func(t *testing.T) {
			r := start(t, w, "")
			image := r.e.Join("image")
			before := r.c.Ps()
			r.k.Work(r.c)
			r.c.Dump(image, "--leave-running")
			r.k.Dumped(r.c)
			copied := r.k.Copy()
			r.k.Check(r.c)
			r.k.Work(r.c)
			r.k.Check(r.c)
			if err := sameOutside(before, r.c.Ps()); err != nil {
				t.Fatal(err)
			}
			if w.onDisk {
				return
			}
			if w.alone {
				r.c.Remove()
			}
			c := r.e.Restore(image, "copy")
			r.same(before, c)
			copied.Check(c)
			copied.Work(c)
			copied.Check(c)
			if !w.alone {
				r.k.Work(r.c)
				r.k.Check(r.c)
			}
		})
	}
}

// TestCopies: one warmed-up program, many times over, from one image, beside
// the one it was made of. Each has all it knew and goes its own way.
func TestCopies(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("go"+as(user), func(t *testing.T) {
			r := start(t, workload{name: "warm", new: goProgram, churn: harness.Churn{Threads: true}}, user)
			image := r.e.Join("image")
			before := r.c.Ps()
			r.c.Dump(image, "--leave-running")
			r.k.Dumped(r.c)
			type copied struct {
				c *harness.Container
				k client
			}
			var copies []copied
			for i := range 10 {
				c := copied{r.e.Restore(image, fmt.Sprintf("copy%d", i)), r.k.Copy()}
				r.same(before, c.c)
				for range i % 3 {
					c.k.Work(c.c)
					c.k.Check(c.c)
				}
				copies = append(copies, c)
			}
			for _, c := range copies {
				c.k.Check(c.c)
			}
			r.k.Work(r.c)
			r.k.Check(r.c)
		})
	}
}

// sameOutside: every process that is still there has its host pid.
func sameOutside(before, after harness.Ps) error {
	was := map[int]int{}
	for _, p := range before.Processes {
		was[p.VPID] = p.PID
	}
	for _, p := range after.Processes {
		if pid, ok := was[p.VPID]; ok && pid != p.PID {
			return fmt.Errorf("pid %d (%s) was left running as host pid %d and is host pid %d", p.VPID, p.Comm, pid, p.PID)
		}
	}
	return nil
}

// TestGenerations takes each workload through $CKPT_GENERATIONS dumps and
// restores (make generations). Its image must not grow.
func TestGenerations(t *testing.T) {
	text := os.Getenv("CKPT_GENERATIONS")
	if text == "" {
		return // make e2e: TestRestore goes through two
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range workloads {
		t.Run(w.name, func(t *testing.T) {
			r := start(t, w, "")
			var early, last harness.Figures
			for g := range n {
				last = r.generation(g)
				if g == 2 {
					early = last
				}
				t.Logf("generation %d: %d processes, %d threads, %d MB, frozen %d ms", g, last.Processes, last.Threads, last.Bytes>>20, last.FrozenNS/1e6)
			}
			// A program may use more memory as time goes by, but not twice
			// as much; ckpt's own growth would be one of many generations.
			if n > 3 && last.Bytes > 2*early.Bytes+(32<<20) {
				t.Errorf("image of generation 2: %d bytes, of generation %d: %d", early.Bytes, n-1, last.Bytes)
			}
		})
	}
}
