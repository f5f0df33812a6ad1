package restore

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind/kindtest"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/restore/tree"
	"ckpt/tracee"
)

// limit is the greatest that pid_max can be (kernel/pid.c, PID_MAX_LIMIT).
const limit = 4194304

// lowered is inContainer with a kernel.pid_max of 500. That is the
// container's own: the host's is not touched.
func lowered(t *testing.T, vpids ...int) *session {
	t.Helper()
	if !kindtest.Since(t, "6.14") {
		t.Skip("pid_max is the whole machine's before Linux 6.14")
	}
	s := inContainer(t, vpids...)
	before, err := procfs.Sysctl(pidMaxName)
	must(t, err)
	write(t, s, procfs.SysctlPath(pidMaxName), "500")
	after, err := procfs.Sysctl(pidMaxName)
	must(t, err)
	if before != after {
		t.Fatalf("the host's pid_max was %d, is %d", before, after)
	}
	return s
}

func write(t *testing.T, s *session, path, text string) {
	t.Helper()
	fd, err := s.openIn(pidns.Init, path, unix.O_WRONLY)
	must(t, err)
	must(t, s.asHere(pidns.Init, func(sc *tracee.Script) error {
		sc.Must(unix.SYS_WRITE, fd, sc.Str(text), uint64(len(text)))
		sc.Must(unix.SYS_CLOSE, fd)
		return nil
	}, nil))
}

func TestPIDMax(t *testing.T) {
	s := lowered(t, 499)
	must(t, s.tree())
	if host, ok := s.hostPID(499); !ok || host == 499 {
		t.Errorf("host pid %d, %v", host, ok)
	}
	// The counter begins anew, as it does at the end of the ids.
	must(t, s.lastPID())
	child, err := tracee.ForkStub(s.root.Thread, s.root.Site, tracee.ForkOptions{ExitSignal: unix.SIGCHLD})
	must(t, err)
	if child.VPID < 2 || child.VPID >= 499 {
		t.Errorf("the next pid is %d", child.VPID)
	}
}

func TestPIDMaxTooLow(t *testing.T) {
	s := lowered(t, 2, 500)
	err := s.tree()
	const want = "restore: the tree of processes: pid 500 is too high: ids end below kernel.pid_max, which is 500 here"
	if err == nil || err.Error() != want || failure.Code(err) != failure.CodeUnsupported {
		t.Errorf("got %v, exit code %d\nwant %s", err, failure.Code(err), want)
	}
	if h := failure.Hints(err); !slices.Equal(h, []string{"raise it: sysctl -w kernel.pid_max=4194304"}) {
		t.Errorf("hints %q", h)
	}
	// That is what it stands for.
	_, err = tracee.ForkStub(s.root.Thread, s.root.Site, tracee.ForkOptions{VPID: 500, ExitSignal: unix.SIGCHLD})
	if !errors.Is(err, unix.EINVAL) {
		t.Errorf("the kernel says %v", err)
	}
}

func TestExpectPIDMax(t *testing.T) {
	own, err := procfs.Sysctl(pidMaxName)
	must(t, err)
	row := func(vpid int) []tree.Row { return []tree.Row{{VPID: 2, Threads: []pidns.VPID{2, pidns.VPID(vpid)}}} }
	if got, err := expectPIDMax(row(own - 1)); err != nil || got != own {
		t.Errorf("for an id below ckpt's own %d: %d, %v", own, got, err)
	}
	want := own
	if kindtest.Since(t, "6.14") {
		want = limit
	}
	if got, err := expectPIDMax(row(own)); err != nil || got != want {
		t.Errorf("for an id as high as ckpt's own %d: %d, %v; want %d", own, got, err, want)
	}
}
