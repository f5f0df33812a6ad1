package restore

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/kind/kindtest"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/restore/tree"
	"ckpt/tracee"
)

// lowered is inContainer with a kernel.pid_max of 500. That is the
// container's own: the host's is not touched.
func lowered(t *testing.T, vpids ...int) *session {
	t.Helper()
	if !kindtest.Since(t, "6.14") {
		t.Skip("pid_max is the whole machine's before Linux 6.14")
	}
	s := inContainer(t, vpids...)
	before, err := procfs.Sysctl(container.PIDMaxName)
	must(t, err)
	write(t, s, procfs.SysctlPath(container.PIDMaxName), "500")
	after, err := procfs.Sysctl(container.PIDMaxName)
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
	const want = "restore: the tree of processes: pid 500 (program) is too high: ids end below kernel.pid_max, which is 500 here"
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

// TestSetPIDMax: the container's own is set when all are born, of those beyond
// it, too; one too low for this machine is told, and the restore goes on.
func TestSetPIDMax(t *testing.T) {
	for _, tt := range []struct {
		was, want int
		warns     bool
	}{{600, 600, false}, {10, container.GreatestPIDMax, true}} {
		if !kindtest.Since(t, "6.14") {
			continue // it is the whole machine's, which setPIDMax leaves alone
		}
		var log strings.Builder
		s := inContainer(t, 2, 5000)
		s.o.Log = slog.New(slog.NewTextHandler(&log, nil))
		s.r.Manifest.PidMax = uint32(tt.was)
		for _, step := range []func() error{s.tree, s.lastPID, s.openPIDMax, s.setPIDMax} {
			must(t, step())
		}
		got, err := tracee.Sysctl(s.root.Thread.Runner(s.root.Site, "vpid 1"), container.PIDMaxName)
		if got != tt.want || err != nil || tt.warns != strings.Contains(log.String(), "kernel.pid_max cannot be as low") {
			t.Errorf("was %d: %d, %v, want %d\n%s", tt.was, got, err, tt.want, log.String())
		}
	}
}

func TestExpectPIDMax(t *testing.T) {
	own, err := procfs.Sysctl(container.PIDMaxName)
	must(t, err)
	row := func(vpid int) []tree.Row { return []tree.Row{{VPID: 2, Threads: []pidns.VPID{2, pidns.VPID(vpid)}}} }
	if got, err := expectPIDMax(row(own - 1)); err != nil || got != own {
		t.Errorf("for an id below ckpt's own %d: %d, %v", own, got, err)
	}
	want := own
	if kindtest.Since(t, "6.14") {
		want = container.GreatestPIDMax
	}
	if got, err := expectPIDMax(row(own)); err != nil || got != want {
		t.Errorf("for an id as high as ckpt's own %d: %d, %v; want %d", own, got, err, want)
	}
}
