package timer

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	timerimg "github.com/checkpoint-restore/go-criu/v7/crit/images/timer"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

const base = 0x10000

func dumpOf(vpids ...pidns.VPID) *kind.Dump {
	return &kind.Dump{HostPID: func(v pidns.VPID) (pidns.HostPID, bool) {
		for _, w := range vpids {
			if v == w {
				return pidns.HostPID(v) + 1000, true
			}
		}
		return 0, false
	}}
}

func TestDescribe(t *testing.T) {
	d := dumpOf(7)
	p := &kind.Proc{Threads: []*kind.Task{{VTID: 7, Host: 1007}, {VTID: 9, Host: 1009}}}
	for _, c := range []struct {
		name string
		in   procfs.Timer
		want *timerimg.PosixTimerEntry
	}{
		{"signal", procfs.Timer{ID: 3, Signal: 34, Value: 0x1234, Notify: procfs.NotifySignal, Target: 1007, ClockID: 1},
			&timerimg.PosixTimerEntry{ItId: proto.Uint32(3), ClockId: proto.Uint32(1), SiSigno: proto.Uint32(34), ItSigevNotify: proto.Uint32(0), SivalPtr: proto.Uint64(0x1234)}},
		{"thread", procfs.Timer{Signal: 34, Notify: procfs.NotifyThreadID, Target: 1009},
			&timerimg.PosixTimerEntry{ItId: proto.Uint32(0), ClockId: proto.Uint32(0), SiSigno: proto.Uint32(34), ItSigevNotify: proto.Uint32(4), SivalPtr: proto.Uint64(0), NotifyThreadId: proto.Int32(9)}},
		{"thread that has ended", procfs.Timer{Signal: 34, Notify: procfs.NotifyThreadID, Target: 1010},
			&timerimg.PosixTimerEntry{ItId: proto.Uint32(0), ClockId: proto.Uint32(0), SiSigno: proto.Uint32(34), ItSigevNotify: proto.Uint32(procfs.NotifyNone), SivalPtr: proto.Uint64(0)}},
		{"own CPU clock", procfs.Timer{ClockID: -6},
			&timerimg.PosixTimerEntry{ItId: proto.Uint32(0), ClockId: proto.Uint32(0xfffffffa), SiSigno: proto.Uint32(0), ItSigevNotify: proto.Uint32(0), SivalPtr: proto.Uint64(0)}},
	} {
		got, err := describe(d, p, c.in)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if df := cmp.Diff(c.want, got, protocmp.Transform()); df != "" {
			t.Errorf("%s: %s", c.name, df)
		}
	}
}

func TestCheckClock(t *testing.T) {
	d := dumpOf(7)
	process := func(pid int32) int32 { return ^pid<<3 | 2 }
	thread := func(tid int32) int32 { return ^tid<<3 | 6 }
	for _, c := range []struct {
		clock int32
		want  string
	}{
		{unix.CLOCK_REALTIME, ""},
		{unix.CLOCK_TAI, ""},
		{-2, ""}, // CLOCK_THREAD_CPUTIME_ID as the kernel keeps it
		{process(7), ""},
		{thread(7), ""},
		{process(8), "process 8"},
		{^int32(5)<<3 | 3, "device"},
	} {
		err := checkClock(d, c.clock)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("clock %d: %v", c.clock, err)
		case c.want != "" && (!errors.Is(err, failure.ErrUnsupported) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("clock %d: %v", c.clock, err)
		}
	}
}

func TestDecode(t *testing.T) {
	b := encode(1, 2, 3, 4)
	if d := cmp.Diff(&timerimg.ItimerEntry{Isec: proto.Uint64(1), Iusec: proto.Uint64(2), Vsec: proto.Uint64(3), Vusec: proto.Uint64(4)},
		decodeItimer(b), protocmp.Transform()); d != "" {
		t.Error(d)
	}
	e := &timerimg.PosixTimerEntry{}
	decodeSpec(e, b)
	if e.GetIsec() != 1 || e.GetInsec() != 2 || e.GetVsec() != 3 || e.GetVnsec() != 4 {
		t.Error(e)
	}
}

// spec gives the four words of an itimerval or itimerspec in a script's data.
func spec(s *tracee.Script, n int) (w [4]uint64) {
	return words(s.Bytes(base+uint64(n)*specSize, specSize))
}

func itimer(isec, iusec, vsec, vusec uint64) *timerimg.ItimerEntry {
	return &timerimg.ItimerEntry{Isec: &isec, Iusec: &iusec, Vsec: &vsec, Vusec: &vusec}
}

func TestStart(t *testing.T) {
	late := tracee.NewScript(base)
	e := &timerimg.TaskTimersEntry{
		Real: itimer(0, 1000, 0, 0), // run out, its signal not taken yet
		Virt: itimer(0, 0, 0, 0),
		Prof: itimer(5, 0, 2, 7),
		Posix: []*timerimg.PosixTimerEntry{
			{ItId: proto.Uint32(0), Isec: proto.Uint64(1), Insec: proto.Uint64(0), Vsec: proto.Uint64(0), Vnsec: proto.Uint64(9)},
			{ItId: proto.Uint32(1)}, // disarmed
			{ItId: proto.Uint32(2), Isec: proto.Uint64(4), Insec: proto.Uint64(5), Vsec: proto.Uint64(3), Vnsec: proto.Uint64(0)},
			{ItId: proto.Uint32(3), Isec: proto.Uint64(4), Insec: proto.Uint64(5), Vsec: proto.Uint64(3), Vnsec: proto.Uint64(0)},
		},
	}
	extra := &image.Task{Timers: []*image.TimerDue{{Id: 2, ExpiresNs: 20e9 + 7}, {Id: 3, ExpiresNs: 20e9 + 7, Pending: true}}}
	if err := start(nil, &kind.Target{TC: &criu_core.TaskCoreEntry{Timers: e}, Extra: extra, Late: late}); err != nil {
		t.Fatal(err)
	}
	if late.Len() != 5 {
		t.Fatalf("%d calls", late.Len())
	}
	for i, want := range [][4]uint64{{0, 1000, 0, 1}, {5, 0, 2, 7}, {1, 0, 0, 9},
		{4, 5, 20, 7}, // when it is due
		{4, 5, 16, 2}, // when its signal was queued
	} {
		if got := spec(late, i); got != want {
			t.Errorf("call %d: %v, want %v", i, got, want)
		}
	}
}

func TestDue(t *testing.T) {
	now := [4]uint64{100, 1, 200, 2} // CLOCK_MONOTONIC, CLOCK_BOOTTIME
	for _, c := range []struct {
		clock    int32
		sec, due uint64
	}{
		{unix.CLOCK_MONOTONIC, 3, 103e9 + 1}, {unix.CLOCK_BOOTTIME, 3, 203e9 + 2}, {unix.CLOCK_BOOTTIME_ALARM, 3, 203e9 + 2},
		{unix.CLOCK_MONOTONIC, 0, 0}, {unix.CLOCK_REALTIME, 3, 0}, {-6, 3, 0},
	} {
		e := &timerimg.PosixTimerEntry{ItId: proto.Uint32(7), ClockId: proto.Uint32(uint32(c.clock)), Vsec: &c.sec, Vnsec: proto.Uint64(0)}
		if got := due(e, now); got.GetExpiresNs() != int64(c.due) {
			t.Errorf("clock %d, %d s left: due at %d, want %d", c.clock, c.sec, got.GetExpiresNs(), c.due)
		}
	}
}

func TestStartDamaged(t *testing.T) {
	ok := itimer(0, 0, 0, 0)
	for name, e := range map[string]*timerimg.TaskTimersEntry{
		"microseconds": {Real: itimer(0, 0, 0, 1e6), Virt: ok, Prof: ok},
		"nanoseconds":  {Real: ok, Virt: ok, Prof: ok, Posix: []*timerimg.PosixTimerEntry{{Vnsec: proto.Uint64(1e9)}}},
	} {
		err := start(nil, &kind.Target{TC: &criu_core.TaskCoreEntry{Timers: e}, Late: tracee.NewScript(base)})
		if !errors.Is(err, failure.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func timerWithID(id uint32) *timerimg.PosixTimerEntry {
	return &timerimg.PosixTimerEntry{ItId: &id, ClockId: proto.Uint32(1), SiSigno: proto.Uint32(34), SivalPtr: proto.Uint64(0xabc),
		ItSigevNotify: proto.Uint32(4), NotifyThreadId: proto.Int32(9)}
}

func TestMakeTimers(t *testing.T) {
	for _, c := range []struct {
		name  string
		ids   []uint32
		byID  bool
		calls int
		want  error
	}{
		{"none", nil, true, 0, nil},
		{"by id", []uint32{900000, 2}, true, 4, nil},
		{"by counting", []uint32{3, 0, 1}, false, 5, nil},
		{"too far to count", []uint32{maxCounted + 1}, false, 0, failure.ErrUnsupported},
		{"twice the same", []uint32{3, 3}, true, 0, failure.ErrDamaged},
	} {
		s := tracee.NewScript(base)
		var all []*timerimg.PosixTimerEntry
		for _, id := range c.ids {
			all = append(all, timerWithID(id))
		}
		err := makeTimers(s, all, c.byID)
		if !errors.Is(err, c.want) || c.want == nil && s.Len() != c.calls {
			t.Errorf("%s: %d calls, %v", c.name, s.Len(), err)
		}
	}
}

func TestSigevent(t *testing.T) {
	b := sigevent(timerWithID(1))
	le := binary.LittleEndian
	if len(b) != 64 || le.Uint64(b) != 0xabc || le.Uint32(b[8:]) != 34 || le.Uint32(b[12:]) != 4 || le.Uint32(b[16:]) != 9 {
		t.Errorf("%x", b)
	}
}

func kinds() kindtest.Kinds {
	p, t := New()
	return kindtest.Kinds{Processes: []kind.Process{p}, Threads: []kind.Thread{t}}
}

// From one process into another: ids with gaps, signals, targets, clocks and
// what is left of each.
func TestRoundTrip(t *testing.T) {
	ways := map[string]bool{"by counting": false}
	if kindtest.Since(t, "6.16") {
		ways["by id"] = true
	}
	for name, byID := range ways {
		t.Run(name, func(t *testing.T) {
			first, second := kindtest.NewBare(t), kindtest.NewBare(t)
			self := first.Thread.TID
			posix := func(id uint32, clock, notify, tid int32, isec, vsec uint64) *timerimg.PosixTimerEntry {
				e := &timerimg.PosixTimerEntry{ItId: proto.Uint32(id), ClockId: proto.Uint32(uint32(clock)), SiSigno: proto.Uint32(34),
					ItSigevNotify: proto.Uint32(uint32(notify)), SivalPtr: proto.Uint64(0x123456789a), Overrun: proto.Uint32(0),
					Isec: proto.Uint64(isec), Insec: proto.Uint64(0), Vsec: proto.Uint64(vsec), Vnsec: proto.Uint64(0)}
				if tid != 0 {
					e.NotifyThreadId = proto.Int32(tid)
				}
				return e
			}
			want := []*timerimg.PosixTimerEntry{
				posix(0, unix.CLOCK_MONOTONIC, procfs.NotifySignal, 0, 500, 1000),
				posix(2, unix.CLOCK_REALTIME, procfs.NotifyThreadID, int32(self), 0, 2000),
				posix(7, unix.CLOCK_TAI, procfs.NotifyNone, 0, 0, 0),
				posix(8, -6, procfs.NotifySignal, 0, 0, 3000),
			}
			e := &timerimg.TaskTimersEntry{Real: itimer(10, 0, 4000, 0), Virt: itimer(0, 0, 0, 0), Prof: itimer(0, 5, 0, 0), Posix: want}
			build := func(b *kindtest.Bare) kindtest.Kinds {
				k := kinds()
				k.Threads[0].Restore = func(_ *kind.Restore, t *kind.Target, tt *kind.TargetThread) error {
					all := t.TC.GetTimers().GetPosix()
					for _, e := range all {
						if e.NotifyThreadId != nil {
							e.NotifyThreadId = proto.Int32(int32(b.Thread.TID))
						}
					}
					return makeTimers(tt.Script, all, byID)
				}
				return k
			}
			src, err := first.Save(kinds())
			if err != nil {
				t.Fatal(err)
			}
			src.TC.Timers = e
			for _, b := range []*kindtest.Bare{first, second} {
				if err := b.Rebuild(build(b), src); err != nil {
					t.Fatal(err)
				}
				if src, err = b.Save(kinds()); err != nil {
					t.Fatal(err)
				}
			}
			want[1].NotifyThreadId = proto.Int32(int32(second.Thread.TID))
			// Seconds are plenty: what is left lies just below what was set.
			near := func(got, want uint64) bool { return got == want || got+1 == want }
			got := src.TC.Timers
			for i, g := range got.Posix {
				if !near(g.GetVsec(), want[i].GetVsec()) || g.GetVsec() == want[i].GetVsec() && g.GetVnsec() != want[i].GetVnsec() {
					t.Errorf("timer %d: %d.%09d s left of %d s", g.GetItId(), g.GetVsec(), g.GetVnsec(), want[i].GetVsec())
				}
			}
			if d := cmp.Diff(want, got.Posix, protocmp.Transform(), protocmp.IgnoreFields(&timerimg.PosixTimerEntry{}, "vsec", "vnsec")); d != "" {
				t.Errorf("POSIX timers (-want +got):\n%s", d)
			}
			if r := got.Real; !near(r.GetVsec(), 4000) || r.GetIsec() != 10 {
				t.Errorf("ITIMER_REAL %v", r)
			}
			if d := cmp.Diff(itimer(0, 0, 0, 0), got.Virt, protocmp.Transform()); d != "" {
				t.Errorf("ITIMER_VIRTUAL %v", d)
			}
			if got.Prof.GetIusec() == 0 {
				t.Errorf("ITIMER_PROF %v: lost its interval", got.Prof)
			}
		})
	}
}
