package tracee

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// tracerMain traces as told by "N SIGNAL PID TID...", and right before its N-th
// request to the kernel (0: never) sends PID the signal and is killed.
func tracerMain(v string) int {
	runtime.LockOSThread()
	var n []int
	for _, f := range strings.Fields(v) {
		i, err := strconv.Atoi(f)
		if err != nil {
			panic(err)
		}
		n = append(n, i)
	}
	requests := 0
	beforeRequest = func(string) {
		if requests++; requests == n[0] {
			if n[1] != 0 {
				_ = unix.Kill(n[2], unix.Signal(n[1]))
			}
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	if err := roundTrip(n[2], n[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// traceAndDie tells whether the tracer was killed before it was done.
func traceAndDie(t *testing.T, n, pid int, tids []int) bool {
	t.Helper()
	return signalAndDie(t, n, 0, pid, tids)
}

func signalAndDie(t *testing.T, n int, sig unix.Signal, pid int, tids []int) bool {
	t.Helper()
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), fmt.Sprintf("CKPT_TEST_TRACER=%d %d %d %s", n, sig, pid, strings.Trim(fmt.Sprint(tids), "[]")))
	out, err := c.CombinedOutput()
	var ee *exec.ExitError
	if errors.As(err, &ee) && ee.ProcessState.Sys().(interface{ Signaled() bool }).Signaled() {
		return true
	}
	if err != nil {
		t.Fatalf("tracer: %v: %s", err, out)
	}
	return false
}

// Between the stop itself and the mark that a call is to be restarted (from the
// third request on: read registers, twice, and set them) nothing can keep the
// kernel from showing EINTR for the few calls that signal(7) names.
const (
	requestGetRegs = 3
	unmarked       = 3 // requests
)

// TestKillTracerAtEveryRequest is the promise: whenever ckpt is killed, the
// processes it had stopped go on as if nothing had been.
func TestKillTracerAtEveryRequest(t *testing.T) {
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			g := startTarget(t, p.modes...)
			before := g.steady(p.modes)
			tids := tasks(t, g.pid)
			n := 1
			for ; traceAndDie(t, n, g.pid, tids); n++ {
				if n+1 == requestGetRegs && (p.name == "epoll" || p.name == "sigwait") {
					n += unmarked
				}
				if p.modes[0] == "spin" || p.modes[0][0] == 'n' {
					g.goesOn(p.modes[0])
				}
				if d := cmp.Diff(before, g.lookSoon(before)); d != "" {
					t.Fatalf("killed at request %d, the target is not as it was:\n%s", n, d)
				}
			}
			t.Logf("%d requests", n-1)
			g.goesOn(p.modes...)
		})
	}
}

// lookSoon gives the threads, which go home by themselves, the time to.
func (g *target) lookSoon(want string) (got string) {
	g.t.Helper()
	for range 2000 {
		if got = g.look(); got == want {
			break
		}
		runtime.Gosched()
	}
	return got
}

// goTarget is a program that catches every signal, as all Go programs do, and
// whose stacks are small and move.
func goTarget() {
	var sum [2]atomic.Uint64
	for i := range sum {
		go func() {
			for {
				b := make([]byte, 1<<12)
				for j := range b {
					b[j] = byte(deep(20, j))
				}
				n := 0
				for _, v := range b {
					n += int(v)
				}
				if n != 522240 {
					fmt.Println("bad: sum", n)
					os.Exit(1)
				}
				sum[i].Add(1)
			}
		}()
	}
	fmt.Println("ready")
	for last := (uint64)(0); ; runtime.Gosched() {
		if n := min(sum[0].Load(), sum[1].Load()); n > last+10 {
			fmt.Println("ok spin")
			last = n
		}
	}
}

func deep(n, v int) int {
	var pad [64]byte
	pad[n] = byte(v)
	if n == 0 {
		return int(pad[0])
	}
	return deep(n-1, v) + int(pad[n]) - v&0xff
}

// TestKillTracerOfGoProgram: all done signals have handlers, which then run on
// the way home.
func TestKillTracerOfGoProgram(t *testing.T) {
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), "CKPT_TEST_TARGET=go", "GOMAXPROCS=2")
	g := startCommand(t, c)
	g.goesOn("spin")
	for n := 1; traceAndDie(t, n, g.pid, tasks(t, g.pid)); n++ {
		g.goesOn("spin")
	}
	g.goesOn("spin")
}

// TestGoingHome: a thread may have had no time yet to go home when the next
// ckpt comes. One that is stopped by a signal has none until it goes on.
func TestGoingHome(t *testing.T) {
	lockThread(t)
	g := startTarget(t, "spin")
	seen := 0
	for n := 1; signalAndDie(t, n, unix.SIGSTOP, g.pid, []int{g.pid}); n++ {
		if g.goingHome() {
			seen++
		} else if err := roundTrip(g.pid, []int{g.pid}); err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(g.pid, unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if err := roundTrip(g.pid, []int{g.pid}); err != nil { // once it is home
			t.Fatal(err)
		}
		g.goesOn("spin")
	}
	if seen == 0 {
		t.Error("it never stopped on the way home")
	}
	t.Logf("seen %d times", seen)
}

// goingHome asks with the target stopped.
func (g *target) goingHome() bool {
	g.t.Helper()
	ts, err := stopAll(g.pid, []int{g.pid})
	if err != nil {
		g.t.Fatal(err)
	}
	going, err := goingHome(g.pid, ts)
	if err != nil {
		g.t.Fatal(err)
	}
	if err := detachAll(ts); err != nil {
		g.t.Fatal(err)
	}
	return going
}
