package foreign

import (
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/timerfd"
	"google.golang.org/protobuf/proto"
)

// Of timers that have no time left, those that are periodic and have expired go on.
func TestTimersGoOn(t *testing.T) {
	for _, c := range []struct {
		name                        string
		ticks, left, interval, want uint64
	}{
		{"expired, periodic", 1, 0, 5, 5},
		{"expired, once", 1, 0, 0, 0},
		{"stopped", 0, 0, 5, 0},
		{"under way", 1, 3, 5, 3},
	} {
		e := &timerfd.TimerfdEntry{Ticks: proto.Uint64(c.ticks), Vsec: proto.Uint64(0), Vnsec: proto.Uint64(c.left), Isec: proto.Uint64(0), Insec: proto.Uint64(c.interval)}
		if goOn(e); e.GetVnsec() != c.want || e.GetVsec() != 0 {
			t.Errorf("%s: %d s, %d ns are left, want %d ns", c.name, e.GetVsec(), e.GetVnsec(), c.want)
		}
	}
}
