package harness

import (
	"os"
	"strconv"
	"testing"
)

// Seeds are those that a test tries: from, and as many as n says. A plain run
// tries plain, from seed 0 on. CKPT_SEEDS says another number, CKPT_SEED with which
// to begin, alone: just that one.
func Seeds(t testing.TB, plain uint64) (from, n uint64) {
	t.Helper()
	number := func(name string) uint64 {
		v, err := strconv.ParseUint(os.Getenv(name), 10, 32)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return v
	}
	n = plain
	if os.Getenv("CKPT_SEED") != "" {
		from, n = number("CKPT_SEED"), 1
	}
	if os.Getenv("CKPT_SEEDS") != "" {
		n = number("CKPT_SEEDS")
	}
	return from, n
}
