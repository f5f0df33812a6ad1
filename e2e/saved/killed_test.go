package saved

import (
	"path/filepath"
	"testing"

	"ckpt/e2e/harness"
)

// TestKilledAtSteps: whoever saves a container is killed, the dump and what keeps the
// directory, at one step after the other of a new image and of the removal of the one
// before: there is always an image, each there is is whole, and the newest is restored.
func TestKilledAtSteps(t *testing.T) {
	e := harness.New(t, harness.Users()[0])
	dir := e.Join("saves")
	c := e.Start("job", []string{"--on-term", "--to", "saves"}, harness.Program(t, "refusing.py"))
	c.Says("ready")
	e.Run("dump", "job", filepath.Join(dir, "000001-20260117T080500Z"))
	newest := func() string {
		have := images(t, dir)
		if len(have) == 0 {
			t.Fatal("there is no image any more")
		}
		return have[len(have)-1]
	}
	for n := 1; ; n += 2 {
		before := newest()
		r := e.KillAt(n, dir, "restore", "--latest", "saves", "--foreground", "--every", "1s", "--keep", "1")
		if !r.Hit || r.Code == 0 {
			t.Fatalf("step %d (%s): %v", n, r.What, r)
		}
		have := images(t, dir)
		for _, i := range have {
			e.Run("verify", i)
		}
		if r := e.Try("rm", "-f", "job"); r.Code != 0 && r.Code != 5 { // 5: it was killed before there was one
			t.Error(r)
		}
		switch now := have[len(have)-1]; {
		case now < before: // names are in the order they were made
			t.Errorf("step %d (%s): %s is gone, and there are %v", n, r.What, before, have)
		case now > before && len(have) == 1: // the new one stands, and those before are gone
			e.Own("job")
			e.Restore(dir, "", "--latest")
			return
		}
	}
}
