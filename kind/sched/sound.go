package sched

import (
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
)

const (
	policyReserved = 4    // SCHED_ISO, which is nothing yet
	policyLast     = 7    // SCHED_EXT, 6.12
	realtimeMost   = 99   // MAX_RT_PRIO - 1
	flagsKnown     = 0x7f // SCHED_FLAG_ALL of linux/sched.h
	niceLeast      = -20
	niceMost       = 19
	ioClassShift   = 13 // IOPRIO_CLASS_SHIFT of linux/ioprio.h
	ioClassMost    = 3  // IOPRIO_CLASS_IDLE
	ioLevelMask    = 7  // IOPRIO_LEVEL_MASK
)

// sound refuses what sched_setattr(2) and ioprio_set(2) never take.
func sound(_ *kind.Target, tt *kind.TargetThread) error {
	tc, x := tt.Core.GetThreadCore(), tt.Extra
	policy, prio := tc.GetSchedPolicy(), tc.GetSchedPrio()
	realtime := policy == unix.SCHED_FIFO || policy == unix.SCHED_RR
	switch {
	case policy == policyReserved || policy > policyLast:
		return failure.Damagedf("policy %d", policy)
	case realtime && (prio < 1 || prio > realtimeMost), !realtime && prio != 0:
		return failure.Damagedf("priority %d of policy %d", prio, policy)
	case tc.GetSchedNice() < niceLeast || tc.GetSchedNice() > niceMost:
		return failure.Damagedf("nice value %d", tc.GetSchedNice())
	case x.GetSchedFlags()&^flagsKnown != 0:
		return failure.Damagedf("flags %#x", x.GetSchedFlags())
	case policy == unix.SCHED_DEADLINE && (x.GetDlRuntime() == 0 || x.GetDlRuntime() > x.GetDlDeadline() || x.GetDlPeriod() != 0 && x.GetDlDeadline() > x.GetDlPeriod()):
		return failure.Damagedf("%d ns of run time within %d ns every %d ns", x.GetDlRuntime(), x.GetDlDeadline(), x.GetDlPeriod())
	case x.GetUtilMin() > utilMost || x.GetUtilMax() > utilMost || x.GetUtilMax() != 0 && x.GetUtilMin() > x.GetUtilMax():
		return failure.Damagedf("utilisation clamped to %d-%d", x.GetUtilMin(), x.GetUtilMax())
	}
	class := x.GetIoprio() >> ioClassShift
	if class > ioClassMost || class == 0 && x.GetIoprio()&ioLevelMask != 0 {
		return failure.Damagedf("I/O priority %#x", x.GetIoprio())
	}
	return nil
}

// soundAutogroup refuses what no session can have.
func soundAutogroup(t *kind.Target) error {
	if n := t.Extra.GetAutogroupNice(); n < niceLeast || n > niceMost {
		return failure.Damagedf("nice value %d", n)
	}
	return nil
}
