package dump

import (
	"encoding/binary"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/siginfo"
	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/procfs"
)

// findStop notes by which signal p is stopped, once its signals have been
// read: between its stop and that of the others, these may have stopped it or
// let it go on. A SIGCONT then waits, which every stop signal would have
// dropped; and a SIGSTOP that waits is taken as soon as p runs.
func (s *session) findStop(p *kind.Proc) error {
	if waits(p, unix.SIGCONT) {
		return nil
	}
	for _, t := range p.Threads {
		if t.Traced != nil && t.Traced.StoppedBy() != 0 {
			p.StopSignal = t.Traced.StoppedBy()
		}
	}
	if p.StopSignal == 0 && waits(p, unix.SIGSTOP) {
		p.StopSignal = unix.SIGSTOP
		return nil
	}
	if p.StopSignal == 0 {
		return nil
	}
	// Where the leading thread has ended, p.FS shows another one alone.
	fs, err := procfs.Open(int(p.Host))
	if err != nil {
		return err
	}
	defer fs.Close()
	st, err := fs.Stat()
	if err != nil {
		return err
	}
	p.Extra.StopTold = st.ExitCode == 0 // the signal, until the parent has waited for it (wait_task_stopped())
	return nil
}

// waits tells whether a signal waits for p or one of its threads.
func waits(p *kind.Proc, sig unix.Signal) bool {
	in := func(q *siginfo.SignalQueueEntry) bool {
		return slices.ContainsFunc(q.GetSignals(), func(e *siginfo.SiginfoEntry) bool {
			return unix.Signal(binary.NativeEndian.Uint32(e.GetSiginfo())) == sig
		})
	}
	return in(p.TC.GetSignalsS()) || slices.ContainsFunc(p.Threads, func(t *kind.Task) bool { return in(t.Core.GetThreadCore().GetSignalsP()) })
}
