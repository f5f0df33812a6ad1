package memory

import (
	"testing"

	"ckpt/procfs"
)

// What is not free is the program's, but for the key of what may only be executed.
func TestKeysTaken(t *testing.T) {
	free := []uint64{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	executed := []procfs.Map{{}, {Exec: true, ProtectionKey: 1}, {Exec: true, ProtectionKey: 1}}
	for _, c := range []struct {
		name string
		free []uint64
		maps []procfs.Map
		want uint32
	}{
		{"no such processor", nil, nil, 0},
		{"none", append([]uint64{1}, free...), nil, 0},
		{"one", free, nil, 1 << 1},
		{"that of execution", free, executed, 0},
		{"one more", free[1:], executed, 1 << 2},
		{"two", free[1:], []procfs.Map{{Read: true, Exec: true, ProtectionKey: 2}}, 1<<1 | 1<<2},
	} {
		if got := keysTaken(c.free, c.maps); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
}
