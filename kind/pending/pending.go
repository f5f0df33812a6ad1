// Package pending is the signals that were sent to a process or thread and
// have not been taken yet.
//
// # What the kernel shows
//
// PTRACE_PEEKSIGINFO (3.10, commit 84c751bd4aeb) shows both queues with each
// signal's siginfo. The ids in it are those that the receiver sees: the
// sender's pid is translated to the receiver's pid namespace when the signal
// is sent (send_signal_locked() in kernel/signal.c), 0 for a sender outside.
// A signal that came when RLIMIT_SIGPENDING was reached stands in no queue,
// but waits all the same (SigPnd, ShdPnd in /proc/TID/status).
//
// # What is saved
//
// All 128 bytes of siginfo of each signal, in order, read after the timers:
// the signal of one that expired meanwhile is among them. One that stands in
// no queue has the siginfo with which it will be taken (collect_signal()).
//
// # What is lost
//
// That a queued SI_TIMER signal belongs to a timer which still counts
// overruns for it. A SIGSTOP that waits for a stopped process, which SIGCONT
// would drop before anybody took it: calls run in the process take it.
//
// # Needs
//
// The process sends the signals to itself, each thread its own, for from
// another rt_sigqueueinfo(2) refuses the codes of the kernel. They wait, as
// all signals are blocked. Where RLIMIT_SIGPENDING does not let all of them be
// queued, a restore is refused.
package pending

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/siginfo"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

const (
	name = "pending signals"
	// infoSize is the size of siginfo_t.
	infoSize = 128
	// signals is how many there are (_NSIG).
	signals = 64
	saves   = "signals that wait for a process or a thread, in their order, with their siginfo"
	limits  = "what a timer overran while its signal was pending is counted anew; a second SIGSTOP that waits for a stopped process is dropped"
)

// New gives the signals sent to a process and those sent to each thread.
func New() (shared kind.Process, own kind.Thread) {
	shared = kind.Process{Name: name, Saves: saves, Late: late, Restore: restore, Limits: limits}
	own = kind.Thread{Name: name, Saves: saves, Late: lateThread, Restore: restoreThread, Final: final, Limits: limits}
	return shared, own
}

func late(_ *kind.Dump, p *kind.Proc) (err error) {
	p.TC.SignalsS, err = read(p.Lead(), true)
	return err
}

func lateThread(_ *kind.Dump, _ *kind.Proc, t *kind.Task) (err error) {
	t.Core.ThreadCore.SignalsP, err = read(t, false)
	return err
}

func read(t *kind.Task, shared bool) (*siginfo.SignalQueueEntry, error) {
	if t.Traced == nil {
		return nil, nil // only checking
	}
	infos, err := t.Traced.Pending(shared)
	if err != nil {
		return nil, err
	}
	e := &siginfo.SignalQueueEntry{}
	queued := uint64(0)
	for _, si := range infos {
		e.Signals = append(e.Signals, &siginfo.SiginfoEntry{Siginfo: si})
		queued |= 1 << (number(si) - 1)
	}
	more, err := unqueued(t, shared, queued)
	if err != nil {
		return nil, err
	}
	for sig := uint32(1); sig <= signals; sig++ {
		if more&(1<<(sig-1)) != 0 {
			si := binary.LittleEndian.AppendUint32(nil, sig) // and si_code SI_USER, si_pid 0, si_uid 0
			e.Signals = append(e.Signals, &siginfo.SiginfoEntry{Siginfo: append(si, make([]byte, infoSize-len(si))...)})
		}
	}
	return e, nil
}

// unqueued are the signals that wait and stand in no queue. The status is read
// once more only where that of the freeze says that there may be some.
func unqueued(t *kind.Task, shared bool, queued uint64) (uint64, error) {
	wait := func(st *procfs.Status) uint64 {
		if shared {
			return st.ShdPnd
		}
		return st.SigPnd
	}
	more := wait(t.Status) &^ queued
	if more == 0 {
		return 0, nil
	}
	now, err := t.FS.Status()
	if err != nil {
		return 0, err
	}
	return more & wait(now), nil
}

func number(info []byte) uint32 { return binary.LittleEndian.Uint32(info) }

func restore(_ *kind.Restore, t *kind.Target) error {
	return each(t, t.TC.GetSignalsS(), func(sig uint64, info []byte) {
		note(t.Late, t.Late.Must(unix.SYS_RT_SIGQUEUEINFO, uint64(t.Own()), sig, t.Late.Data(info)), sig)
	})
}

// restoreThread comes last: only the thread itself may, and its timers and
// those of its process are set by then.
func restoreThread(_ *kind.Restore, t *kind.Target, tt *kind.TargetThread) error {
	return each(t, tt.Core.GetThreadCore().GetSignalsP(), func(sig uint64, info []byte) {
		note(tt.Last, tt.Last.Must(unix.SYS_RT_TGSIGQUEUEINFO, uint64(t.Own()), uint64(tt.Own()), sig, tt.Last.Data(info)), sig)
	})
}

func note(s *tracee.Script, at tracee.Step, sig uint64) {
	s.Note(at, fmt.Sprintf("queue signal %d", sig))
	s.Explain(at, full(sig))
}

func each(t *kind.Target, q *siginfo.SignalQueueEntry, add func(sig uint64, info []byte)) error {
	for _, e := range q.GetSignals() {
		info := e.GetSiginfo()
		if len(info) != infoSize {
			return failure.Damagedf("a pending signal of %d bytes instead of %d", len(info), infoSize)
		}
		sig := number(info)
		if sig == 0 || sig > signals {
			return failure.Damagedf("a pending signal of number %d", sig)
		}
		if id, ok := image.TimerOf(info); ok && slices.ContainsFunc(t.Extra.GetTimers(), func(x *image.TimerDue) bool { return x.GetId() == id }) {
			continue // it comes from the timer itself
		}
		if sig == uint32(unix.SIGSTOP) && t.TC.GetStopSigno() != 0 {
			continue // it would be taken at once, and the stop comes later
		}
		add(uint64(sig), info)
	}
	return nil
}
