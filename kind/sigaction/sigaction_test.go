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
