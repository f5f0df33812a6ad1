package epoll

import (
	"strings"
	"testing"
)

// FuzzParse: whatever a line of fdinfo says, never a panic.
func FuzzParse(f *testing.F) {
	f.Add("tfd:        5 events:       1d data: ffffffffffffffff  pos:0 ino:61af sdev:7")
	f.Fuzz(func(t *testing.T, s string) { _, _ = parse(strings.Split(s, "\n")) })
}
