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
		id, of VPID
		status unix.WaitStatus
		number uint32
	}{
		{"a pidfd", 70, 0, 0, killed, 1},
		{"another of the same", 70, 0, 0, killed, 1},
		{"a pidfd of another", 71, 0, 0, 0, 2},
		{"a socket of the first", 70, 5, 0, killed, 1},
		{"a socket that shows no pidfd", 0, 5, 0, 0, 1},
		{"and of another", 0, 6, 0, 0, 3},
		{"one whose id another had before", 72, 6, 0, killed, 3},
		{"known by its inode from then on", 72, 0, 0, 0, 3},
		{"a pidfd where all have one inode", 0, 0, 0, 0, 4},
		{"another", 0, 0, 0, 0, 5},
		{"a socket of the second, whose id the third has", 71, 6, 0, 0, 2},
		{"a thread", 0, 8, 7, 0, 6},
		{"again", 0, 8, 7, 0, 6},
		{"a thread of another", 0, 8, 9, 0, 0},
		{"its folder of /proc", 0, 8, Either, 0, 6},
		{"a folder of /proc", 0, 10, Either, 0, 7},
		{"which was a thread's", 0, 10, 7, 0, 7},
		{"again", 0, 10, 0, 0, 0},
		{"a process with its id", 0, 8, 0, 0, 0},
		{"a thread with the id of a process", 0, 5, 7, 0, 0},
	} {
		if n, ok := h.Note(c.inode, c.id, c.of, c.status); n != c.number || ok != (n != 0) {
			t.Errorf("%s: number %d, %t, want %d", c.what, n, ok, c.number)
		}
	}
	want := []*image.Held{{Number: 1, Id: 5, Status: 9}, {Number: 2}, {Number: 3, Id: 6, Status: 9}, {Number: 4}, {Number: 5}, {Number: 6, Id: 8, Tgid: 7}, {Number: 7, Id: 10, Tgid: 7}}
	if d := cmp.Diff(want, h.List(), protocmp.Transform()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
