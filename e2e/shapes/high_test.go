package shapes

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"ckpt/e2e/harness"
	"ckpt/kind/kindtest"
)

// greatest is one more than the greatest pid there can be on a 64-bit machine
// (PID_MAX_LIMIT in the kernel; pid_max in proc_sys_kernel(5)).
const greatest = 1 << 22

// TestHighIDs: since Linux 6.14 a container's ids may go beyond the host's
// kernel.pid_max, and come back; as root, who may choose the next one. Where
// the test itself runs in a pid namespace that may have all of them, they are
// only high.
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
	last := min(end+10, greatest-10) // fewer than ten follow
	p := startPuppet(e, "high", nil)
	if r := p.do("root", opLastPID, last)[0]; r != 0 {
		if e.Root() && kindtest.Since(t, "6.14") {
			t.Fatalf("set ns_last_pid to %d: errno %d", last, -r)
		}
		t.Skipf("ns_last_pid cannot be %d here: errno %d", last, -r)
	}
	p.fork("root", "leader")
	p.setsid("leader")
	p.fork("leader", "child")
	p.thread("child", "thread")
	is(p, "pid of the first", p.task("leader").pid, last+1)
	p.exit("leader", 0)
	p.wait("root", "leader", 0)
	was := p.state()
	image := e.Join("image")
	p.detach()
	p.c.Dump(image)
	e.Run("check", image)
	e.Restore(image, "")
	p.same("restored", was, true)
	in(p, "child", last+1, last+1)
	is(p, "the next pid", p.fork("root", "next"), p.task("thread").tid+1)
	p.detach()
}
