package fault

import (
	"syscall"
	"testing"
	"time"

	"ckpt/e2e/harness"
)

// TestTerminalDumpKilled: what waits in terminals, which a dump takes out and
// puts back, is there whenever that is killed. But for ends of files, see
// docs/decisions/injection-heals-itself.md.
func TestTerminalDumpKilled(t *testing.T) {
	for _, user := range harness.Users() {
		e := harness.New(t, user)
		s := e.Watch("ptydata", nil, harness.Program(t, "ptydata.c"), "without ends")
		s.Look()
		begin := time.Now()
		s.Dump(e.Join("whole"), "--leave-running")
		work := time.Since(begin)
		for _, after := range instants(work, 20) {
			r, _ := interrupted(e, after, syscall.SIGKILL, "dump", "ptydata", e.Join("image"), "--leave-running")
			t.Logf("after %v of %v: exit code %d", after, work, r.Code)
			s.Look()
			remove(t, append(e.Partial(), e.Join("image"))...)
		}
		s.Finish()
	}
}
