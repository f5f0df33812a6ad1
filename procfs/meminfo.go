package procfs

import (
	"strconv"
	"strings"
)

// Meminfo gives what /proc/meminfo tells, by name, in bytes. Lines without a size
// are left out.
func Meminfo(text string) map[string]uint64 {
	out := map[string]uint64{}
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if len(f) != 2 || f[1] != "kB" {
			continue
		}
		if n, err := strconv.ParseUint(f[0], 10, 54); err == nil {
			out[name] = n << 10
		}
	}
	return out
}
