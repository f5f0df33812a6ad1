package pending

import (
	"encoding/binary"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/siginfo"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/tracee"
)

// final makes sure that the signals stand in the queues. Beyond
// RLIMIT_SIGPENDING the kernel drops some, or what they carry, without an error
// (__send_signal_locked() in kernel/signal.c).
func final(_ tracee.Site, t *kind.Target, tt *kind.TargetThread) error {
	if err := queued(t, tt, tt.Core.GetThreadCore().GetSignalsP(), false); err != nil {
		return err
	}
	for _, first := range t.Threads {
		if first.Extra.GetDead() {
			continue
		}
		if first == tt {
			return queued(t, tt, t.TC.GetSignalsS(), true)
		}
		break
	}
	return nil
}

// sort is what tells signals apart here. Other fields need not come back as
// they were given: what a code does not use reads as zero.
type sort struct{ sig, code uint32 }

func sortOf(info []byte) sort {
	return sort{number(info), binary.LittleEndian.Uint32(info[8:])}
}

func queued(t *kind.Target, tt *kind.TargetThread, q *siginfo.SignalQueueEntry, shared bool) error {
	want := map[sort]int{}
	if err := each(t, q, func(_ uint64, info []byte) {
		if !nobodys(info) {
			want[sortOf(info)]++
		}
	}); err != nil || len(want) == 0 {
		return err
	}
	have, err := tt.Traced.Pending(shared)
	if err != nil {
		return err
	}
	for _, info := range have {
		want[sortOf(info)]--
	}
	for s, missing := range want {
		if missing > 0 {
			return noRoom(uint64(s.sig))
		}
	}
	return nil
}

// nobodys tells whether a signal is one that stood in no queue, or as good as
// that: it is the same with and without.
func nobodys(info []byte) bool {
	for _, b := range info[4:] {
		if b != 0 {
			return false
		}
	}
	return true
}

// full explains that a signal was not queued.
func full(sig uint64) func(unix.Errno) error {
	return func(errno unix.Errno) error {
		if errno != unix.EAGAIN {
			return nil
		}
		return noRoom(sig)
	}
}

func noRoom(sig uint64) error {
	return failure.WithHint(failure.Unsupportedf("signal %d, which waits for it, cannot be queued: more timers and waiting signals than one user may have", sig),
		"raise the limit (ulimit -i), or end programs of the same user that have many")
}
