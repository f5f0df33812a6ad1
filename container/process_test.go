package container

import (
	"errors"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/procfs"
)

// A process that ends while it is read is none of the container's; a zombie is
// one, with the thread it has left.
func TestProcessThatEnds(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	p, err := procfs.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	st, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	w := walker{full: true, depth: len(st.NSpid) - 1}
	q, err := w.process(p, pid, 1, st)
	if err != nil || q.State != 'Z' || len(q.Threads) != 1 || int(q.Threads[0].TID) != pid {
		t.Errorf("the zombie is %+v (%v)", q, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, w.full = range []bool{true, false} {
		if q, err := w.process(p, pid, 1, st); !errors.Is(err, unix.ESRCH) {
			t.Errorf("full %v: what has ended is %+v (%v)", w.full, q, err)
		}
		if err := w.visit(p, pid, 1, false); err != nil || len(w.out) != 0 {
			t.Errorf("full %v: listed are %+v (%v)", w.full, w.out, err)
		}
	}
}
