package main

import (
	"os"
	"testing"

	"ckpt/container"
)

// TestMain refuses to be a supervisor: ckpt executes its own binary to have one, and
// this one would run all of the tests, each of which...
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == container.Supervisor {
		os.Exit(1)
	}
	os.Exit(m.Run())
}
