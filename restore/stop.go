package restore

import (
	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// stop stops a process that was stopped, before any other runs: its parent
// finds what it would have found, a stop to wait for or none, and no SIGCHLD
// that it did not have.
func (s *session) stop(t *kind.Target) error {
	lead, sig, err := stopper(t)
	if err != nil {
		return err
	}
	stopped, err := lead.GroupStop(sig)
	if err == nil && !stopped && sig != unix.SIGSTOP {
		// Its group is an orphan by now, which the terminal cannot stop.
		s.o.Log.Warn("stopped by SIGSTOP, which its parent may see", "vpid", t.VPID, "was", sig)
		_, err = lead.GroupStop(unix.SIGSTOP)
	}
	if err != nil {
		return err
	}
	for _, tt := range t.Threads {
		if tt.Traced == lead || tt.Extra.GetDead() {
			continue
		}
		if err := tt.Traced.JoinStop(); err != nil {
			return err
		}
	}
	return s.tellParent(t)
}

// stopper is a thread that the signal by which the process was stopped can
// stop again: it does not block it, and the process does not catch it.
func stopper(t *kind.Target) (*tracee.Thread, unix.Signal, error) {
	sig := unix.Signal(t.TC.GetStopSigno())
	switch sig {
	case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
	default:
		return alive(t).Traced, unix.SIGSTOP, nil
	}
	p, err := procfs.Open(int(t.Host))
	if err != nil {
		return nil, 0, err
	}
	defer p.Close()
	st, err := p.Status()
	if err != nil {
		return nil, 0, err
	}
	if (st.SigCgt|st.SigIgn)&bit(uint32(sig)) == 0 {
		for _, tt := range t.Threads {
			if !tt.Extra.GetDead() && tt.Core.GetThreadCore().GetBlkSigset()&bit(uint32(sig)) == 0 {
				return tt.Traced, sig, nil
			}
		}
	}
	return alive(t).Traced, unix.SIGSTOP, nil
}

// tellParent lets the parent forget what it had waited for or taken already.
func (s *session) tellParent(t *kind.Target) error {
	parent := s.target(pidns.VPID(t.Entry.GetPpid()))
	if parent == nil {
		return nil // ckpt's init, which does not look
	}
	sc := tracee.NewScript(s.siteOf(parent).Base)
	if t.Extra.GetStopTold() {
		sc.Note(sc.Must(unix.SYS_WAIT4, s.known(parent.VPID, t.VPID), 0, unix.WNOHANG|unix.WUNTRACED|unix.WALL, 0), "wait for a stopped child")
	}
	if !pendingSignal(parent, unix.SIGCHLD) {
		takeSignal(sc, uint32(unix.SIGCHLD))
	}
	return s.run(parent, alive(parent), sc)
}

// pendingSignal tells whether a signal waits for a process as a whole.
func pendingSignal(t *kind.Target, sig unix.Signal) bool {
	for _, si := range t.TC.GetSignalsS().GetSignals() {
		if bitOf(si.GetSiginfo()) == bit(uint32(sig)) {
			return true
		}
	}
	return false
}
