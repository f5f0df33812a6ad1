// Package sigaction is what a process does with each signal: sigaction(2).
//
// # What the kernel shows
//
// /proc/PID/status shows which signals are caught or ignored, but no handler,
// mask or flag. So the process asks itself: rt_sigaction(2).
//
// # What is saved
//
// In core-VPID.img handler, flags, restorer and mask of every signal from 1 to
// 64 but SIGKILL and SIGSTOP, whose action nobody can change: 62 entries in
// ascending order, as CRIU has them. Also of signals at their default, for
// SA_NOCLDWAIT counts there too.
//
// # What is lost
//
// Nothing.
//
// # Needs
//
// Nothing new. Actions of 32-bit programs are not carried.
package sigaction

import (
	"encoding/binary"
	"fmt"

	criu_sa "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-sa"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/tracee"
)

// signals are 1 to 64 (_NSIG of the kernel).
const signals = 64

// actionSize is struct sigaction of the kernel: handler, flags, restorer, and
// a mask of setSize bytes.
const (
	actionSize = 32
	setSize    = 8
)

// Kind is the table of signal dispositions.
func Kind() kind.Process {
	return kind.Process{
		Name:    "signal actions",
		Saves:   "handler, flags, restorer and mask of every signal",
		Refuses: "handlers of 32-bit programs",
		Ask:     ask, Restore: restore,
	}
}

// fixed tells of the signals that have no action.
func fixed(sig int) bool { return sig == int(unix.SIGKILL) || sig == int(unix.SIGSTOP) }

func ask(_ *kind.Dump, p *kind.Proc, s *tracee.Script) (func() error, error) {
	out := s.Space(signals * actionSize)
	for sig := 1; sig <= signals; sig++ {
		if !fixed(sig) {
			st := s.Must(unix.SYS_RT_SIGACTION, uint64(sig), 0, slot(out, sig), setSize)
			s.Note(st, fmt.Sprintf("read the action of signal %d", sig))
		}
	}
	return func() error {
		p.TC.Sigactions = nil
		for sig := 1; sig <= signals; sig++ {
			if !fixed(sig) {
				p.TC.Sigactions = append(p.TC.Sigactions, decode(s.Bytes(slot(out, sig), actionSize)))
			}
		}
		return nil
	}, nil
}

func slot(base uint64, sig int) uint64 { return base + uint64(sig-1)*actionSize }

func decode(b []byte) *criu_sa.SaEntry {
	le := binary.LittleEndian
	return &criu_sa.SaEntry{
		Sigaction: proto.Uint64(le.Uint64(b)),
		Flags:     proto.Uint64(le.Uint64(b[8:])),
		Restorer:  proto.Uint64(le.Uint64(b[16:])),
		Mask:      proto.Uint64(le.Uint64(b[24:])),
	}
}

func encode(e *criu_sa.SaEntry) []byte {
	le := binary.LittleEndian
	b := make([]byte, actionSize)
	le.PutUint64(b, e.GetSigaction())
	le.PutUint64(b[8:], e.GetFlags())
	le.PutUint64(b[16:], e.GetRestorer())
	le.PutUint64(b[24:], e.GetMask())
	return b
}

func restore(_ *kind.Restore, t *kind.Target) error {
	if !t.OwnsSighand {
		return nil
	}
	if n := len(t.TC.GetSigactions()); n != signals-2 {
		return failure.Damagedf("%d signal actions instead of %d", n, signals-2)
	}
	i := 0
	for sig := 1; sig <= signals; sig++ {
		if fixed(sig) {
			continue
		}
		e := t.TC.Sigactions[i]
		i++
		if e.GetCompatSigaction() {
			return failure.WithHint(failure.Unsupportedf("signal %d is handled by a 32-bit program", sig), "use a 64-bit build of the program")
		}
		st := t.Main.Must(unix.SYS_RT_SIGACTION, uint64(sig), t.Main.Data(encode(e)), 0, setSize)
		t.Main.Note(st, fmt.Sprintf("set the action of signal %d", sig))
	}
	return nil
}
