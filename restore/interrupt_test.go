package restore

import (
	"context"
	"os/exec"
	"syscall"
	"testing"

	"ckpt/container"
)

// TestDieWith: what is being made is killed when the context ends, and is not any more
// once that was taken back.
func TestDieWith(t *testing.T) {
	for _, ends := range []bool{true, false} {
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		s := &session{root: &container.Root{HostPID: cmd.Process.Pid}}
		ctx, cancel := context.WithCancel(t.Context())
		lives, err := s.dieWith(ctx)
		if err != nil {
			t.Fatal(err)
		}
		want := syscall.SIGTERM
		if ends {
			cancel()
			want = syscall.SIGKILL
		}
		if lives() == ends {
			t.Errorf("the context has ended: %v; it is said to live: %v", ends, !ends)
		}
		cancel()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if got := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(); got != want {
			t.Errorf("the context has ended: %v; it was killed by %v", ends, got)
		}
	}
}
