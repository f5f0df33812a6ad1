package sigaction

import (
	"encoding/binary"
	"errors"
	"testing"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	criu_sa "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-sa"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/tracee"
)

const base = 0x10000

// fake is what a process would answer: every field tells its signal.
func fake(sig int) *criu_sa.SaEntry {
	return &criu_sa.SaEntry{Sigaction: proto.Uint64(uint64(sig)), Flags: proto.Uint64(uint64(sig) << 8),
		Restorer: proto.Uint64(uint64(sig) << 16), Mask: proto.Uint64(uint64(sig) << 24)}
}

func TestAsk(t *testing.T) {
	s := tracee.NewScript(base)
	p := &kind.Proc{TC: &criu_core.TaskCoreEntry{}}
	read, err := ask(nil, p, s)
	if err != nil {
		t.Fatal(err)
	}
	if s.Len() != 62 {
		t.Errorf("%d calls", s.Len())
	}
	for sig := 1; sig <= 64; sig++ {
		copy(s.Bytes(slot(base, sig), actionSize), encode(fake(sig)))
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}
	var want []*criu_sa.SaEntry
	for sig := 1; sig <= 64; sig++ {
		if sig != 9 && sig != 19 {
			want = append(want, fake(sig))
		}
	}
	if d := cmp.Diff(want, p.TC.Sigactions, protocmp.Transform()); d != "" {
		t.Error(d)
	}
}

func TestRestore(t *testing.T) {
	main := tracee.NewScript(base)
	tgt := &kind.Target{TC: &criu_core.TaskCoreEntry{}, Main: main, OwnsSighand: true}
	for sig := 1; sig <= 64; sig++ {
		if !fixed(sig) {
			tgt.TC.Sigactions = append(tgt.TC.Sigactions, fake(sig))
		}
	}
	if err := restore(nil, tgt); err != nil {
		t.Fatal(err)
	}
	if main.Len() != 62 {
		t.Errorf("%d calls", main.Len())
	}
	// The 60th action is that of SIGRTMAX-4, two behind for the two that have none.
	b := main.Bytes(base+57*actionSize, actionSize)
	if got := binary.LittleEndian.Uint64(b); got != 60 {
		t.Errorf("handler %d", got)
	}

	tgt.TC.Sigactions = tgt.TC.Sigactions[:61]
	if err := restore(nil, tgt); !errors.Is(err, failure.ErrDamaged) {
		t.Errorf("61 actions: %v", err)
	}
	tgt.OwnsSighand = false
	if err := restore(nil, tgt); err != nil {
		t.Errorf("shared with an earlier process: %v", err)
	}
}

func TestRestore32Bit(t *testing.T) {
	tgt := &kind.Target{TC: &criu_core.TaskCoreEntry{}, Main: tracee.NewScript(base), OwnsSighand: true}
	for range 62 {
		tgt.TC.Sigactions = append(tgt.TC.Sigactions, &criu_sa.SaEntry{CompatSigaction: proto.Bool(true)})
	}
	if err := restore(nil, tgt); !errors.Is(err, failure.ErrUnsupported) {
		t.Error(err)
	}
}

// From one process into another, by the kernel's own answer.
func TestRoundTrip(t *testing.T) {
	kinds := kindtest.Kinds{Processes: []kind.Process{Kind()}}
	first, second := kindtest.NewBare(t), kindtest.NewBare(t)
	p, err := first.Save(kinds)
	if err != nil {
		t.Fatal(err)
	}
	const siginfo, restart, restorer, noCldWait = 0x4, 0x10000000, 0x04000000, 0x2 // SA_SIGINFO ...
	p.TC.Sigactions[0] = &criu_sa.SaEntry{Sigaction: proto.Uint64(0x1234000), Flags: proto.Uint64(restorer | siginfo | restart),
		Restorer: proto.Uint64(0x5678000), Mask: proto.Uint64(1 << 62)}
	p.TC.Sigactions[15] = &criu_sa.SaEntry{Sigaction: proto.Uint64(0), Flags: proto.Uint64(noCldWait), Restorer: proto.Uint64(0), Mask: proto.Uint64(0)}
	p.TC.Sigactions[61] = &criu_sa.SaEntry{Sigaction: proto.Uint64(1), Flags: proto.Uint64(0), Restorer: proto.Uint64(0), Mask: proto.Uint64(0)}
	if err := second.Rebuild(kinds, p); err != nil {
		t.Fatal(err)
	}
	got, err := second.Save(kinds)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(p.TC, got.TC, protocmp.Transform()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if st := got.Status; st.SigCgt != 1<<0 || st.SigIgn>>63 != 1 {
		t.Errorf("caught %x, ignored %x", st.SigCgt, st.SigIgn)
	}
}
