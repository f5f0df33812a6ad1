package restore

import (
	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/tracee"
)

// goOn stops and continues the bare children of processes whose parents have
// not waited for their going on: nothing else sets SIGNAL_STOP_CONTINUED. What
// the parents are told of it (SIGCHLD) they lose like that of helpers'
// (dropEnds), since they have yet to be rebuilt.
func (s *session) goOn() error {
	for _, t := range s.live() {
		if !t.Extra.GetContinued() {
			continue
		}
		if err := s.stopAndGoOn(t); err != nil {
			return s.fail(t, "stop it and let it go on", err)
		}
	}
	return nil
}

func (s *session) stopAndGoOn(t *kind.Target) error {
	stub := s.stubs[t.VPID]
	if _, err := stub.GroupStop(unix.SIGSTOP); err != nil {
		return err
	}
	if err := unix.Kill(stub.PID, unix.SIGCONT); err != nil {
		return err
	}
	// The signal itself waits, since bare children block all: it has no part in
	// this, and what the program has waiting comes later.
	sc := tracee.NewScript(s.root.Site.Base)
	takeSignal(sc, uint32(unix.SIGCONT))
	return stub.Run(s.root.Site, sc)
}
