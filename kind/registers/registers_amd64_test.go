package registers

import (
	"encoding/binary"
	"errors"
	"testing"

	core_x86 "github.com/checkpoint-restore/go-criu/v7/crit/images/core-x86"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/tracee"
)

// TestOwnState takes everything but the registers away from a thread and
// gives it back.
func TestOwnState(t *testing.T) {
	b := kindtest.NewBare(t)
	s := b.Script()
	stack := make([]byte, stackSize)
	binary.LittleEndian.PutUint64(stack, b.Site.Base+0x10000)
	binary.LittleEndian.PutUint64(stack[16:], 0x4000)
	s.Must(unix.SYS_SIGALTSTACK, s.Data(stack), 0)
	s.Must(unix.SYS_SET_TID_ADDRESS, b.Site.Base+0x8000)
	s.Must(unix.SYS_SET_ROBUST_LIST, b.Site.Base+0x8100, robustListSize)
	const rseqSize, signature = 32, 0x53053053
	rseqAt := (b.Site.Base + 0x8200) &^ (rseqSize - 1)
	s.Must(unix.SYS_RSEQ, rseqAt, rseqSize, 0, signature)
	s.Must(unix.SYS_PRCTL, unix.PR_SET_NAME, s.Str("a name\n"))
	b.Run(s)
	save := func() *kind.Proc {
		t.Helper()
		p, err := b.Save(kindtest.Kinds{Threads: []kind.Thread{withRegs(t, b, Kind())}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := save()
	tc := first.Threads[0].Core.ThreadCore
	if tc.GetComm() != "a name\n" || tc.GetSas().GetSsSize() != 0x4000 || tc.GetFutexRla() != b.Site.Base+0x8100 ||
		tc.GetRseqEntry().GetSignature() != signature || first.Threads[0].Core.ThreadInfo.GetClearTidAddr() != b.Site.Base+0x8000 {
		t.Errorf("saved %v", first.Threads[0].Core)
	}

	s = b.Script()
	binary.LittleEndian.PutUint32(stack[8:], disabled)
	s.Must(unix.SYS_SIGALTSTACK, s.Data(stack), 0)
	s.Must(unix.SYS_SET_TID_ADDRESS, 0)
	s.Must(unix.SYS_SET_ROBUST_LIST, 0, robustListSize)
	const unregister = 1 // RSEQ_FLAG_UNREGISTER
	s.Must(unix.SYS_RSEQ, rseqAt, rseqSize, unregister, signature)
	s.Must(unix.SYS_PRCTL, unix.PR_SET_NAME, s.Str("other"))
	b.Run(s)
	if p := save(); cmp.Equal(p.Threads[0].Core, first.Threads[0].Core, protocmp.Transform()) {
		t.Error("nothing has changed")
	}
	if err := b.Rebuild(kindtest.Kinds{Threads: []kind.Thread{Kind()}}, first); err != nil {
		t.Fatal(err)
	}
	again := save()
	for _, p := range []*kind.Proc{first, again} { // scripts of other lengths leave other general registers
		p.Threads[0].Core.ThreadInfo.Gpregs = nil
	}
	// The processor may or may not track that a component is as at the start (XINUSE).
	inUse := protocmp.IgnoreFields(&core_x86.UserX86XsaveEntry{}, "xstate_bv")
	if d := cmp.Diff(first.Threads[0].Core, again.Threads[0].Core, protocmp.Transform(), inUse); d != "" {
		t.Error(d)
	}
}

// withRegs fills in the task's registers, which is the driver's work.
func withRegs(t *testing.T, b *kindtest.Bare, k kind.Thread) kind.Thread {
	observe := k.Observe
	k.Observe = func(d *kind.Dump, p *kind.Proc, task *kind.Task) (err error) {
		if task.Regs, err = b.Thread.Regs(); err != nil {
			t.Fatal(err)
		}
		return observe(d, p, task)
	}
	return k
}

func TestFinalSetsRegisters(t *testing.T) {
	b := kindtest.NewBare(t)
	k := withRegs(t, b, Kind())
	p, err := b.Save(kindtest.Kinds{Threads: []kind.Thread{k}})
	if err != nil {
		t.Fatal(err)
	}
	task := p.Threads[0]
	want := task.Regs
	want.Rax, want.Rbx, want.R15, want.Rsp, want.Fs_base, want.Eflags = 1, 2, 3, 0x7ffd00000000, 0x10000, 0xa97
	task.Core.ThreadInfo.Gpregs = encodeRegs(want)
	x := task.Extra.Xstate
	for i := range x[fxXMM : fxXMM+256] {
		x[fxXMM+i] = byte(i)
	}
	x[xheader] |= legacy
	const mask = 0xf0f0<<16 | 1
	*task.Core.ThreadCore.BlkSigset = mask
	tt := &kind.TargetThread{Traced: b.Thread, Core: task.Core, Extra: task.Extra}
	if err := k.Final(b.Site, nil, tt); err != nil {
		t.Fatal(err)
	}
	got, err := b.Thread.Regs()
	if err != nil {
		t.Fatal(err)
	}
	want.Eflags &^= 1 << 9 // the kernel keeps what a program cannot set
	got.Eflags &^= 1 << 9
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	y, err := b.Thread.XState()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(x[fxXMM:fxXMM+256], y[fxXMM:fxXMM+256]); d != "" {
		t.Error(d)
	}
	if m, err := b.Thread.SigMask(); m != mask || err != nil {
		t.Errorf("mask %#x, %v", m, err)
	}
}

// TestXStateFields: CRIU's fields alone give the whole state again.
func TestXStateFields(t *testing.T) {
	b := kindtest.NewBare(t)
	x, err := b.Thread.XState()
	if err != nil {
		t.Fatal(err)
	}
	at := tracee.XComponents()
	used := uint64(legacy)
	for bit, c := range at {
		if c.Size == 0 || criuComponents>>bit&1 == 0 {
			continue
		}
		used |= 1 << bit
		for i := range x[c.Offset : c.Offset+c.Size] {
			x[int(c.Offset)+i] = byte(i + bit)
		}
	}
	if used == legacy {
		t.Fatal("this processor has no components to test with")
	}
	for i := range x[fxST:416] {
		x[fxST+i] = byte(i * 7)
	}
	binary.LittleEndian.PutUint64(x[xheader:], used)
	e := encodeXState(x, at)
	y, err := decodeXState(e, x, at)
	if err != nil {
		t.Fatal(err)
	}
	for i := range x { // bytes 416 to 463 of FXSAVE are nobody's
		if x[i] != y[i] && (i < 416 || i >= fxReserved) {
			t.Fatalf("byte %d of %d is %#x, was %#x", i, len(x), y[i], x[i])
		}
	}
	at[compAVX] = tracee.XComponent{}
	if _, err := decodeXState(e, x, at); !errors.Is(err, failure.ErrIncompatible) {
		t.Errorf("on a processor without AVX: %v", err)
	}
	if _, err := checkXState(x, at); !errors.Is(err, failure.ErrIncompatible) {
		t.Errorf("check for a processor without AVX: %v", err)
	}
	x[xheader+2] |= 1 << (xtileData - 16)
	if err := carriesAll(x, e); !errors.Is(err, failure.ErrIncompatible) {
		t.Errorf("AMX state in another layout: %v", err)
	}
}

func TestCallThroughImage(t *testing.T) {
	r := tracee.Regs{Rip: 0x1000, Orig_rax: 7, Rdi: 5}
	for _, c := range []struct {
		code    int
		rax     int64
		wantRip uint64
		wantRax uint64
	}{
		{sys, -sys, 0xffe, 7},
		{noIntr, -noIntr, 0xffe, 7},
		{noHand, -noHand, 0xffe, 7},
		{restartBlock, -restartBlock, 0x1000, negative(4)},
		{0, 3, 0x1000, 3},
	} {
		r.Rax = uint64(c.rax)
		if got := interrupted(r); got != c.code {
			t.Errorf("rax %d: code %d, want %d", c.rax, got, c.code)
		}
		k := call{nr: 7, code: c.code}
		m := k.madeAgain(r)
		if m.Rip != c.wantRip || m.Rax != c.wantRax {
			t.Errorf("code %d: made again with rip %#x rax %#x", c.code, m.Rip, m.Rax)
		}
		kept, back := callFrom(&image.Thread{Restart: uint32(c.code), RestartNr: 7}, decodeRegs(encodeRegs(m)))
		if d := cmp.Diff(r, back); d != "" || c.code != 0 && kept.code != c.code {
			t.Errorf("code %d: came back as %d: %s", c.code, kept.code, d)
		}
	}
}

func TestSameCall(t *testing.T) {
	r := tracee.Regs{Orig_rax: 230, Rdi: 1, Rsi: 0, Rdx: 0x7ffe, R10: 0, R8: 2, R9: 3, Rsp: 0x7fff, Rip: 0x401000}
	const line = "230 0x1 0x0 0x7ffe 0x0 0x2 0x3 0x7fff 0x401000"
	if !sameCall(line, r) {
		t.Error("not the same")
	}
	r.Rdx++
	for _, l := range []string{line, "running", "", "-1 0x7fff 0x401000"} {
		if sameCall(l, r) {
			t.Errorf("%q is the same", l)
		}
	}
}
