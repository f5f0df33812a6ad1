package taskmisc

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/procfs"
)

func kinds() kindtest.Kinds {
	p, t := New()
	return kindtest.Kinds{Processes: []kind.Process{p}, Threads: []kind.Thread{t}}
}

func save(t *testing.T, b *kindtest.Bare) *kind.Proc {
	t.Helper()
	p, err := b.Save(kinds())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRoundTrip(t *testing.T) {
	type test struct {
		name   string
		change func(*criu_core.TaskCoreEntry, *image.Task, *image.Thread)
	}
	tests := []test{
		{"as the child is", func(*criu_core.TaskCoreEntry, *image.Task, *image.Thread) {}},
		{"oom_score_adj", func(tc *criu_core.TaskCoreEntry, _ *image.Task, _ *image.Thread) { tc.OomScoreAdj = proto.Int32(300) }},
		{"login id", func(tc *criu_core.TaskCoreEntry, _ *image.Task, _ *image.Thread) { tc.Loginuid = proto.Uint32(1234) }},
		{"subreaper", func(tc *criu_core.TaskCoreEntry, _ *image.Task, _ *image.Thread) {
			tc.ChildSubreaper = proto.Bool(true)
		}},
		{"core dump filter", func(_ *criu_core.TaskCoreEntry, e *image.Task, _ *image.Thread) { e.CoredumpFilter = proto.Uint32(0) }},
		{"huge pages off", func(_ *criu_core.TaskCoreEntry, e *image.Task, _ *image.Thread) { e.ThpDisabled = 1 }},
		{"membarrier, all", func(tc *criu_core.TaskCoreEntry, e *image.Task, _ *image.Thread) {
			setMembarrier(tc, e, membarrierRegister)
		}},
		{"personality", func(tc *criu_core.TaskCoreEntry, _ *image.Task, e *image.Thread) {
			tc.Personality, e.Personality = proto.Uint32(0x0040000), proto.Uint32(0x0040000) // ADDR_NO_RANDOMIZE
		}},
		{"time stamp counter", func(_ *criu_core.TaskCoreEntry, _ *image.Task, e *image.Thread) { e.Tsc = tscSIGSEGV }},
		{"machine checks", func(_ *criu_core.TaskCoreEntry, _ *image.Task, e *image.Thread) { e.MceKill = proto.Uint32(1) }},
		{"memory policy", func(_ *criu_core.TaskCoreEntry, _ *image.Task, e *image.Thread) {
			e.Mempolicy, e.MempolicyNodes = 2, []byte{1} // MPOL_BIND to node 0
		}},
	}
	if kindtest.Since(t, "6.3") { // before, all that there is counts as registered, and there is no MDWE
		tests = append(tests,
			test{"membarrier", func(tc *criu_core.TaskCoreEntry, e *image.Task, _ *image.Thread) { setMembarrier(tc, e, 1<<4|1<<2) }},
			test{"mdwe", func(_ *criu_core.TaskCoreEntry, e *image.Task, _ *image.Thread) { e.Mdwe = 1 }})
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			src := save(t, kindtest.NewBare(t))
			c.change(src.TC, src.Extra, src.Threads[0].Extra)
			second := kindtest.NewBare(t)
			if err := second.Rebuild(kinds(), src); err != nil {
				t.Fatal(err)
			}
			got := save(t, second)
			got.TC.Flags = src.TC.Flags
			if d := cmp.Diff(src.TC, got.TC, protocmp.Transform()); d != "" {
				t.Errorf("process (-want +got):\n%s", d)
			}
			if d := cmp.Diff(src.Extra, got.Extra, protocmp.Transform()); d != "" {
				t.Errorf("process, ours (-want +got):\n%s", d)
			}
			if d := cmp.Diff(src.Threads[0].Extra, got.Threads[0].Extra, protocmp.Transform()); d != "" {
				t.Errorf("thread (-want +got):\n%s", d)
			}
		})
	}
}

// A login id stays that of whoever restores; this is said.
func TestLoginIDIsKept(t *testing.T) {
	b := kindtest.NewBare(t)
	src := save(t, b)
	src.TC.Loginuid = proto.Uint32(1234)
	if err := b.Rebuild(kinds(), src); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	b.Restore.Log = slog.New(slog.NewTextHandler(&log, nil))
	src.TC.Loginuid = proto.Uint32(5678)
	if err := b.Rebuild(kinds(), src); err != nil {
		t.Fatal(err)
	}
	if got := save(t, b); got.TC.GetLoginuid() != 1234 || !strings.Contains(log.String(), "audit login id") {
		t.Errorf("login id %d, log %q", got.TC.GetLoginuid(), log.String())
	}
}

func TestRefuse(t *testing.T) {
	for _, c := range []struct {
		name string
		st   procfs.Status
		stat procfs.Stat
		ok   bool
	}{
		{"plain", procfs.Status{UntagMask: 1<<64 - 1}, procfs.Stat{Flags: 0x400000}, true},
		{"old kernel", procfs.Status{}, procfs.Stat{}, true},
		{"shadow stack", procfs.Status{X86ThreadFeatures: "shstk wrss"}, procfs.Stat{}, false},
		{"address masking", procfs.Status{UntagMask: 1<<64 - 1 - 0x3f<<57}, procfs.Stat{}, false},
		{"one of the two flags", procfs.Status{}, procfs.Stat{Flags: 0x80000}, true},
		{"io flusher", procfs.Status{}, procfs.Stat{Flags: ioFlusher | 0x40}, false},
	} {
		err := refuse(&c.st, &c.stat)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, failure.ErrUnsupported) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestChosen(t *testing.T) {
	for _, c := range []struct {
		which int
		v     uint32
		want  uint32
	}{
		{specStoreBypass, specPrctl | specEnable, 0},
		{specStoreBypass, specPrctl | specDisable, specDisable},
		{specStoreBypass, specPrctl | specNoExec, specNoExec},
		{specIndirect, specPrctl | specForceDisable, specForceDisable},
		{specIndirect, specEnable, 0},
		{specIndirect, specDisable, 0}, // by the machine, not by the thread
		{specL1D, specPrctl | specDisable, 0},
		{specL1D, specPrctl | specEnable, specEnable},
		{specL1D, specForceDisable, 0},
		{7, specPrctl | specDisable, 0},
	} {
		if got := chosen(c.which, c.v); got != c.want {
			t.Errorf("%d, %#x: %#x, want %#x", c.which, c.v, got, c.want)
		}
	}
}

// What only root of the machine may do is said and does not fail the restore.
func TestOOMNotLowered(t *testing.T) {
	b := kindtest.NewBare(t)
	src := save(t, b)
	src.TC.OomScoreAdj = proto.Int32(-900)
	var log bytes.Buffer
	b.Restore.Log = slog.New(slog.NewTextHandler(&log, nil))
	if err := b.Rebuild(kinds(), src); err != nil {
		t.Fatal(err)
	}
	got, said := save(t, b).TC.GetOomScoreAdj(), strings.Contains(log.String(), "oom_score_adj")
	if lowered := got == -900; lowered == said {
		t.Errorf("%d, log %q", got, log.String())
	}
}

func TestShadowStackIsExplained(t *testing.T) {
	err := refuse(&procfs.Status{X86ThreadFeatures: "shstk"}, &procfs.Stat{})
	if len(failure.Hints(err)) != 1 || !strings.Contains(err.Error(), "shadow stack (shstk)") {
		t.Errorf("%v %q", err, failure.Hints(err))
	}
}

func TestCoreSchedulingIsExplained(t *testing.T) {
	if err := checkCore(0); err != nil {
		t.Error(err)
	}
	if err := checkCore(0x5eed); len(failure.Hints(err)) != 1 || !strings.Contains(err.Error(), "PR_SCHED_CORE") {
		t.Errorf("%v %q", err, failure.Hints(err))
	}
}
