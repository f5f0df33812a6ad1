package restore

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/procfs"
)

func TestCheckCPU(t *testing.T) {
	here := procfs.CPU{Model: "New", Flags: strings.Fields("fpu sse2 avx avx2 sha_ni")}
	for _, tt := range []struct{ flags, missing string }{
		{"fpu sse2 avx", ""},
		{"", ""}, // not told
		{"fpu avx avx512f avx512bw", "avx512f avx512bw"},
		{"fpu avx pti smep retpoline", ""}, // the kernel's own
	} {
		err := checkCPU(&image.Machine{CpuModel: "Old", CpuFlags: strings.Fields(tt.flags)}, here)
		switch {
		case tt.missing == "" && err != nil:
			t.Errorf("%s: %v", tt.flags, err)
		case tt.missing == "":
		case !errors.Is(err, failure.ErrIncompatible) || !strings.HasSuffix(err.Error(), "this processor (New) has not: "+tt.missing):
			t.Errorf("%s: %v", tt.flags, err)
		case !slices.ContainsFunc(failure.Hints(err), func(h string) bool { return strings.Contains(h, "(Old)") }):
			t.Errorf("%s: hints %q", tt.flags, failure.Hints(err))
		}
	}
}
