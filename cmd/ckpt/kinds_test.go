package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ckpt/kind/all"
)

func TestKindsText(t *testing.T) {
	got := kindsText([]all.Told{
		{Name: "eventfd", Of: "descriptor", Saves: "counter, flags"},
		{Name: "keyrings", Of: "process", Refuses: "a keyring of a thread, of a process, or a session keyring that was joined inside", Limits: "little", Needs: "nothing"},
	})
	want := `eventfd (descriptor)
  kept:    counter, flags

keyrings (process)
  refused: a keyring of a thread, of a process, or a session keyring that was
           joined inside
  lost:    little
  needs:   nothing
`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
