package filelock

import "testing"

// FuzzParse: whatever a line of fdinfo says, never a panic.
func FuzzParse(f *testing.F) {
	f.Add("lock:\t1: POSIX  ADVISORY  WRITE 8735 fe:00:3366913 10 14")
	f.Add("lock:\t1: LEASE  BREAKING  READ 8735 fe:00:3366913 0 EOF")
	f.Fuzz(func(t *testing.T, s string) { _, _, _ = parse(s) })
}
