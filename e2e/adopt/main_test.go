// Package adopt saves processes that ckpt did not start.
package adopt

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

func TestMain(m *testing.M) {
	// In a container whose runtime makes no session theirs has no number, and
	// what the tests launch without one could not be saved (TestNoSession).
	if sid, err := unix.Getsid(0); err == nil && sid == 0 {
		if _, err := unix.Setsid(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: setsid:", err)
			os.Exit(1)
		}
	}
	harness.Main(m)
}
