// Package adopt saves processes that ckpt did not start.
package adopt

import (
	"testing"

	"ckpt/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
