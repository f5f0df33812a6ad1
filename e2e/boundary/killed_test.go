package boundary

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"ckpt/e2e/harness"
)

// TestQueuesKilled: messages can be looked at only by receiving them. Whenever
// ckpt is killed meanwhile, all are there again, in their order.
func TestQueuesKilled(t *testing.T) {
	const kills = 40
	e := harness.New(t, "")
	if !e.Root() {
		return // only root may have as many messages
	}
	s := e.Watch("queues", nil, harness.Program(t, "boundary/mqueue.c"), "many")
	begin := time.Now()
	s.Dump(s.Image(), "--leave-running")
	work := time.Since(begin)
	s.Look()
	for i := range kills {
		image := s.Image()
		cmd := e.Command(context.Background(), harness.Ckpt(), "dump", s.Name, image, "--leave-running")
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(work*time.Duration(i+1)/kills, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		timer.Stop()
		t.Logf("killed at %d of %d of %v: %v %s", i+1, kills, work, err, errs.String())
		s.Look()
		for _, p := range append(e.Partial(), image) {
			if err := os.RemoveAll(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.Generation()
	s.Look()
	s.Finish()
}
