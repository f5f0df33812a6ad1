package harness

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

// Take gives host ids to processes of the test's own, which keep them until
// it ends: whoever asks for one of them by mistake gets the wrong process,
// and whoever needs one does not get it. The ids must be free, or about to
// be. It needs root, since it chooses ids in the host's pid namespace.
func Take(t testing.TB, ids ...int) {
	t.Helper()
	args := make([]string, len(ids))
	for i, id := range ids {
		args[i] = strconv.Itoa(id)
	}
	cmd := exec.Command(Program(t, "taker.c"), args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("give host ids back: %v", err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "taken\n" {
		t.Fatalf("take host ids: %q, %v", line, err)
	}
}

// HostIDs are the ids that the host has for the processes and threads of ps.
func (ps Ps) HostIDs() []int {
	var ids []int
	for _, p := range ps.Processes {
		for _, t := range p.Threads {
			ids = append(ids, t.TID)
		}
	}
	return ids
}
