package timer

import (
	"fmt"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/procfs"
)

// lastSignal is the greatest number of one (_NSIG of the kernel).
const lastSignal = 64

// sound refuses what timer_create(2) and timer_settime(2) never take.
func sound(t *kind.Target) error {
	for _, e := range t.TC.GetTimers().GetPosix() {
		if err := check(e); err != nil {
			return fmt.Errorf("timer %d: %w", e.GetItId(), err)
		}
		if signo := e.GetSiSigno(); e.GetItSigevNotify() != procfs.NotifyNone && (signo == 0 || signo > lastSignal) {
			return failure.Damagedf("timer %d sends signal %d", e.GetItId(), signo)
		}
	}
	return nil
}
