package copies

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"ckpt/e2e/harness"
	"ckpt/kind/kindtest"
)

// scarce is a host with few pids: a container with its own kernel.pid_max
// (Linux 6.14), which programs fill until no more than $1 are left.
const scarce = `echo 400 >/proc/sys/kernel/pid_max
n=$((400 - $1 - $(ls -d /proc/[0-9]* | wc -l)))
while [ $n -gt 0 ]; do sleep 1000 & n=$((n - 1)); done
echo ready
trap 'kill $(jobs -p); echo room' USR1
while :; do wait; sleep 0.1; done`

// TestFewPIDs: where the host is running out of pids that is told, and nothing
// is left behind; when there is room again, the image is as good as ever.
func TestFewPIDs(t *testing.T) {
	if os.Geteuid() != 0 || !kindtest.Since(t, "6.14") {
		return // kernel.pid_max is the whole machine's
	}
	e := harness.New(t, "")
	small := e.Start("small", nil, harness.Tool(t, "sh"), "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; wait")
	harness.Eventually(t, "it has begun", func() error {
		if n := len(small.Ps().Processes); n != 9 {
			return fmt.Errorf("%d processes", n)
		}
		return small.Alive()
	})
	image := e.Join("image")
	small.Dump(image)
	host := e.Start("host", nil, harness.Tool(t, "bash"), "-c", scarce, "bash", "25")
	host.Says("ready")
	inside := func(args ...string) harness.Result {
		t.Helper()
		return e.Try(append([]string{"exec", "host", "--", harness.Ckpt()}, args...)...)
	}
	before := len(host.Ps().Processes)
	r := inside("restore", image)
	if r.Code != 3 || !strings.Contains(r.Err, "ckpt: error: making the container takes 33 pids for a moment, and about ") ||
		!strings.Contains(r.Err, "ckpt: hint: end some programs, or allow more: sysctl -w kernel.pid_max=1600") {
		t.Errorf("it should be told that pids are few: %v", r)
	}
	if r := inside("start", "another", "--", "sleep", "1000"); r.Code != 3 || !strings.Contains(r.Err, "ckpt: error: start another: making the container takes 25 pids") {
		t.Errorf("it should be told that pids are few: %v", r)
	}
	if r := inside("ps"); strings.Contains(r.Out, "small") || strings.Contains(r.Out, "another") {
		t.Errorf("something is left: %v", r)
	}
	if after := len(host.Ps().Processes); after != before {
		t.Errorf("%d processes were there, %d are", before, after)
	}
	host.Kill("USR1")
	host.Says("room")
	if r := inside("restore", image); r.Code != 0 {
		t.Errorf("there is room now: %v", r)
	}
	if r := inside("ps"); !strings.Contains(r.Out, "small") {
		t.Errorf("it was restored: %v", r)
	}
}
