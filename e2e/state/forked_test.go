package state

import (
	"testing"

	"ckpt/e2e/harness"
)

// TestForked: pages that forked processes have in common, copy-on-write, are
// in common again, and so they stay in a container that is saved and goes on.
// With memory that they share otherwise, too, their parent has not executed its
// program as a bare child (setpgid(2)); nor has it, where a child does that
// with memory of its own, before that one was born.
func TestForked(t *testing.T) {
	for _, user := range harness.Users() {
		for _, how := range []string{"private", "shared", "apart", "beside"} {
			t.Run(how+" as "+user, func(t *testing.T) {
				e := harness.New(t, user)
				s := e.Watch("forked", nil, harness.Program(t, "forked.c"), how)
				s.Look()
				s.Dump(s.Image(), "--leave-running")
				s.Look()
				for range 2 {
					s.Generation()
					s.Look()
				}
			})
		}
	}
}
