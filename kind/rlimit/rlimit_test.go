package rlimit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	criu_rlimit "github.com/checkpoint-restore/go-criu/v7/crit/images/rlimit"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// child is a process whose limits the test may change.
func child(t *testing.T) (pidns.HostPID, *procfs.Proc) {
	t.Helper()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := procfs.Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait(); p.Close() })
	return pidns.HostPID(cmd.Process.Pid), p
}

func limit(t *testing.T, pid pidns.HostPID, res int, l procfs.Limit) {
	t.Helper()
	if err := unix.Prlimit(int(pid), res, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestObserve(t *testing.T) {
	pid, fs := child(t)
	limit(t, pid, unix.RLIMIT_NOFILE, procfs.Limit{Soft: 100, Hard: 200})
	limit(t, pid, unix.RLIMIT_CORE, procfs.Limit{Soft: 0, Hard: 4096})
	p := &kind.Proc{FS: fs, TC: &criu_core.TaskCoreEntry{}}
	if err := observe(nil, p); err != nil {
		t.Fatal(err)
	}
	l := p.TC.Rlimits.Rlimits
	if len(l) != 16 {
		t.Fatalf("%d limits", len(l))
	}
	if n := l[unix.RLIMIT_NOFILE]; n.GetCur() != 100 || n.GetMax() != 200 {
		t.Errorf("NOFILE %v", n)
	}
	if n := l[unix.RLIMIT_CORE]; n.GetCur() != 0 || n.GetMax() != 4096 {
		t.Errorf("CORE %v", n)
	}
}

func TestRestore(t *testing.T) {
	pid, fs := child(t)
	limit(t, pid, unix.RLIMIT_NOFILE, procfs.Limit{Soft: 100, Hard: 200})
	limit(t, pid, unix.RLIMIT_FSIZE, procfs.Limit{Soft: procfs.Unlimited, Hard: procfs.Unlimited})
	have, err := fs.Limits()
	if err != nil {
		t.Fatal(err)
	}
	tc := &criu_core.TaskCoreEntry{Rlimits: &criu_core.TaskRlimitsEntry{}}
	for _, l := range have {
		tc.Rlimits.Rlimits = append(tc.Rlimits.Rlimits, &criu_rlimit.RlimitEntry{Cur: proto.Uint64(l.Soft), Max: proto.Uint64(l.Hard)})
	}
	// More files than the kernel allows anybody: nobody can raise to that.
	tc.Rlimits.Rlimits[unix.RLIMIT_NOFILE] = &criu_rlimit.RlimitEntry{Cur: proto.Uint64(150), Max: proto.Uint64(1 << 40)}
	tc.Rlimits.Rlimits[unix.RLIMIT_FSIZE] = &criu_rlimit.RlimitEntry{Cur: proto.Uint64(1), Max: proto.Uint64(2)}
	proc, err := os.Open("/proc")
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	var log bytes.Buffer
	r := &kind.Restore{HostProc: proc, Log: slog.New(slog.NewTextHandler(&log, nil))}
	tgt := &kind.Target{VPID: 3, Host: pid, TC: tc, Main: tracee.NewScript(0x20000), Late: tracee.NewScript(0x10000)}
	thread := func(dead bool) *kind.TargetThread {
		return &kind.TargetThread{Extra: &image.Thread{Dead: dead}, Last: tracee.NewScript(0x30000)}
	}
	first, last, dead := thread(false), thread(false), thread(true)
	tgt.Threads = []*kind.TargetThread{first, last, dead}
	l := &limits{signals: map[*kind.Target]procfs.Limit{}}
	if err := errors.Join(l.restore(r, tgt), l.restoreThread(r, tgt, first), l.restoreThread(r, tgt, last)); err != nil {
		t.Fatal(err)
	}
	if tgt.Main.Len() != 0 || tgt.Late.Len() != 15 || first.Last.Len() != 0 || last.Last.Len() != 1 {
		t.Errorf("%d early, %d late calls for 16 limits, %d and %d of threads", tgt.Main.Len(), tgt.Late.Len(), first.Last.Len(), last.Last.Len())
	}
	if s := log.String(); !strings.Contains(s, "Max open files") || !strings.Contains(s, "vpid=3") || strings.Contains(s, "file size") {
		t.Errorf("log: %s", s)
	}
	want := slices.Clone(have[:])
	want[unix.RLIMIT_FSIZE] = procfs.Limit{Soft: 1, Hard: 2}
	want[unix.RLIMIT_NOFILE] = procfs.Limit{Soft: 150, Hard: 200}
	for i, w := range slices.Delete(want, unix.RLIMIT_SIGPENDING, unix.RLIMIT_SIGPENDING+1) {
		b := tgt.Late.Bytes(0x10000+uint64(i)*16, 16)
		if got := (procfs.Limit{Soft: binary.LittleEndian.Uint64(b), Hard: binary.LittleEndian.Uint64(b[8:])}); got != w {
			t.Errorf("limit %d: %v, want %v", i, got, w)
		}
	}
	if after, err := fs.Limits(); err != nil || after != have {
		t.Errorf("changed before the last script: %v %v", after, err)
	}
}

// TestKeptOfMany: what is kept from many is told once, with how many they are, when the
// last that lives is rebuilt.
func TestKeptOfMany(t *testing.T) {
	var log bytes.Buffer
	r := &kind.Restore{Log: slog.New(slog.NewTextHandler(&log, nil))}
	l := &limits{}
	for vpid := range pidns.VPID(5) {
		r.Targets = append(r.Targets, &kind.Target{VPID: vpid + 2, Zombie: vpid == 4})
	}
	for _, tgt := range r.Targets[:4] {
		l.keep(kept{res: unix.RLIMIT_NOFILE, wants: 1000, have: 100, first: tgt.VPID, err: unix.EPERM})
		if tgt.VPID == 3 {
			l.keep(kept{res: unix.RLIMIT_NOFILE, wants: 2000, have: 100, first: tgt.VPID, err: unix.EPERM})
		}
		l.tell(r, tgt)
		if tgt.VPID < 5 && log.Len() > 0 {
			t.Errorf("told when %d is rebuilt: %s", tgt.VPID, &log)
		}
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.HasSuffix(lines[0], `vpid=2 limit="Max open files" wanted=1000 stays=100 err="operation not permitted" others=3`) ||
		!strings.HasSuffix(lines[1], `vpid=3 limit="Max open files" wanted=2000 stays=100 err="operation not permitted"`) {
		t.Errorf("log:\n%s", &log)
	}
}

func TestLowered(t *testing.T) {
	for _, c := range []struct {
		want procfs.Limit
		hard uint64
		out  procfs.Limit
	}{
		{procfs.Limit{Soft: 5, Hard: 100}, 10, procfs.Limit{Soft: 5, Hard: 10}},
		{procfs.Limit{Soft: 50, Hard: 100}, 10, procfs.Limit{Soft: 10, Hard: 10}},
		{procfs.Limit{Soft: procfs.Unlimited, Hard: procfs.Unlimited}, 10, procfs.Limit{Soft: 10, Hard: 10}},
	} {
		if got := lowered(c.want, c.hard); got != c.out {
			t.Errorf("%v under %d: %v", c.want, c.hard, got)
		}
	}
}

// From one process into another; hard limits only go down, for raising takes
// a capability that not every root has.
func TestRoundTrip(t *testing.T) {
	all, signals := New()
	kinds := kindtest.Kinds{Processes: []kind.Process{all}, Threads: []kind.Thread{signals}}
	first, second := kindtest.NewBare(t), kindtest.NewBare(t)
	pid := pidns.HostPID(first.Thread.PID)
	limit(t, pid, unix.RLIMIT_NOFILE, procfs.Limit{Soft: 3, Hard: 30}) // fewer than are open while restoring
	limit(t, pid, unix.RLIMIT_FSIZE, procfs.Limit{Soft: 0, Hard: 0})
	limit(t, pid, unix.RLIMIT_AS, procfs.Limit{Soft: 4096, Hard: 8192}) // less than it has
	limit(t, pid, unix.RLIMIT_SIGPENDING, procfs.Limit{Soft: 7, Hard: 70})
	limit(t, pid, unix.RLIMIT_RTTIME, procfs.Limit{Soft: 5, Hard: procfs.Unlimited})
	p, err := first.Save(kinds)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Rebuild(kinds, p); err != nil {
		t.Fatal(err)
	}
	got, err := second.Save(kinds)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(p.TC.Rlimits, got.TC.Rlimits, protocmp.Transform()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
