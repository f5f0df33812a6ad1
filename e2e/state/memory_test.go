// Package state is what a process and a thread are: programs that look at
// themselves before and after.
package state

import (
	"testing"

	"ckpt/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// TestMemory: mappings of every sort, over three generations and a dump that
// leaves them be. The program compares contents and /proc/self/smaps.
func TestMemory(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			s := e.Watch("memory", nil, harness.Program(t, "memory.c"))
			s.Look()
			for range 3 {
				s.Generation()
				s.Look()
			}
			s.Dump(s.Image(), "--leave-running")
			s.Look()
		})
	}
}
