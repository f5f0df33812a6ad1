package dump

import (
	"errors"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/procfs"
)

// died tells, of a dump that failed, the cause if it is that a process was
// killed meanwhile (SIGKILL ends even a stopped one): what is read of it then
// fails in as many ways as there are things to read.
func (s *session) died(err error) error {
	if cause := s.origin.died(); cause != nil {
		return &failure.Error{Doing: "dump", Err: cause}
	}
	for _, p := range s.d.Procs {
		if !p.Zombie && ended(p) {
			return s.fail(p, "", errors.New("it ended meanwhile, killed by a signal"))
		}
	}
	return err
}

// ended tells whether a process that was stopped has a thread no more.
func ended(p *kind.Proc) bool {
	for _, t := range p.Threads {
		if t.Traced == nil {
			continue // a leader that had exited before
		}
		st, err := t.FS.Stat()
		if errors.Is(err, unix.ESRCH) || err == nil && (st.State == 'Z' || st.State == 'X' || st.Flags&procfs.PFExiting != 0) {
			return true
		}
	}
	return false
}
