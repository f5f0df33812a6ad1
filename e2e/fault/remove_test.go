package fault

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// TestRemoveTraced: a container whose process another program traces ends when
// that one has looked at its end, and `ckpt rm -f` does not wait for ever.
func TestRemoveTraced(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			t.Parallel()
			e := harness.New(t, user)
			c := e.Start("traced", nil, harness.Tool(t, "sleep"), "1000")
			ps := c.Ps().Processes
			i := slices.IndexFunc(ps, func(p harness.Process) bool { return p.VPID == 2 })
			look := make(chan struct{})
			seized, looked := make(chan error, 1), make(chan error, 1)
			go func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				err := unix.PtraceSeize(ps[i].PID)
				seized <- err
				<-look
				if err == nil {
					_, err = unix.Wait4(ps[i].PID, nil, unix.WALL, nil)
				}
				looked <- err
			}()
			err := <-seized
			r := e.Try("rm", "-f", c.Name)
			close(look)
			if err = errors.Join(err, <-looked); err != nil {
				t.Fatal(err)
			}
			if want := "it was killed, and has not ended after 30s"; r.Code != 1 || !strings.Contains(r.Err, want) {
				t.Errorf("%q should be told, with exit code 1: %v", want, r)
			}
			c.Remove()
		})
	}
}
