package sched

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/kindtest"
)

func TestPolicies(t *testing.T) {
	one := unix.NewCPUSet(mostCPUs)
	one.Set(0)
	const ioBestEffort3 = 2<<13 | 3
	for _, c := range []struct {
		name  string
		attr  unix.SchedAttr
		cpus  unix.CPUSetDynamic
		io    int
		slack uint64
	}{
		{name: "other", attr: unix.SchedAttr{Nice: 7}, slack: 12345},
		{name: "high", attr: unix.SchedAttr{Nice: -3}, io: ioBestEffort3},
		{name: "batch", attr: unix.SchedAttr{Policy: unix.SCHED_BATCH, Nice: 5, Flags: 1}},
		{name: "idle", attr: unix.SchedAttr{Policy: unix.SCHED_IDLE}, cpus: one},
		{name: "slice", attr: unix.SchedAttr{Runtime: 5_000_000}},
		{name: "fifo", attr: unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: 3}, cpus: one},
		{name: "rr", attr: unix.SchedAttr{Policy: unix.SCHED_RR, Priority: 1}},
		{name: "deadline", attr: unix.SchedAttr{Policy: unix.SCHED_DEADLINE, Runtime: 1_000_000, Deadline: 20_000_000, Period: 30_000_000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := kindtest.NewBare(t)
			tid := b.Thread.TID
			if c.cpus != nil {
				if err := unix.SchedSetaffinityDynamic(tid, c.cpus); err != nil {
					t.Fatal(err)
				}
			}
			if c.slack != 0 {
				b.Call(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, c.slack)
			}
			if _, _, e := unix.RawSyscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(tid), uintptr(c.io)); e != 0 {
				t.Fatal(e)
			}
			if err := unix.SchedSetAttr(tid, &c.attr, 0); err != nil {
				t.Fatal(err)
			}
			first := save(t, b)

			fresh := kindtest.NewBare(t)
			if err := fresh.Rebuild(kindtest.Kinds{Threads: []kind.Thread{Kind()}}, first); err != nil {
				t.Fatal(err)
			}
			tt := &kind.TargetThread{Traced: fresh.Thread, Core: first.Threads[0].Core, Extra: first.Threads[0].Extra}
			if err := Kind().Final(fresh.Site, nil, tt); err != nil {
				t.Fatal(err)
			}
			again := save(t, fresh)
			if d := cmp.Diff(first.Threads[0].Core, again.Threads[0].Core, protocmp.Transform()); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(first.Threads[0].Extra, again.Threads[0].Extra, protocmp.Transform()); d != "" {
				t.Error(d)
			}
			got, err := unix.SchedGetAttr(tid, 0)
			if err != nil {
				t.Fatal(err)
			}
			want, err := unix.SchedGetAttr(fresh.Thread.TID, 0)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func save(t *testing.T, b *kindtest.Bare) *kind.Proc {
	t.Helper()
	p, err := b.Save(kindtest.Kinds{Threads: []kind.Thread{Kind()}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestImpossibleHere(t *testing.T) {
	b := kindtest.NewBare(t)
	p := save(t, b)
	far := unix.NewCPUSet(mostCPUs)
	far.Set(mostCPUs - 1)
	extra := proto.CloneOf(p.Threads[0].Extra)
	extra.Affinity = encode(far)
	tt := &kind.TargetThread{Traced: b.Thread, Core: p.Threads[0].Core, Extra: extra, Script: b.Script()}
	err := Kind().Restore(&kind.Restore{Log: slog.New(slog.DiscardHandler)}, nil, tt)
	if !errors.Is(err, failure.ErrIncompatible) || len(failure.Hints(err)) != 1 {
		t.Errorf("affinity: %v, hints %q", err, failure.Hints(err))
	}
	err = notRaised("nice value -5", unix.EACCES)
	if !errors.Is(err, failure.ErrUnsupported) || err.Error() != "set nice value -5: permission denied" {
		t.Errorf("nice value: %v", err)
	}
}

func TestList(t *testing.T) {
	for want, cpus := range map[string][]int{"": nil, "0": {0}, "0-3": {0, 1, 2, 3}, "1-2,5,8191": {1, 2, 5, 8191}} {
		set := unix.NewCPUSet(mostCPUs)
		for _, c := range cpus {
			set.Set(c)
		}
		if got := list(set); got != want {
			t.Errorf("list of %v is %q", cpus, got)
		}
		if got := list(decode(encode(set))); got != want {
			t.Errorf("%q comes back as %q", want, got)
		}
	}
	x := &image.Thread{}
	if list(decode(x.GetAffinity())) != "" {
		t.Error("no affinity is not none")
	}
}
