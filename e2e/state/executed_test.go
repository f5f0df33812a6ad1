package state

import (
	"errors"
	"os"
	"testing"

	"ckpt/e2e/harness"
)

// TestExecuted: a program whose file is deleted while it runs goes on with the
// very file if that has another name, else with one of its own.
func TestExecuted(t *testing.T) {
	for _, user := range harness.Users() {
		for name, kept := range map[string]bool{"kept by another name": true, "deleted": false} {
			t.Run(name+"/as "+user, func(t *testing.T) {
				e := harness.New(t, user)
				e.Mkdir("far")
				e.Mkdir("bin")
				code, err := os.ReadFile(harness.Program(t, "executed.c"))
				if err != nil {
					t.Fatal(err)
				}
				program, other := e.WriteFile("bin/program", string(code)), e.Join("far/other")
				if err := os.Chmod(program, 0o755); err != nil {
					t.Fatal(err)
				}
				command := []string{program}
				if kept {
					command = append(command, other)
				}
				s := e.Watch("executed", nil, command...)
				if kept {
					err = os.Link(program, other)
				}
				if err := errors.Join(err, os.Remove(program)); err != nil {
					t.Fatal(err)
				}
				s.Look()
				s.Generation()
				s.Look()
				s.Generation()
				s.Look()
				s.Finish()
			})
		}
	}
}
