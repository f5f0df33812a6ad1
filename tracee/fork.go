package tracee

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// ForkOptions of ForkStub.
type ForkOptions struct {
	// VPID is the id the child gets in its pid namespace; 0: any. EEXIST:
	// it is taken.
	VPID int
	// SetTID instead of VPID: one id a level of nested pid namespaces, the
	// innermost first (clone3(2)).
	SetTID []int32
	// Flags: CLONE_* of clone(2).
	Flags uint64
	// ExitSignal is sent to the parent when the child ends. 0: none. It must
	// be 0 with CLONE_THREAD and CLONE_PARENT.
	ExitSignal unix.Signal
}

// cloneArgs is the size of struct clone_args up to set_tid_size (5.5).
const cloneArgs = 80

// ForkStub forks a stub from a stub: a process, or with CLONE_THREAD a
// thread. The child is stopped, and like its parent in all that matters here;
// it uses the same site. An errno of clone3(2) can be tested with errors.Is.
func ForkStub(parent *Thread, site Site, o ForkOptions) (*Thread, error) {
	ids := o.SetTID
	if len(ids) == 0 && o.VPID != 0 {
		ids = []int32{int32(o.VPID)}
	}
	b := make([]byte, cloneArgs)
	le := binary.LittleEndian
	le.PutUint64(b, o.Flags|unix.CLONE_PTRACE)
	le.PutUint64(b[32:], uint64(o.ExitSignal))
	if len(ids) > 0 {
		le.PutUint64(b[64:], site.Base+cloneArgs)
		le.PutUint64(b[72:], uint64(len(ids)))
	}
	for _, id := range ids {
		b = le.AppendUint32(b, uint32(id))
	}
	if err := WriteMemory(parent.TID, site.Base, b); err != nil {
		return nil, err
	}
	parent.born = nil
	if _, err := parent.Syscall(site, unix.SYS_CLONE3, site.Base, cloneArgs); err != nil {
		if len(ids) > 0 {
			return nil, fmt.Errorf("fork with id %d (clone3): %w", ids[0], NoMore(err))
		}
		return nil, fmt.Errorf("fork (clone3): %w", NoMore(err))
	}
	born := parent.Born()
	if len(born) != 1 {
		return nil, fmt.Errorf("fork (clone3): %d children were reported instead of one", len(born))
	}
	t, err := Adopt(parent, born[0])
	if err != nil || !parent.outlives {
		return t, err
	}
	return t, t.SetOptions(Options{ExitKill: true, Children: true})
}

// NoMore tells what to do about EAGAIN of fork(2); another error is returned
// as it is.
func NoMore(err error) error {
	if !errors.Is(err, unix.EAGAIN) {
		return err
	}
	return failure.WithHint(failure.Unsupportedf("no more processes are allowed here: %w", err),
		"end some, or raise what limits them: sysctl kernel.pid_max, pids.max of the cgroup (systemctl set-property ... TasksMax=), ulimit -u")
}

// Adopt waits for the first stop of a child that parent made (Born) and that
// is attached to already. Only this child is waited for: no other's stop is
// lost.
func Adopt(parent *Thread, tid int) (*Thread, error) {
	t := &Thread{TID: tid, done: parent.done}
	for {
		ws, err := t.wait()
		if err != nil {
			return nil, err
		}
		if ws>>16 == unix.PTRACE_EVENT_STOP {
			break
		}
		if err := t.resume(unix.PTRACE_CONT, 0); err != nil {
			return nil, err
		}
	}
	st, err := statusOf(tid)
	if err != nil {
		return nil, err
	}
	t.setIDs(st)
	return t, nil
}
