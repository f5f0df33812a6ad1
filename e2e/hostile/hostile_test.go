// Package hostile restores images that were made to do harm: changed in every
// field, with checksums that are right again. It is the one that knows what stands
// in an image (e2e/imagetest); all else is tested from outside.
package hostile

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ckpt/e2e/harness"
	"ckpt/e2e/imagetest"
	"ckpt/failure"
	"ckpt/image"
	"ckpt/restore"
)

func TestMain(m *testing.M) { harness.Main(m) }

// subjects have among them objects of every kind. DIR is a directory of theirs.
var subjects = []struct {
	name    string
	command []string
	says    string // in its log, when it may be saved
	root    bool   // it does what only root may
	flags   []string
}{
	{name: "family", command: []string{"family.c", "DIR"}, says: `"who":"sysv","n":2,`},
	{name: "sockets", command: []string{"sockets.c"}, says: "ready"},
	{name: "queues", command: []string{"queues.c"}, says: "ready"},
	{name: "ipc", command: []string{"ipc.c"}, says: "ready"},
	{name: "names", command: []string{"names.c"}, says: "ready"},
	{name: "pty", command: []string{"pty.c"}, says: "ready"},
	{name: "console", command: []string{"pty.c"}, says: "ready", flags: []string{"-t"}},
	{name: "spaces", command: []string{"spaces.c"}, says: "ready", root: true},
	{name: "mqueue", command: []string{"boundary/mqueue.c", "notify"}, says: "ready"},
	{name: "datagrams", command: []string{"datagrams.c"}, says: "ready"},
	{name: "netlink", command: []string{"netlink.c"}, says: "ready"},
	{name: "nsfiles", command: []string{"nsfiles.c"}, says: "ready"},
	{name: "watching", command: []string{"watching.c"}, says: "ready"},
	{name: "pidfd", command: []string{"boundary/pidfd.c"}, says: "ready"},
	{name: "filelocks", command: []string{"boundary/filelocks.c"}, says: "ready"},
	{name: "seccomp", command: []string{"seccomp.c"}, says: "ready", root: true},
	{name: "timers", command: []string{"timers.c"}, says: "ready"},
	{name: "events", command: []string{"events.c"}, says: "ready"},
	{name: "files", command: []string{"files.c"}, says: "ready"},
}

// slow is more than any command takes with an image that it refuses.
const slow = 20 * time.Second

// number is what an environment variable says, or n.
func number(t *testing.T, name string, n int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return n
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// saved starts a subject and saves it, taken apart.
func saved(t *testing.T, e *harness.Env, name string, command []string, says string, flags ...string) *imagetest.Image {
	t.Helper()
	args := []string{harness.Program(t, command[0])}
	for _, a := range command[1:] {
		if a == "DIR" {
			a = e.Mkdir("dir")
		}
		args = append(args, a)
	}
	c := e.Start(name, append([]string{"--net", "none"}, flags...), args...)
	harness.Eventually(t, "it may be saved", func() error {
		if !strings.Contains(c.Log(), says) {
			return fmt.Errorf("it says: %q", c.Log())
		}
		return nil
	})
	dir := e.Join("image")
	c.Dump(dir)
	c.Remove()
	i, err := imagetest.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// choose gives many of the mutations of an image, 0 all, in an order of its own for
// each seed.
func choose(i *imagetest.Image, many, seed int) []imagetest.Mutation {
	all := i.Mutations()
	rand.New(rand.NewPCG(uint64(seed), 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if many > 0 {
		all = all[:min(many, len(all))]
	}
	return all
}

// TestMutations: an image in which anything was changed is restored, if what it
// says is possible, or refused with a clear sentence. ckpt never breaks down, hangs,
// or leaves something behind.
//
// Of each subject $CKPT_MUTATIONS are restored, and $CKPT_PLANS are planned only, in
// this process; 0 is all. $CKPT_SEED chooses which.
func TestMutations(t *testing.T) {
	plans, restores, seed := number(t, "CKPT_PLANS", 60), number(t, "CKPT_MUTATIONS", 8), number(t, "CKPT_SEED", 1)
	for _, s := range subjects {
		t.Run(s.name, func(t *testing.T) {
			if s.root && !harness.AsRoot("") {
				t.Skip("only root may do what this program does")
			}
			e := harness.New(t, "")
			whole := saved(t, e, s.name, s.command, s.says, s.flags...)
			planned, done := map[int]int{}, map[int]int{}
			for _, m := range choose(whole, plans, seed) {
				planned[mutant(t, e, whole, m, plan)]++
			}
			e.Own("mutant")
			for _, m := range choose(whole, restores, seed+1) {
				done[mutant(t, e, whole, m, restored)]++
			}
			t.Logf("exit codes of plans: %v, of restores: %v", planned, done)
		})
	}
}

// mutant writes a mutation of an image, and gives the exit code of what is done
// with it.
func mutant(t *testing.T, e *harness.Env, whole *imagetest.Image, m imagetest.Mutation, do func(t *testing.T, e *harness.Env, name, dir string) int) int {
	t.Helper()
	i, dir := whole.Clone(), e.Join("mutant")
	m.Apply(i)
	if err := i.Write(dir); err != nil {
		t.Fatalf("%s: %v", m.Name, err)
	}
	defer os.RemoveAll(dir)
	for _, path := range append(glob(t, dir+"/*"), dir) {
		if err := os.Lchown(path, e.UID, e.GID); err != nil {
			t.Fatal(err)
		}
	}
	return do(t, e, m.Name, dir)
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// plan looks at an image in every way that makes nothing. One that hangs ends the
// whole test, with its name.
func plan(t *testing.T, e *harness.Env, name, dir string) int {
	t.Helper()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-done:
		case <-time.After(slow):
			panic(name + ": it hangs")
		}
	}()
	defer func() {
		if p := recover(); p != nil {
			t.Fatalf("%s: panic: %v\n%s", name, p, debug.Stack())
		}
	}()
	refused, _, err := restore.Check(t.Context(), restore.Options{Dir: dir})
	err = errors.Join(append(refused, err)...)
	if in, oerr := image.Open(dir); oerr == nil {
		_, serr := image.Summarize(in)
		err = errors.Join(err, in.Verify(t.Context()), serr)
		in.Close()
	}
	for _, e := range failure.All(err) {
		if e.Error() == "" || strings.Contains(e.Error(), "\n") {
			t.Errorf("%s: no sentence: %q", name, e)
		}
	}
	return failure.Code(err)
}

func restored(t *testing.T, e *harness.Env, name, dir string) int {
	t.Helper()
	return attempt(t, e, name, dir).Code
}

// attempt restores an image, and ends what comes of it.
func attempt(t *testing.T, e *harness.Env, name, dir string, flags ...string) harness.Result {
	t.Helper()
	r := e.Try(append([]string{"restore", dir, "--name", "mutant"}, flags...)...)
	switch {
	case r.Took > slow:
		t.Errorf("%s: too slow: %v", name, r)
	case !slices.Contains([]int{0, 1, 3, 4}, r.Code), strings.Contains(r.Err, "goroutine "), strings.Contains(r.Err, "panic:"):
		t.Errorf("%s: %v", name, r)
	case r.Code != 0 && !strings.HasPrefix(r.Err, "ckpt: error: "):
		t.Errorf("%s: there is no sentence: %v", name, r)
	}
	if r.Code == 0 {
		e.Try("rm", "-f", "mutant")
	}
	harness.Eventually(t, "nothing is left", func() error {
		if p := e.Processes(); len(p) > 0 {
			return fmt.Errorf("%s: processes left: %v", name, p)
		}
		return nil
	})
	if ents, err := os.ReadDir(e.State()); err == nil {
		for _, ent := range ents {
			if ent.IsDir() {
				t.Errorf("%s: left in the state directory: %s", name, ent.Name())
			}
		}
	}
	return r
}

// TestImpossible: what no program can have had is refused as damage, and a plan
// tells so before anything is made.
func TestImpossible(t *testing.T) {
	e := harness.New(t, "")
	whole := saved(t, e, "family", subjects[0].command, subjects[0].says)
	all := whole.Mutations()
	for _, what := range []string{
		`pstree\.img\[1\]\.(pid|ppid|pgid|sid) = 4294967295`,
		`pstree\.img\[2\]\.ppid = 2`,
		`pstree\.img\[1\] (removed|doubled)`,
		`ckpt\.img\[0\]\.table\[0\]\.(id|tgid|ppid|pgid|sid) = 4294967295`,
		`ckpt\.img\[0\]\.table (cut|doubled)`,
		`ckpt\.img\[0\]\.main_vpid = 4294967295`,
		`files\.img\[\d+\]\.type = .*`,
		`files\.img\[\d+\]\.id = .*`,
		`files\.img\[\d+\] doubled`,
		`files\.img\[1\]\.reg(\.id = 0| taken out)`,
		`fdinfo-\d+\.img\[0\]\.type = -1`,
		`fdinfo-\d+\.img\[0\] doubled`,
		`core-2\.img\[0\]\.thread_info\.gpregs\.(cs|ss|ds|fs) = 1`,
		`core-2\.img\[0\]\.thread_info\.gpregs\.(fs|gs)_base = 18446744073709551615`,
		`core-2\.img\[0\]\.thread_core\.sched_(policy|prio) = 4294967295`,
		`core-2\.img\[0\]\.thread_core\.rseq_entry\.rseq_abi_size = 0`,
		`core-2\.img\[0\]\.thread_core\.futex_rla_len = 1`,
		`core-2\.img\[0\]\.tc\.oom_score_adj = 2147483647`,
		`core-2\.img\[0\]\.tc\.rlimits\.rlimits\[0\]\.max = 0`,
		`core-16\.img\[0\]\.tc\.timers\.posix\[0\]\.si_signo = 4294967295`,
		`ckpt-task-2\.img\[0\]\.(parent_thread|exit_signal|autogroup_nice|mdwe|thp_disabled) = (4294967295|2147483647)`,
		`ckpt-task-2\.img\[0\]\.threads\[0\]\.(ioprio|util_min|sched_flags|restart) = 4294967295`,
		`ckpt-files\.img\[0\]\.id = 4294967295`,
		`mm-2\.img\[0\]\.mm_(start_code|start_brk|brk|arg_start|env_end|start_stack) = 18446744073709551615`,
		`mm-2\.img\[0\]\.vmas (doubled|swapped)`,
		`mm-2\.img\[0\]\.vmas\[1\]\.(start|end) = 0`,
		`mm-2\.img\[0\]\.vmas\[1\]\.(status|flags|prot|madv) = (4294967295|18446744073709551615)`,
	} {
		re, found := regexp.MustCompile("^"+what+"$"), 0
		for _, m := range all {
			if !re.MatchString(m.Name) {
				continue
			}
			found++
			if code := mutant(t, e, whole, m, plan); code != failure.CodeDamaged {
				t.Errorf("%s: exit code %d", m.Name, code)
			}
		}
		if found == 0 {
			t.Errorf("no mutation is called %s", what)
		}
	}
}
