package shapes

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"ckpt/e2e/harness"
	"ckpt/kind/kindtest"
)

// TestHighIDs: since Linux 6.14 a container's ids may go beyond the host's
// kernel.pid_max, and come back; as root, who may choose the next one.
func TestHighIDs(t *testing.T) {
	e := harness.New(t, "")
	b, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		t.Fatal(err)
	}
	end, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	p := startPuppet(e, "high", nil)
	if r := p.do("root", opLastPID, end+10)[0]; r != 0 {
		if e.Root() && kindtest.Since(t, "6.14") {
			t.Fatalf("set ns_last_pid to %d: errno %d", end+10, -r)
		}
		t.Skipf("ns_last_pid cannot be %d here: errno %d", end+10, -r)
	}
	p.fork("root", "leader")
	p.setsid("leader")
	p.fork("leader", "child")
	p.thread("child", "thread")
	is(p, "pid of the first", p.task("leader").pid, end+11)
	p.exit("leader", 0)
	p.wait("root", "leader", 0)
	was := p.state()
	image := e.Join("image")
	p.detach()
	p.c.Dump(image)
	e.Run("check", image)
	e.Restore(image, "")
	p.same("restored", was, true)
	in(p, "child", end+11, end+11)
	is(p, "the next pid", p.fork("root", "next"), p.task("thread").tid+1)
	p.detach()
}
