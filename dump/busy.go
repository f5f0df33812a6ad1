package dump

import (
	"context"
	"errors"
	"time"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/pidns"
)

// drainPatience is how long data may take to reach who reads it, once all who
// write are stopped.
const drainPatience = 200 * time.Millisecond

// lastly are processes to be stopped when all others are, and when they have
// taken what was on its way to them.
type lastly struct {
	pids map[pidns.HostPID]bool
	busy []*kind.Busy
	till time.Time // patience ends; set when it begins
}

// busyOnly gives what stands in the way of a dump if all of it passes as soon
// as somebody has run on; else nil.
func busyOnly(err error) *lastly {
	if err == nil {
		return nil
	}
	l := &lastly{pids: map[pidns.HostPID]bool{}}
	for _, e := range failure.All(err) {
		b, ok := errors.AsType[*kind.Busy](e)
		if !ok {
			return nil
		}
		l.busy = append(l.busy, b)
		for _, p := range b.Holders {
			l.pids[p.Host] = true
		}
	}
	return l
}

// wait waits until all seems to be taken, or patience ends: then the next look
// says what is left.
func (l *lastly) wait(ctx context.Context) {
	if l.till.IsZero() {
		l.till = time.Now().Add(drainPatience)
	}
	deadline := time.NewTimer(time.Until(l.till))
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !l.done() {
		select {
		case <-ctx.Done():
			return
		case <-deadline.C:
			return
		case <-tick.C:
		}
	}
}

// again tells, with everybody stopped, whether they have to run on once more.
// nil: none of them.
func (l *lastly) again() bool {
	return l != nil && !l.done() && time.Now().Before(l.till)
}

func (l *lastly) done() bool {
	for _, b := range l.busy {
		if !b.Done() {
			return false
		}
	}
	return true
}
