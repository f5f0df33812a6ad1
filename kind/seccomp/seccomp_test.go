package seccomp

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"testing"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/seccomp"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/procfs"
	"ckpt/tracee"
)

func insn(code uint16, k uint32) []byte {
	b := binary.NativeEndian.AppendUint16(nil, code)
	return binary.NativeEndian.AppendUint32(append(b, 0, 0), k)
}

const (
	load  = 0x20 // BPF_LD | BPF_W | BPF_ABS
	ret   = 0x06
	allow = 0x7fff0000
	errno = 0x00050000
)

// program is n loads, then a return.
func program(n int, k uint32) (p []byte) {
	for range n {
		p = append(p, insn(load, 0)...)
	}
	return append(p, insn(ret, k)...)
}

func kinds() kindtest.Kinds { return kindtest.Kinds{Threads: []kind.Thread{Kind()}} }

// saved takes what a bare child has through an image; r can then restore it.
func saved(t *testing.T, b *kindtest.Bare, r *kind.Restore) (*kind.Proc, []*seccomp.SeccompFilter) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "image")
	out, err := image.Create(dir, image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Abort()
	b.Dump.Out = out
	p, err := b.Save(kinds())
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Commit(&image.Manifest{Format: image.Version, Name: "test"}); err != nil {
		t.Fatal(err)
	}
	in, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	r.In = in
	m := &maker{}
	if err := m.load(r); err != nil {
		t.Fatal(err)
	}
	return p, m.all
}

// set installs filters in a bare child as a program would.
func set(b *kindtest.Bare, filters ...*seccomp.SeccompFilter) {
	s := b.Script()
	s.Must(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	for _, f := range filters {
		install(s, f.GetFilter(), uint64(f.GetFlags()), "")
	}
	b.Run(s)
}

func TestRoundTrip(t *testing.T) {
	first, second := kindtest.NewBare(t), kindtest.NewBare(t)
	// With the third nothing but write(2) is left: the calls of ckpt pass all the same.
	want := []*seccomp.SeccompFilter{
		{Filter: program(0, allow), Flags: proto.Uint32(0)},
		{Filter: program(1, allow), Flags: proto.Uint32(unix.SECCOMP_FILTER_FLAG_LOG), Prev: proto.Uint32(0)},
		{Filter: program(2, errno|1), Flags: proto.Uint32(0), Prev: proto.Uint32(1)},
	}
	set(first, want...)
	p, got := saved(t, first, second.Restore)
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Fatalf("saved (-want +got):\n%s", d)
	}
	core := p.Threads[0].Core.ThreadCore
	if core.GetSeccompMode() != criu_core.SeccompMode_filter || core.GetSeccompFilter() != 2 {
		t.Errorf("%v", core)
	}
	if err := second.Rebuild(kinds(), p); err != nil {
		t.Fatal(err)
	}
	p, got = saved(t, second, second.Restore)
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Errorf("restored (-want +got):\n%s", d)
	}
	if n := p.Threads[0].Status.SeccompFilters; n != 3 {
		t.Errorf("%d filters", n)
	}
}

func TestStrict(t *testing.T) {
	b := kindtest.NewBare(t)
	core := &criu_core.ThreadCoreEntry{SeccompMode: criu_core.SeccompMode_strict.Enum()}
	p := &kind.Proc{Threads: []*kind.Task{{Core: &criu_core.CoreEntry{ThreadCore: core}, Extra: &image.Thread{}}}}
	if err := b.Rebuild(kinds(), p); err != nil {
		t.Fatal(err)
	}
	p, err := b.Save(kinds())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(core, p.Threads[0].Core.ThreadCore, protocmp.Transform()); d != "" {
		t.Error(d)
	}
}

// Threads and processes with the same history share entries.
func TestIntern(t *testing.T) {
	s := &saver{ids: map[link]uint32{}}
	a := s.intern(link{-1, "a", 0})
	ab := s.intern(link{int(a), "b", 0})
	if s.intern(link{-1, "a", 0}) != a || s.intern(link{int(a), "b", 0}) != ab {
		t.Error("the same history twice")
	}
	for _, l := range []link{{-1, "b", 0}, {int(ab), "b", 0}, {int(a), "b", 2}} {
		if id := s.intern(l); id == a || id == ab {
			t.Errorf("%v is not what was there", l)
		}
	}
	if len(s.all) != 5 {
		t.Errorf("%d entries", len(s.all))
	}
}

func TestCheck(t *testing.T) {
	if err := check(program(3, allow)); err != nil {
		t.Error(err)
	}
	if err := check(append(program(1, 0x7fc00000), insn(ret, allow)...)); !errors.Is(err, failure.ErrUnsupported) {
		t.Errorf("a supervisor: %v", err)
	}
}

func TestRefuse(t *testing.T) {
	s := &saver{ids: map[link]uint32{}}
	for _, c := range []struct {
		mode                 int
		privileged, suspends bool
		ok                   bool
	}{
		{-1, false, false, true}, {0, false, false, true}, {1, false, false, false}, {2, false, false, false},
		{2, true, false, false}, {2, true, true, true}, {3, true, true, false},
	} {
		err := s.observe(&kind.Dump{Privileged: c.privileged, SuspendsSeccomp: c.suspends}, nil, &kind.Task{Status: &procfs.Status{Seccomp: c.mode}})
		if (err == nil) != c.ok || err != nil && !errors.Is(err, failure.ErrUnsupported) {
			t.Errorf("mode %d: %v", c.mode, err)
		}
	}
	core := &criu_core.CoreEntry{ThreadCore: &criu_core.ThreadCoreEntry{SeccompMode: criu_core.SeccompMode_filter.Enum()}}
	err := (&maker{}).restore(&kind.Restore{}, nil, &kind.TargetThread{Core: core, Script: tracee.NewScript(0)})
	if !errors.Is(err, failure.ErrUnsupported) || len(failure.Hints(err)) == 0 {
		t.Errorf("restore by an ordinary user: %v", err)
	}
}

func TestDamagedChain(t *testing.T) {
	good := program(1, allow)
	for name, all := range map[string][]*seccomp.SeccompFilter{
		"none":           nil,
		"follows itself": {{Filter: good, Prev: proto.Uint32(0)}},
		"circle":         {{Filter: good, Prev: proto.Uint32(1)}, {Filter: good, Prev: proto.Uint32(0)}},
		"cut off":        {{Filter: good[:9]}},
		"empty":          {{}},
		"no such one":    {{Filter: good, Prev: proto.Uint32(9)}},
	} {
		if _, err := (&maker{all: all}).chain(0); !errors.Is(err, failure.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCommon(t *testing.T) {
	m := &maker{read: true, all: []*seccomp.SeccompFilter{
		{Filter: program(0, allow)},
		{Filter: program(1, allow), Prev: proto.Uint32(0)},
		{Filter: program(2, allow), Prev: proto.Uint32(0)},
		{Filter: program(2, allow), Prev: proto.Uint32(1)},
		{Filter: program(2, allow)},
	}}
	free := uint32(99) // no filter
	for _, c := range []struct {
		last []uint32
		want int
	}{
		{[]uint32{1}, 0}, {[]uint32{1, 1, 1}, 2}, {[]uint32{3, 1}, 2}, {[]uint32{1, 3}, 2}, {[]uint32{3, 2}, 1}, {[]uint32{0, 4}, 0},
		{[]uint32{1, free}, 0}, {[]uint32{free, 1}, 0},
	} {
		var threads []*kind.TargetThread
		for _, last := range c.last {
			core := &criu_core.ThreadCoreEntry{}
			if last != free {
				core.SeccompMode, core.SeccompFilter = criu_core.SeccompMode_filter.Enum(), proto.Uint32(last)
			}
			threads = append(threads, &kind.TargetThread{Core: &criu_core.CoreEntry{ThreadCore: core}})
		}
		if got, err := m.common(threads); err != nil || got != c.want {
			t.Errorf("%v: %d in common (%v), want %d", c.last, got, err, c.want)
		}
	}
}
