package harness

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

// free gives ids that have just been freed.
func free(t *testing.T, n int) (ids []int) {
	t.Helper()
	for range n {
		cmd := exec.Command("/bin/true")
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, cmd.Process.Pid)
	}
	return ids
}

func comm(id int) string {
	b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(id), "comm"))
	return string(b)
}

// TestTake: the ids are taken while the test runs, also when it fails, and
// free again afterwards.
func TestTake(t *testing.T) {
	if os.Geteuid() != 0 {
		return // the host's ids are root's
	}
	ids := free(t, 3)
	t.Run("taken", func(t *testing.T) {
		Take(t, ids...)
		for _, id := range ids {
			if c := comm(id); c != "taker\n" {
				t.Errorf("host pid %d is %q", id, c)
			}
		}
	})
	for _, id := range ids {
		if err := syscall.Kill(id, 0); !errors.Is(err, syscall.ESRCH) && comm(id) == "taker\n" {
			t.Errorf("host pid %d is still taken", id)
		}
	}
}

func TestHostIDs(t *testing.T) {
	ps := Ps{Processes: []Process{{PID: 7, Threads: []Thread{{TID: 7}, {TID: 9}}}, {PID: 8, Threads: []Thread{{TID: 8}}}}}
	if got := ps.HostIDs(); !slices.Equal(got, []int{7, 9, 8}) {
		t.Errorf("got %v", got)
	}
}
