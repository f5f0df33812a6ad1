package restore

import (
	"errors"
	"maps"
	"slices"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/kind"
	"ckpt/pidns"
)

// died tells, of a restore that failed, the cause if it is that a process was
// killed meanwhile from outside: what is done to it then fails in as many ways
// as there are things to do.
// Preconditions: none has been let go yet.
func (s *session) died(err error) error {
	for _, v := range slices.Sorted(maps.Keys(s.stubs)) { // vpid 1 first: its death kills all
		if !s.ended[v] && s.stubs[v].Killed() {
			return s.killed(v)
		}
	}
	if s.stillborn != 0 {
		return s.killed(s.stillborn)
	}
	return err
}

// killed is the error of one that was.
func (s *session) killed(v pidns.VPID) error {
	if !s.ended[pidns.Init] && s.root.Thread.Killed() {
		return &failure.Error{Doing: "restore", Err: container.ErrKilled}
	}
	if t := s.owner(v); t != nil {
		return s.fail(t, "", errors.New("it ended meanwhile, killed by a signal"))
	}
	return &failure.Error{Doing: "restore", VPID: int(v), Err: errors.New("it ended meanwhile, killed by a signal (a helper process)")}
}

// owner is the process that a thread belongs to; nil: a helper, which is none
// of the image.
func (s *session) owner(v pidns.VPID) *kind.Target {
	for _, t := range s.r.Targets {
		if t.VPID == v || slices.ContainsFunc(t.Threads, func(tt *kind.TargetThread) bool { return tt.VTID == v }) {
			return t
		}
	}
	return nil
}
