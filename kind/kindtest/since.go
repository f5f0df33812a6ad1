package kindtest

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// Since tells whether the running kernel is of that version ("6.9") or later:
// a case that an older one has no call for is left out there, and there alone.
func Since(t testing.TB, version string) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	number := func(s string) int {
		var major, minor int
		if _, err := fmt.Sscanf(s, "%d.%d", &major, &minor); err != nil {
			t.Fatalf("kernel version %q: %v", s, err)
		}
		return major<<16 | minor
	}
	return number(unix.ByteSliceToString(u.Release[:])) >= number(version)
}
