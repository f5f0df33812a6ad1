// Package criu holds ckpt to CRIU: what ckpt writes, CRIU's own programs read
// and restore.
package criu

import (
	"context"
	"os"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// The criu of the tests works on this kernel: else what the others say of it
// is worth nothing.
func TestWorks(t *testing.T) {
	if os.Geteuid() != 0 {
		return // it asks for rights that root alone has
	}
	e := harness.New(t, "")
	out, err := e.Command(context.Background(), harness.CRIU(t, "criu"), "check").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Looks good.") {
		t.Fatalf("criu check: %v\n%s", err, out)
	}
}
