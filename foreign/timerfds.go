package foreign

import "github.com/checkpoint-restore/go-criu/v7/crit/images/timerfd"

// goOn gives a periodic timer time again. One that has expired and was not asked
// since has none left in fdinfo, from which CRIU takes it, for the kernel starts
// it anew only then (fs/timerfd.c): set so, it would stand still. Of one that was
// stopped no expiration waits.
func goOn(t *timerfd.TimerfdEntry) {
	if t.GetTicks() != 0 && t.GetVsec() == 0 && t.GetVnsec() == 0 {
		t.Vsec, t.Vnsec = t.Isec, t.Insec
	}
}
