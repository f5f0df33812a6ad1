package procfs

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMeminfo(t *testing.T) {
	got := Meminfo("MemTotal:       16 kB\nMemAvailable:    3 kB\nHugePages_Total:       0\nodd\nSwapFree: x kB\n")
	if d := cmp.Diff(map[string]uint64{"MemTotal": 16384, "MemAvailable": 3072}, got); d != "" {
		t.Error(d)
	}
}
