package pending

import (
	"encoding/binary"
	"errors"
	"runtime"
	"syscall"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/siginfo"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/tracee"
)

const sigrtmin = 34

func kinds() kindtest.Kinds {
	shared, own := New()
	return kindtest.Kinds{Processes: []kind.Process{shared}, Threads: []kind.Thread{own}}
}

// info is a siginfo with a value, and something in its padding.
func info(sig, code int32, value uint64) []byte {
	b := make([]byte, infoSize)
	le := binary.LittleEndian
	le.PutUint32(b, uint32(sig))
	le.PutUint32(b[8:], uint32(code))
	le.PutUint32(b[12:], 0xdeadbeef)
	le.PutUint32(b[16:], 4711)
	le.PutUint32(b[20:], 815)
	le.PutUint64(b[24:], value)
	return b
}

func TestQueues(t *testing.T) {
	const siQueue, siKernel, cldExited = -1, 0x80, 1
	b := kindtest.NewBare(t)
	// SIGURG is by what the tests' scripts would tell their end.
	if err := b.Thread.BlockSignals(1 << (uint(unix.SIGURG) - 1)); err != nil {
		t.Fatal(err)
	}
	pid := uint64(b.Thread.PID)
	s := b.Script()
	for i, sig := range []int32{sigrtmin + 3, sigrtmin + 3, int32(unix.SIGTERM), int32(unix.SIGURG)} {
		s.Must(unix.SYS_RT_SIGQUEUEINFO, pid, uint64(sig), s.Data(info(sig, siQueue, uint64(i)<<32|7)))
	}
	for i, sig := range []int32{int32(unix.SIGCHLD), sigrtmin + 3, int32(unix.SIGUSR1)} {
		s.Must(unix.SYS_RT_TGSIGQUEUEINFO, pid, pid, uint64(sig), s.Data(info(sig, []int32{cldExited, siQueue, siKernel}[i], uint64(i))))
	}
	b.Run(s)
	save := func() *kind.Proc {
		t.Helper()
		p, err := b.Save(kinds())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := save()
	for _, e := range first.TC.SignalsS.Signals {
		if pad := binary.LittleEndian.Uint32(e.Siginfo[12:]); pad != 0xdeadbeef {
			t.Errorf("the padding of a siginfo is %#x", pad)
		}
	}
	if n, m := len(first.TC.SignalsS.Signals), len(first.Threads[0].Core.ThreadCore.SignalsP.Signals); n != 4 || m != 3 {
		t.Fatalf("saved %d shared signals and %d of the thread", n, m)
	}

	s = b.Script()
	all, none := s.Data([]byte{255, 255, 255, 255, 255, 255, 255, 255}), s.Space(16)
	for range 7 {
		s.Must(unix.SYS_RT_SIGTIMEDWAIT, all, 0, none, 8)
	}
	b.Run(s)
	if p := save(); len(p.TC.SignalsS.Signals)+len(p.Threads[0].Core.ThreadCore.SignalsP.Signals) != 0 {
		t.Fatal("signals are left")
	}
	if err := b.Rebuild(kinds(), first); err != nil {
		t.Fatal(err)
	}
	again := save()
	if d := cmp.Diff(first.TC, again.TC, protocmp.Transform()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(first.Threads[0].Core, again.Threads[0].Core, protocmp.Transform()); d != "" {
		t.Error(d)
	}
}

// TestSenderIsVirtual: the kernel queues the sender's id as the receiver sees
// it, so that a siginfo may be kept word for word.
func TestSenderIsVirtual(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	init, site, err := tracee.StartStub(tracee.StubOptions{Attr: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}})
	if err != nil {
		t.Fatal(err)
	}
	var all []*tracee.Thread
	defer func() {
		if err := init.Kill(); err != nil {
			t.Error(err)
		}
		for _, c := range all {
			_, _ = unix.Wait4(c.PID, nil, unix.WALL, nil)
		}
	}()
	for _, vpid := range []int{50, 60} {
		c, err := tracee.ForkStub(init, site, tracee.ForkOptions{VPID: vpid})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Kill()
		all = append(all, c)
	}
	if _, err := all[0].Syscall(site, unix.SYS_KILL, 60, uint64(unix.SIGUSR1)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(all[1].PID, unix.SIGUSR2); err != nil { // from outside
		t.Fatal(err)
	}
	infos, err := all[1].Pending(true)
	if err != nil || len(infos) != 2 {
		t.Fatalf("%d pending, %v", len(infos), err)
	}
	for i, want := range []uint32{50, 0} {
		if got := binary.LittleEndian.Uint32(infos[i][16:]); got != want {
			t.Errorf("si_pid is %d, want %d", got, want)
		}
	}
}

func TestDamaged(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 64), make([]byte, infoSize), info(65, 0, 0)} {
		q := &siginfo.SignalQueueEntry{Signals: []*siginfo.SiginfoEntry{{Siginfo: b}}}
		if err := each(&kind.Target{}, q, func(uint64, []byte) {}); !errors.Is(err, failure.ErrDamaged) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

// The signal of a timer that is made anew comes from the timer.
func TestOfTimer(t *testing.T) {
	var q siginfo.SignalQueueEntry
	for id := range uint32(3) {
		b := info(40, -2, 0) // SI_TIMER
		binary.LittleEndian.PutUint32(b[16:], id)
		q.Signals = append(q.Signals, &siginfo.SiginfoEntry{Siginfo: b})
	}
	var got []uint32
	target := &kind.Target{Extra: &image.Task{Timers: []*image.TimerDue{{Id: 1}}}}
	if err := each(target, &q, func(_ uint64, b []byte) { got = append(got, binary.LittleEndian.Uint32(b[16:])) }); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]uint32{0, 2}, got); d != "" {
		t.Error(d)
	}
}
