package procfs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseCPU(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       CPU
	}{
		{"x86", "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 sse4_1\nbugs\t\t: spectre_v1\npower management:\n\nprocessor\t: 1\nvendor_id\t: Other\nflags\t\t: fpu\n\n",
			CPU{"AuthenticAMD", "AMD EPYC", []string{"fpu", "avx2", "sse4_1"}}},
		{"arm64", "processor\t: 0\nFeatures\t: fp asimd\nCPU part\t: 0xd0c", CPU{Flags: []string{"fp", "asimd"}}},
		{"nothing", "", CPU{}},
	} {
		got, err := parseCPU(strings.NewReader(tt.text))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
	if c, err := ReadCPU(); err != nil || len(c.Flags) == 0 {
		t.Errorf("this machine's: %+v (%v)", c, err)
	}
}
