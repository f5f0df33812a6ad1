package tracee

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// parentMain starts a stub that outlives it and a child of that, and is killed
// right before its n-th request to the kernel after that of Outlive.
func parentMain(n string) int {
	runtime.LockOSThread()
	left, err := strconv.Atoi(n)
	if err != nil {
		panic(err)
	}
	s, site, err := StartStub(StubOptions{})
	if err == nil {
		err = s.Outlive(site)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(s.PID)
	beforeRequest = func(string) {
		if left--; left == 0 {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	child, err := ForkStub(s, site, ForkOptions{ExitSignal: unix.SIGCHLD})
	if err == nil {
		_, err = child.Syscall(site, unix.SYS_GETPID)
	}
	if err == nil {
		_, err = s.Syscall(site, unix.SYS_GETPID)
	}
	if err == nil {
		err = child.Kill()
	}
	if err == nil {
		_, err = s.Syscall(site, unix.SYS_WAIT4, uint64(child.PID), 0, unix.WALL, 0)
	}
	if err = errors.Join(err, s.Kill()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestOutlive: whenever ckpt is killed, the stub ends by itself, and has waited
// for its child: nobody else has to.
func TestOutlive(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	for n, killed := 1, true; killed; n++ {
		c := exec.Command("/proc/self/exe")
		c.Env = append(os.Environ(), fmt.Sprintf("CKPT_TEST_PARENT=%d", n))
		c.Stderr = os.Stderr
		out, err := c.Output()
		var ee *exec.ExitError
		if killed = errors.As(err, &ee) && ee.ExitCode() == -1; err != nil && !killed {
			t.Fatal(err)
		}
		if !killed {
			if n < 10 {
				t.Errorf("it made %d requests only", n-1)
			}
			break
		}
		var stub int
		if _, err := fmt.Sscan(string(out), &stub); err != nil {
			t.Fatal(err)
		}
		var ws unix.WaitStatus
		if pid, err := unix.Wait4(-1, &ws, unix.WALL, nil); err != nil || pid != stub || !ws.Exited() || ws.ExitStatus() != 0 {
			t.Errorf("killed before request %d: waiting gives %d (the stub is %d), status %#x, %v", n, pid, stub, ws, err)
		}
		if pid, err := unix.Wait4(-1, nil, unix.WALL, nil); err != unix.ECHILD {
			t.Errorf("killed before request %d: %d was left to others, %v", n, pid, err)
		}
	}
}
