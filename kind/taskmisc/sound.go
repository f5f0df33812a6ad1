package taskmisc

import (
	"ckpt/failure"
	"ckpt/kind"
)

const (
	oomMost   = 1000 // OOM_SCORE_ADJ_MAX of linux/oom.h
	mdweKnown = 1<<0 | 1<<1
	thpKnown  = 1<<0 | 1<<1 // PR_THP_DISABLE_EXCEPT_ADVISED, 6.18
)

// sound refuses what a process cannot have set.
func sound(t *kind.Target) error {
	switch oom, x := t.TC.GetOomScoreAdj(), t.Extra; {
	case oom < -oomMost || oom > oomMost:
		return failure.Damagedf("oom_score_adj %d", oom)
	case x.GetMdwe()&^mdweKnown != 0 || x.GetMdwe() == mdweKnown&^1:
		return failure.Damagedf("PR_SET_MDWE %#x", x.GetMdwe())
	case x.GetThpDisabled()&^thpKnown != 0 || x.GetThpDisabled() == thpKnown&^1:
		return failure.Damagedf("PR_SET_THP_DISABLE %#x", x.GetThpDisabled())
	case x.GetMembarrier()&^membarrierRegister != 0:
		return failure.Damagedf("registered with membarrier for %#x", x.GetMembarrier())
	}
	return nil
}

func soundThread(_ *kind.Target, tt *kind.TargetThread) error {
	switch x := tt.Extra; {
	case x.GetMceKill() > mceDefault:
		return failure.Damagedf("PR_MCE_KILL %d", x.GetMceKill())
	case x.GetTsc() > tscSIGSEGV:
		return failure.Damagedf("PR_SET_TSC %d", x.GetTsc())
	case len(x.GetMempolicyNodes()) > nodeBytes:
		return failure.Damagedf("memory policy of %d nodes", 8*len(x.GetMempolicyNodes()))
	}
	return nil
}
