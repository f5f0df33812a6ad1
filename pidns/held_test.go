package pidns

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/image"
)

func TestHolds(t *testing.T) {
	const killed = unix.WaitStatus(unix.SIGKILL)
	var h Holds
	for _, c := range []struct {
		what   string
		inode  uint64
		id     VPID
		status unix.WaitStatus
		number uint32
	}{
		{"a pidfd", 70, 0, killed, 1},
		{"another of the same", 70, 0, killed, 1},
		{"a pidfd of another", 71, 0, 0, 2},
		{"a socket of the first", 70, 5, killed, 1},
		{"a socket that shows no pidfd", 0, 5, 0, 1},
		{"and of another", 0, 6, 0, 3},
		{"one whose id another had before", 72, 6, killed, 3},
		{"known by its inode from then on", 72, 0, 0, 3},
		{"a pidfd where all have one inode", 0, 0, 0, 4},
		{"another", 0, 0, 0, 5},
		{"a socket of the second, whose id the third has", 71, 6, 0, 2},
	} {
		if n := h.Note(c.inode, c.id, c.status); n != c.number {
			t.Errorf("%s: number %d, want %d", c.what, n, c.number)
		}
	}
	want := []*image.Held{{Number: 1, Id: 5, Status: 9}, {Number: 2}, {Number: 3, Id: 6, Status: 9}, {Number: 4}, {Number: 5}}
	if d := cmp.Diff(want, h.List(), protocmp.Transform()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
