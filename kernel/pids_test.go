package kernel

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFreePIDs(t *testing.T) {
	free, max, err := FreePIDs(1)
	if err != nil || free < 1 || free >= max {
		t.Errorf("%d of %d are free: %v", free, max, err)
	}
	// Counted, it cannot be less than by the tasks of the whole machine, but
	// for what begins meanwhile.
	counted, _, err := FreePIDs(max)
	if err != nil || counted < free-1000 {
		t.Errorf("%d are free, counted %d: %v", free, counted, err)
	}
}

// TestFreePIDsHelper is not a test: it runs in a pid namespace of its own.
func TestFreePIDsHelper(t *testing.T) {
	if os.Getenv("CKPT_PIDS") == "" {
		return
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/sys/kernel/pid_max", []byte("400"), 0); err != nil {
		t.Fatal(err)
	}
	before, max, err := FreePIDs(1 << 20)
	if err != nil || max != 400 {
		t.Fatalf("%d of %d: %v", before, max, err)
	}
	for range 20 {
		c := exec.Command("sleep", "1000")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
	}
	after, _, err := FreePIDs(1 << 20)
	if n := before - after; err != nil || n < 20 || n > 30 { // threads of the test among them
		t.Errorf("%d were free, %d are after 20 processes: %v", before, after, err)
	}
}

// TestFreePIDsInside: a namespace with few numbers of its own (Linux 6.14).
func TestFreePIDsInside(t *testing.T) {
	if os.Geteuid() != 0 || !newer(t, "6.14") {
		return // the number is the whole machine's
	}
	c := exec.Command("/proc/self/exe", "-test.run=^TestFreePIDsHelper$", "-test.v")
	c.Env = append(os.Environ(), "CKPT_PIDS=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Unshareflags: unix.CLONE_NEWNS}
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestFreePIDsHelper") {
		t.Errorf("%v\n%s", err, out)
	}
}
