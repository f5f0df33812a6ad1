package tracee

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/procfs"
)

// stopped stops the leading thread of a target and goes into it.
func stopped(t *testing.T, g *target, change func(*Thread)) (*Thread, *Injection) {
	t.Helper()
	ts, err := stopAll(g.pid, []int{g.pid})
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(ts[0])
	}
	maps, err := mapsOf(g.pid)
	if err != nil {
		t.Fatal(err)
	}
	in, err := Inject(ts[0], maps, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	return ts[0], in
}

func out(t *testing.T, th *Thread, in *Injection) {
	t.Helper()
	if err := in.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := th.Detach(0); err != nil {
		t.Fatal(err)
	}
}

// TestGenuineDoneSignal: one that somebody sends while injected code runs is
// neither taken for the end nor lost.
func TestGenuineDoneSignal(t *testing.T) {
	lockThread(t)
	g := startTarget(t, "spin")
	var mask uint64
	th, in := stopped(t, g, func(th *Thread) {
		// the program waits for them all itself (sigwait(3))
		for _, sig := range doneSignals[:ignorable] {
			mask |= bit(sig)
		}
		if err := th.SetSigMask(mask); err != nil {
			t.Fatal(err)
		}
	})
	if err := unix.Kill(g.pid, th.done); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := askIDs(in, th); err != nil {
			t.Fatal(err)
		}
	}
	infos, err := th.Pending(true)
	if err != nil || len(infos) != 1 || binary.LittleEndian.Uint32(infos[0]) != uint32(th.done) {
		t.Errorf("pending before the end: %v, %v", infos, err)
	}
	out(t, th, in)
	var st *procfs.Status
	g.goesOn("spin")
	if st, err = statusOf(g.pid); err != nil {
		t.Fatal(err)
	}
	if st.SigPnd|st.ShdPnd != bit(unix.SIGURG) || st.SigBlk != mask {
		t.Errorf("pending %x and %x, blocked %x", st.SigPnd, st.ShdPnd, st.SigBlk)
	}
}

// TestFullQueue: where no more signals may be queued, the kernel keeps of the
// done signal its number alone. It is still known as ckpt's own.
func TestFullQueue(t *testing.T) {
	lockThread(t)
	g := startTarget(t, "spin")
	if err := unix.Prlimit(g.pid, unix.RLIMIT_SIGPENDING, &unix.Rlimit{}, nil); err != nil {
		t.Fatal(err)
	}
	th, in := stopped(t, g, func(th *Thread) {
		if err := th.SetSigMask(^uint64(0)); err != nil {
			t.Fatal(err)
		}
	})
	for range 3 {
		if err := askIDs(in, th); err != nil {
			t.Fatal(err)
		}
	}
	if infos, err := th.Pending(false); err != nil || len(infos) != 0 {
		t.Errorf("pending: %v, %v", infos, err)
	}
	out(t, th, in)
	g.goesOn("spin")
	if st, err := statusOf(g.pid); err != nil || st.SigPnd|st.ShdPnd != 0 {
		t.Errorf("pending %x and %x, %v", st.SigPnd, st.ShdPnd, err)
	}
}

// TestStopWhileInside: SIGSTOP cannot be blocked; it takes effect afterwards.
func TestStopWhileInside(t *testing.T) {
	lockThread(t)
	g := startTarget(t, "spin")
	th, in := stopped(t, g, nil)
	if err := unix.Kill(g.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := askIDs(in, th); err != nil {
			t.Fatal(err)
		}
	}
	out(t, th, in)
	g.isStopped()
	if err := unix.Kill(g.pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	g.goesOn("spin")
}

// TestContinuedWhileInside: a process that was stopped and let go on meanwhile
// goes on, and SIGCONT waits until then.
func TestContinuedWhileInside(t *testing.T) {
	lockThread(t)
	g := startTarget(t, "nanosleep", "spin")
	tids := tasks(t, g.pid)
	ts, err := stopAll(g.pid, tids)
	if err != nil {
		t.Fatal(err)
	}
	maps, err := mapsOf(g.pid)
	if err != nil {
		t.Fatal(err)
	}
	in, err := Inject(ts[0], maps, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ sig, stopped unix.Signal }{{unix.SIGSTOP, unix.SIGSTOP}, {unix.SIGCONT, 0}} {
		if err := unix.Kill(g.pid, c.sig); err != nil {
			t.Fatal(err)
		}
		for _, th := range ts {
			if err := askIDs(in, th); err != nil {
				t.Fatal(err)
			}
			if by := th.StoppedBy(); by != c.stopped {
				t.Errorf("thread %d, after %v: stopped by %v", th.TID, c.sig, by)
			}
		}
	}
	infos, err := ts[0].Pending(true)
	if err != nil || len(infos) != 1 || infos[0][0] != byte(unix.SIGCONT) {
		t.Errorf("pending: %v, %v", infos, err)
	}
	if err := in.Remove(); err != nil {
		t.Fatal(err)
	}
	for _, th := range ts {
		if err := th.Detach(0); err != nil {
			t.Fatal(err)
		}
	}
	g.goesOn("nanosleep", "spin")
}

// isStopped waits until the process is stopped.
func (g *target) isStopped() {
	g.t.Helper()
	for {
		st, err := statusOf(g.pid)
		if err != nil {
			g.t.Fatal(err)
		}
		if st.State == 'T' {
			return
		}
		runtime.Gosched()
	}
}

// TestGroupStop: a process that was stopped stays stopped.
func TestGroupStop(t *testing.T) {
	lockThread(t)
	g := startTarget(t, "nanosleep", "spin")
	if err := unix.Kill(g.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	g.isStopped()
	var ts []*Thread
	for _, tid := range tasks(t, g.pid) {
		th, err := Seize(tid, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := th.Interrupt(); err != nil {
			t.Fatal(err)
		}
		sig, err := th.WaitStopped()
		if err != nil || sig != unix.SIGSTOP {
			t.Errorf("group stop %v, %v", sig, err)
		}
		ts = append(ts, th)
	}
	maps, err := mapsOf(g.pid)
	if err != nil {
		t.Fatal(err)
	}
	in, err := Inject(ts[0], maps, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	for _, th := range ts {
		if err := askIDs(in, th); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Remove(); err != nil {
		t.Fatal(err)
	}
	for _, th := range ts {
		if err := th.Detach(0); err != nil {
			t.Fatal(err)
		}
	}
	g.isStopped()
	if err := unix.Kill(g.pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	g.goesOn("nanosleep", "spin")
}

// TestCaveInFile: without a vDSO, code goes into padding of a program, whose
// bytes come back.
func TestCaveInFile(t *testing.T) {
	lockThread(t)
	g := startTarget(t, "spin")
	ts, err := stopAll(g.pid, []int{g.pid})
	if err != nil {
		t.Fatal(err)
	}
	all, err := mapsOf(g.pid)
	if err != nil {
		t.Fatal(err)
	}
	var maps []procfs.Map
	for _, m := range all {
		if !m.IsVDSO() {
			maps = append(maps, m)
		}
	}
	in, err := Inject(ts[0], maps, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	c := in.cave
	now := make([]byte, len(c.old))
	if err := ReadMemory(g.pid, c.addr, now); err != nil || bytes.Equal(now, c.old) {
		t.Errorf("no code at %#x, %v", c.addr, err)
	}
	if err := askIDs(in, ts[0]); err != nil {
		t.Fatal(err)
	}
	out(t, ts[0], in)
	if err := ReadMemory(g.pid, c.addr, now); err != nil || !bytes.Equal(now, c.old) {
		t.Errorf("what stood at %#x is not there again, %v", c.addr, err)
	}
	g.goesOn("spin")
}

func TestPadding(t *testing.T) {
	const n = 100
	page := func(from, to int, c byte) []byte {
		b := bytes.Repeat([]byte{0x90}, 4096)
		copy(b[from:to], bytes.Repeat([]byte{c}, to-from))
		return b
	}
	for _, x := range []struct {
		name string
		b    []byte
		at   int
		ok   bool
	}{
		{"zeros at the end", page(3000, 4096, 0), 3072, true},
		{"int3 in the middle", page(1000, 1190, 0xcc), 1072, true},
		{"too few", page(3990, 4096, 0), 0, false},
		{"nops are code", page(0, 0, 0), 0, false},
	} {
		at, ok := padding(x.b, n)
		if at != x.at || ok != x.ok {
			t.Errorf("%s: %d %v, want %d %v", x.name, at, ok, x.at, x.ok)
		}
	}
}

func TestFindGap(t *testing.T) {
	maps := []procfs.Map{{Start: 0x400000, End: 0x500000}, {Start: lowestArea + areaMargin, End: lowestArea + 2*areaMargin}, {Start: 0x7f0000000000, End: 0x7f0000001000}}
	at, err := findGap(maps, 1<<20)
	if want := uint64(lowestArea + 3*areaMargin); err != nil || at != want {
		t.Errorf("gap at %#x, %v; want %#x", at, err, want)
	}
	// Nearly all is taken: a gap without a margin, or above.
	for want, maps := range map[uint64][]procfs.Map{
		1<<46 + pageSize: {{Start: 0x1000, End: 1 << 46}},
		1<<31 + pageSize: {{Start: 0x1000, End: 1 << 31}, {Start: 1<<31 + 2<<20, End: 1<<47 - pageSize}},
	} {
		if at, err := findGap(maps, 1<<20); err != nil || at != want {
			t.Errorf("gap at %#x, %v; want %#x", at, err, want)
		}
	}
	if err := Room([]procfs.Map{{Start: 0x1000, End: 1<<47 - pageSize}}, 1<<20); !errors.Is(err, failure.ErrUnsupported) || len(failure.Hints(err)) == 0 {
		t.Errorf("where there is no gap: %v", err)
	}
}

func TestLeaveCriticalSection(t *testing.T) {
	p, site := startStub(t)
	c := fork(t, p, site, 5)
	const size, signature = 32, 0x53053053
	at := (site.Base + 0x1000) &^ (size - 1)
	if _, err := c.Syscall(site, unix.SYS_RSEQ, at, size, 0, signature); err != nil {
		t.Fatal(err)
	}
	d := make([]byte, csSize)
	binary.LittleEndian.PutUint64(d[csStart:], 0x1000)
	binary.LittleEndian.PutUint64(d[csLength:], 0x100)
	binary.LittleEndian.PutUint64(d[csAbort:], 0x9000)
	if err := WriteMemory(c.PID, at+0x100, d); err != nil {
		t.Fatal(err)
	}
	if err := WriteUint64(c.PID, at+rseqCS, at+0x100); err != nil {
		t.Fatal(err)
	}
	r, err := c.Regs()
	if err != nil {
		t.Fatal(err)
	}
	for from, want := range map[uint64]uint64{0xfff: 0xfff, 0x1000: 0x9000, 0x10ff: 0x9000, 0x1100: 0x1100} {
		r := withoutCall(r)
		setPC(&r, from)
		moved, err := c.LeaveCriticalSection(&r)
		if err != nil || pc(r) != want || moved != (from != want) {
			t.Errorf("from %#x: at %#x, moved %v, %v", from, pc(r), moved, err)
		}
	}
	if conf, err := c.Rseq(); err != nil || !cmp.Equal(conf, Rseq{Ptr: at, Size: size, Signature: signature}) {
		t.Errorf("rseq is %+v, %v", conf, err)
	}
}
