package timer

import (
	"testing"
	"time"

	timerimg "github.com/checkpoint-restore/go-criu/v7/crit/images/timer"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/kind/pending"
	"ckpt/procfs"
)

func TestLeft(t *testing.T) {
	for _, c := range []struct {
		passed, unit           time.Duration
		isec, ifrac, sec, frac uint64
		wantSec, wantFrac      uint64
	}{
		{2 * time.Second, time.Nanosecond, 0, 0, 3, 5, 3, 5},                  // not yet
		{2 * time.Second, time.Nanosecond, 0, 0, 1, 5, 0, 0},                  // once
		{2 * time.Second, time.Microsecond, 0, 0, 0, 0, 0, 0},                 // not set
		{2 * time.Second, time.Microsecond, 10, 500000, 1, 250000, 9, 750000}, // 0.75 s ago
		{2 * time.Second, time.Nanosecond, 0, 300e6, 1, 0, 0, 200e6},          // four times
		{2 * time.Second, time.Nanosecond, 1, 0, 1, 0, 1, 0},                  // just now, for the second time
	} {
		if sec, frac := left(c.passed, c.unit, c.isec, c.ifrac, c.sec, c.frac); sec != c.wantSec || frac != c.wantFrac {
			t.Errorf("%+v: %d and %d", c, sec, frac)
		}
	}
}

// A timer that runs out while its process is being saved has one signal, not
// two.
func TestRunsOutMeanwhile(t *testing.T) {
	const soon = 20 * time.Millisecond
	b := kindtest.NewBare(t)
	s := b.Script()
	id := s.Space(4)
	signalling := &timerimg.PosixTimerEntry{ItSigevNotify: proto.Uint32(procfs.NotifySignal), SiSigno: proto.Uint32(uint32(unix.SIGUSR1))}
	s.Must(unix.SYS_TIMER_CREATE, unix.CLOCK_REALTIME, s.Data(sigevent(signalling)), id)
	s.Must(unix.SYS_TIMER_SETTIME, 0, 0, s.Data(encode(0, 0, 0, uint64(soon))), 0)
	s.Must(unix.SYS_SETITIMER, 0, s.Data(encode(0, 0, 0, uint64(soon/time.Microsecond))), 0)
	b.Run(s)

	k := kinds()
	shared, own := pending.New()
	wait := kind.Process{Late: func(*kind.Dump, *kind.Proc) error { time.Sleep(2 * soon); return nil }}
	k.Processes = append(k.Processes, shared, wait)
	k.Threads = append(k.Threads, own)
	p, err := b.Save(k)
	if err != nil {
		t.Fatal(err)
	}
	waiting := p.TC.GetSignalsS().GetSignals()
	if len(waiting) != 2 || !has(waiting, isAlarm) || !has(waiting, func(info []byte) bool { _, ok := image.TimerOf(info); return ok }) {
		t.Errorf("not the signals of both timers: %v", waiting)
	}
	e := p.TC.GetTimers()
	if r := e.GetReal(); r.GetVsec()|r.GetVusec() != 0 {
		t.Errorf("the interval timer has %d.%06d s left", r.GetVsec(), r.GetVusec())
	}
	if pt := e.GetPosix()[0]; pt.GetVsec()|pt.GetVnsec() != 0 {
		t.Errorf("the timer has %d.%09d s left", pt.GetVsec(), pt.GetVnsec())
	}
}
