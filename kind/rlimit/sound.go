package rlimit

import (
	"ckpt/failure"
	"ckpt/kind"
	"ckpt/procfs"
)

// sound refuses a soft limit above its hard one.
func sound(t *kind.Target) error {
	for res, e := range t.TC.GetRlimits().GetRlimits() {
		if e.GetCur() > e.GetMax() {
			return failure.Damagedf("limit %q is %s, at most %s", procfs.LimitName(res), show(e.GetCur()), show(e.GetMax()))
		}
	}
	return nil
}
