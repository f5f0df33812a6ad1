package foreign

import (
	"slices"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/tty"
)

// As criu 4.1.1 writes them, and as they stand one by one.
func TestCharacters(t *testing.T) {
	want := []uint32{3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0}
	for _, c := range []struct {
		what string
		is   []uint32
	}{
		{"four to a number", []uint32{360651779, 65540, 1708817, 370609938, 0, 0, 0, 0, 1688803360, 21845, 1688803360, 21845, 1688803376, 21845, 1688803376, 21845, 1688803392, 21845, 1688803392}},
		{"one by one", slices.Clone(want)},
	} {
		e := &tty.TermiosEntry{CCc: c.is}
		if characters(e); !slices.Equal(e.GetCCc(), want) {
			t.Errorf("%s: %v", c.what, e.GetCCc())
		}
	}
	characters(nil)
}
