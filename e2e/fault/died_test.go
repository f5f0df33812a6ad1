package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ckpt/e2e/harness"
)

// deathPatience bounds a dump or restore whose container dies meanwhile.
const deathPatience = 20 * time.Second

// victim finds the host pid of who is to be killed, 0 while there is none.
type victim struct {
	name string
	find func(ps harness.Ps) int
}

var victims = []victim{
	{"vpid 1", func(ps harness.Ps) int { return firstProcess(ps.Name) }},
	{"main", func(ps harness.Ps) int { return hostPID(ps, 2) }},
	{"a child", func(ps harness.Ps) int { return ps.Processes[len(ps.Processes)-1].PID }},
}

// moments draws when to kill, as parts of the time that it takes undisturbed.
// CKPT_SEED repeats those of another run.
func moments(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("CKPT_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("CKPT_SEED: %v", err)
		}
	}
	t.Logf("CKPT_SEED=%d repeats it", seed)
	return rand.New(rand.NewPCG(seed, 13))
}

func moment(r *rand.Rand, work time.Duration) time.Duration {
	return time.Duration(r.Float64() * float64(work))
}

func hostPID(ps harness.Ps, vpid int) int {
	i := slices.IndexFunc(ps.Processes, func(p harness.Process) bool { return p.VPID == vpid })
	return ps.Processes[i].PID
}

// firstProcess is vpid 1 of a container that may be in the making: the child
// of its supervisor that is pid 1 in a namespace.
func firstProcess(name string) int {
	all, _ := os.ReadDir("/proc")
	for _, ent := range all {
		pid, err := strconv.Atoi(ent.Name())
		if err != nil {
			continue
		}
		status := statusLines(pid)
		ids := strings.Fields(status["NSpid"])
		if len(ids) < 2 || ids[len(ids)-1] != "1" {
			continue
		}
		cmd, _ := os.ReadFile("/proc/" + strings.TrimSpace(status["PPid"]) + "/cmdline")
		if slices.Contains(strings.Split(string(cmd), "\x00"), name) {
			return pid
		}
	}
	return 0
}

func statusLines(pid int) map[string]string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // gone: it is not the one
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(line, ":")
		out[k] = v
	}
	return out
}

// bounded runs ckpt while kill happens after a while; it must end in time.
func bounded(e *harness.Env, after time.Duration, kill func(), args ...string) harness.Result {
	e.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deathPatience)
	defer cancel()
	cmd := e.Command(ctx, harness.Ckpt(), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.WaitDelay = 5 * time.Second
	var errs bytes.Buffer
	cmd.Stderr = &errs
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		e.T.Fatal(err)
	}
	done := make(chan struct{})
	time.AfterFunc(after, func() { kill(); close(done) })
	cmd.Wait()
	r := harness.Result{Args: args, Code: cmd.ProcessState.ExitCode(), Err: errs.String(), Took: time.Since(begin)}
	if ctx.Err() != nil {
		e.T.Fatalf("killed after %v, it does not end: %v", after, r)
	}
	<-done
	return r
}

// TestDiesDuringDump: whoever of the container is killed, whenever, the dump
// ends: with a whole image, or with an error and none.
func TestDiesDuringDump(t *testing.T) {
	for _, how := range []struct {
		name  string
		start []string
	}{{"init", nil}, {"no init", []string{"--no-init"}}} {
		for _, v := range victims {
			if how.start != nil && v.name == "main" {
				continue // it is vpid 1
			}
			t.Run(how.name+"/"+v.name, func(t *testing.T) { diesDuringDump(t, v, how.start) })
		}
	}
}

func diesDuringDump(t *testing.T, v victim, flags []string) {
	e := harness.New(t, "")
	rng := moments(t)
	var work time.Duration
	for i := range 12 {
		name := fmt.Sprintf("dies-%d-%d", os.Getpid(), i)
		c := e.Start(name, flags, harness.Program(t, "family.c"), e.Mkdir("family-"+name))
		var j harness.Journal
		counts(c, &j, "main")
		if i == 0 {
			begin := time.Now()
			c.Dump(e.Join("probe"), "--leave-running")
			work = time.Since(begin)
		}
		ps := c.Ps()
		pid := v.find(ps)
		image := e.Join(fmt.Sprintf("image%d", i))
		after := moment(rng, work)
		// Freed by then? A pid is not given again so soon.
		r := bounded(e, after, func() { syscall.Kill(pid, syscall.SIGKILL) }, "dump", name, image, "--leave-running")
		_, err := os.Lstat(image)
		t.Logf("%s killed after %v of %v: exit code %d in %v: %s", v.name, after, work, r.Code, r.Took, r.Err)
		switch {
		case r.Code == 0 && err != nil:
			t.Errorf("no image: %v", err)
		case r.Code == 0:
			e.Run("verify", image)
			if livedThen(e, ps, pid, image) {
				revive(e, c, image, name+"-again")
			}
		case !errors.Is(err, os.ErrNotExist):
			t.Errorf("an image of a dump that failed: %v, %v", err, r)
		case r.Took > 2*time.Second || r.Code != 1:
			t.Errorf("it took long, or gives a wrong reason: %v", r)
		}
		if p := e.Partial(); len(p) > 0 {
			t.Errorf("left behind: %v", p)
		}
		if r.Code == 0 {
			continue
		}
		if v.name != "a child" {
			ends(c)
		}
		c.Remove()
	}
}

// livedThen tells whether a process of ps lives in an image. If not it was
// killed before the dump stopped it, and what others make of that is theirs.
func livedThen(e *harness.Env, ps harness.Ps, pid int, image string) bool {
	e.T.Helper()
	var saved struct {
		Processes []struct {
			VPID  int    `json:"vpid"`
			State string `json:"state"`
		} `json:"processes"`
	}
	e.JSON(&saved, "inspect", image)
	for _, p := range ps.Processes {
		if p.PID != pid {
			continue
		}
		for _, s := range saved.Processes {
			if s.VPID == p.VPID {
				return s.State != "zombie"
			}
		}
		return false
	}
	return true // vpid 1, which a dump does not save
}

// revive checks that an image is of a moment before the death: all that were
// there then go on.
func revive(e *harness.Env, dead *harness.Container, image, name string) {
	e.T.Helper()
	e.Run("rm", "-f", dead.Name)
	c := e.Restore(image, name)
	for _, who := range []string{"main", "turns0", "pinger", "sysv", "caller", "events", "timer"} {
		harness.Eventually(e.T, who+" goes on", func() error {
			if log := c.Log(); strings.Count(log, fmt.Sprintf("%q", who)) < 3 {
				return errors.Join(fmt.Errorf("so far: %s", log), c.Alive())
			}
			return nil
		})
	}
	c.Remove()
}

// ends: what is left of the container ends by itself, as nobody holds it.
func ends(c *harness.Container) {
	c.Env.T.Helper()
	harness.Eventually(c.Env.T, "the container ends", func() error {
		if s := c.Ps(); s.State == "running" {
			return fmt.Errorf("%s still runs: %+v", c.Name, s.Processes)
		}
		return nil
	})
}

// restoring are those that are killed while a restore makes them.
var restoring = []struct {
	name string
	find func(container string) int
	all  bool // its death is everybody's
}{
	{"vpid 1", firstProcess, true},
	{"main", func(container string) int { return inTheMaking(container, 2) }, true},
	{"a child", func(container string) int { return inTheMaking(container, 9) }, false},
}

// inTheMaking is a process of a container that may not be known yet.
func inTheMaking(container string, vpid int) int {
	first := firstProcess(container)
	if first == 0 {
		return 0
	}
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", first))
	if err != nil {
		return 0 // it has ended
	}
	all, _ := os.ReadDir("/proc")
	for _, ent := range all {
		pid, err := strconv.Atoi(ent.Name())
		if err != nil {
			continue
		}
		if its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); err != nil || its != ns {
			continue
		}
		ids := strings.Fields(statusLines(pid)["NSpid"])
		if len(ids) > 0 && ids[len(ids)-1] == strconv.Itoa(vpid) {
			return pid
		}
	}
	return 0
}

// killedMessage is all that a restore says of it.
var killedMessage = regexp.MustCompile(`^ckpt: error: restore(: the container ended meanwhile: its first process was killed| pid \d+ \(family\): it ended meanwhile, killed by a signal)\n$`)

// TestDiesDuringRestore: if what a restore has made is killed, it fails, says
// so, and leaves nothing, or was done.
func TestDiesDuringRestore(t *testing.T) {
	e := harness.New(t, "")
	c := e.Start("family", nil, harness.Program(t, "family.c"), e.Mkdir("family"))
	var j harness.Journal
	counts(c, &j, "main")
	image := e.Join("image")
	c.Dump(image)
	c.Remove()
	begin := time.Now()
	e.Restore(image, "probe").Remove()
	work := time.Since(begin)
	for _, v := range restoring {
		t.Run(v.name, func(t *testing.T) {
			rng := moments(t)
			for i := range 12 {
				name := fmt.Sprintf("dies-%d-%s-%d", os.Getpid(), strings.ReplaceAll(v.name, " ", "-"), i)
				diesDuringRestore(t, e, image, name, v.find, v.all, moment(rng, work))
			}
		})
	}
}

func diesDuringRestore(t *testing.T, e *harness.Env, image, name string, find func(string) int, all bool, after time.Duration) {
	e.Own(name)
	killed := 0
	r := bounded(e, after, func() {
		if killed = find(name); killed != 0 {
			syscall.Kill(killed, syscall.SIGKILL)
		}
	}, "restore", image, "--name", name)
	t.Logf("host pid %d killed after %v: exit code %d in %v: %s", killed, after, r.Code, r.Took, r.Err)
	switch {
	case r.Took > deathPatience/2:
		t.Errorf("it took long: %v", r)
	case killed == 0 && r.Code != 0:
		t.Errorf("nobody was killed: %v", r)
	case r.Code != 0 && (r.Code != 1 || !killedMessage.MatchString(r.Err)):
		t.Errorf("it gives a wrong reason: %v", r)
	}
	if killed != 0 && r.Code == 0 && all {
		ends(&harness.Container{Env: e, Name: name})
	}
	e.Try("rm", "-f", name)
	harness.Eventually(t, "no process is left", func() error {
		if p := e.Processes(); len(p) > 0 {
			return fmt.Errorf("%v", p)
		}
		return nil
	})
}
