package tracee

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/procfs"
)

// TestMain: the test binary, run again with one of these variables set, is a
// tracer that may be killed, or a program to be traced.
func TestMain(m *testing.M) {
	if v := os.Getenv("CKPT_TEST_TRACER"); v != "" {
		os.Exit(tracerMain(v))
	}
	if v := os.Getenv("CKPT_TEST_PARENT"); v != "" {
		os.Exit(parentMain(v))
	}
	if os.Getenv("CKPT_TEST_TARGET") != "" {
		goTarget()
	}
	os.Exit(m.Run())
}

// lockThread keeps the test on the OS thread that traces.
func lockThread(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
}

var buildOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ckpt-tracee-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "target")
	out, err := exec.Command("gcc", "-O1", "-mavx2", "-pthread", "-o", bin, "testdata/target.c").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("gcc: %w: %s", err, out)
	}
	b, err := os.ReadFile(bin)
	if err != nil {
		return "", err
	}
	os.RemoveAll(dir)
	fd, err := unix.MemfdCreate("target", unix.MFD_CLOEXEC|mfdExec)
	if err == unix.EINVAL { // before 6.3
		fd, err = unix.MemfdCreate("target", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return "", err
	}
	// a descriptor of this process: nothing to clean up. It must not be open
	// for writing while it is run.
	if _, err := unix.Write(fd, b); err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), nil
})

// target is a running testdata/target.c.
type target struct {
	t     *testing.T
	pid   int
	stdin io.WriteCloser
	lines *bufio.Scanner
}

func startTarget(t *testing.T, modes ...string) *target {
	t.Helper()
	bin, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return startCommand(t, exec.Command(bin, modes...))
}

func startCommand(t *testing.T, c *exec.Cmd) *target {
	t.Helper()
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	g := &target{t: t, pid: c.Process.Pid, stdin: stdin, lines: bufio.NewScanner(out)}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	g.want("ready")
	return g
}

// want reads lines until one is want; a line that says "bad" fails the test.
func (g *target) want(want string) {
	g.t.Helper()
	for g.lines.Scan() {
		if strings.HasPrefix(g.lines.Text(), "bad") {
			g.t.Fatalf("target says %q", g.lines.Text())
		}
		if g.lines.Text() == want {
			return
		}
	}
	g.t.Fatalf("target ended before it said %q (%v)", want, g.lines.Err())
}

// goesOn tells the target on and waits until each mode has ended a round that
// it began after this call.
func (g *target) goesOn(modes ...string) {
	g.t.Helper()
	need := map[string]int{}
	for _, m := range modes {
		need["ok "+m] = 1
		switch m {
		case "spin", "nanosleep", "nanosleep-rest":
			need["ok "+m] = 3 // two may have been on their way
		case "sigwait":
			if err := unix.Kill(g.pid, unix.SIGUSR1); err != nil {
				g.t.Fatal(err)
			}
		case "futex":
		default:
			if _, err := g.stdin.Write([]byte("x")); err != nil {
				g.t.Fatal(err)
			}
		}
	}
	for len(need) > 0 {
		if !g.lines.Scan() {
			g.t.Fatalf("target ended, still wanted: %v", need)
		}
		l := g.lines.Text()
		if strings.HasPrefix(l, "bad") {
			g.t.Fatalf("target says %q", l)
		}
		if need[l]--; need[l] <= 0 {
			delete(need, l)
		}
	}
}

// steady waits until all threads do what they are for, blocked if that is to
// wait for the test, and looks at them then.
func (g *target) steady(modes []string) string {
	g.t.Helper()
	g.goesOn(modes...)
	tids := tasks(g.t, g.pid)
	for i, m := range modes {
		tid := tids[i] // created in order
		for m != "spin" && m[0] != 'n' {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", g.pid, tid))
			if err != nil {
				g.t.Fatal(err)
			}
			c, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/wchan", g.pid, tid))
			if err != nil {
				g.t.Fatal(err)
			}
			if !strings.HasPrefix(string(b), "running") && string(c) != "0" {
				break
			}
			runtime.Gosched()
		}
	}
	return g.look()
}

func tasks(t *testing.T, pid int) (tids []int) {
	t.Helper()
	es, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		tids = append(tids, n)
	}
	return tids
}

// look is what must be the same before and after.
func (g *target) look() string {
	g.t.Helper()
	var b strings.Builder
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", g.pid))
	if err != nil {
		g.t.Fatal(err)
	}
	b.Write(maps)
	for _, tid := range tasks(g.t, g.pid) {
		st, err := statusOf(tid)
		if err != nil {
			g.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%d: blocked %x pending %x %x tracer %d\n", tid, st.SigBlk, st.SigPnd, st.ShdPnd, st.TracerPid)
	}
	return b.String()
}

// stopAll stops every thread, as a driver would.
func stopAll(pid int, tids []int) ([]*Thread, error) {
	var ts []*Thread
	for _, tid := range tids {
		t, err := Seize(tid, Options{})
		if err != nil {
			return nil, err
		}
		if err := t.Interrupt(); err != nil {
			return nil, err
		}
		ts = append(ts, t)
	}
	for _, t := range ts {
		if _, err := t.WaitStopped(); err != nil {
			return nil, err
		}
	}
	return ts, nil
}

func mapsOf(pid int) ([]procfs.Map, error) {
	p, err := procfs.Open(pid)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return p.MapsOnly()
}
