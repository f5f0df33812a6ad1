package dump

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// thaw lets the container run on as if nothing had happened.
func (s *session) thaw() error {
	if s.ended {
		return nil
	}
	s.ended = true
	err := errors.Join(s.unhide(), s.endOvers(), s.release())
	if s.hand != nil {
		err = errors.Join(err, s.hand.Kill())
		s.hand = nil
	}
	return err
}

// release detaches from all threads: first from those that have stopped, then
// from the others as they stop. One may be deaf until another goes on: the
// parent in vfork(2) until its child has run a program.
func (s *session) release() error {
	var errs []error
	for i := len(s.injected) - 1; i >= 0; i-- {
		// Of a process that has ended there is nothing to take back.
		if err := s.injected[i].Remove(); err != nil && !errors.Is(err, tracee.ErrGone) {
			errs = append(errs, fmt.Errorf("take back what was injected: %w", err))
		}
	}
	s.injected = nil
	var left []*kind.Task
	for _, p := range s.procs {
		for _, t := range p.Threads {
			switch {
			case t.Traced == nil:
			case t.Stopped:
				errs = append(errs, s.letGo(p, t))
			default:
				left = append(left, t)
			}
		}
	}
	for deadline := time.Now().Add(stopPatience); len(left) > 0; {
		late := time.Now().After(deadline)
		left = slices.DeleteFunc(left, func(t *kind.Task) bool {
			p := s.procs[t.Traced.PID]
			err := t.Traced.WillStop(context.Background(), time.Millisecond)
			if errors.Is(err, tracee.ErrDeaf) && !late {
				return false
			}
			if errors.Is(err, tracee.ErrDeaf) && forking(t) {
				// It goes on by itself: the kernel detaches from it, and drops
				// the stop asked for, when the tracing thread ends.
				p.RemoveTask(t)
				err = failure.WithHint(failure.Unsupportedf("%w", errVfork), vforkHint)
				errs = append(errs, s.fail(p, "", err))
				return true
			}
			if err == nil {
				err = stopped(t)
			}
			if err == nil {
				err = s.letGo(p, t)
			}
			if !errors.Is(err, tracee.ErrGone) {
				errs = append(errs, s.fail(p, "let it go on", err))
			}
			return true
		})
	}
	return errors.Join(errs...)
}

// letRun lets go of some processes, all of whose threads have stopped.
func (s *session) letRun(pids map[pidns.HostPID]bool) error {
	for pid := range pids {
		p := s.procs[int(pid)]
		if p == nil {
			continue
		}
		for _, t := range p.Threads {
			if t.Traced == nil {
				continue // only checking
			}
			if err := s.letGo(p, t); err != nil {
				return err
			}
		}
		s.forget(p)
	}
	return nil
}

// forget drops a process that is not traced.
func (s *session) forget(p *kind.Proc) {
	delete(s.procs, int(p.Host))
	s.order = slices.DeleteFunc(s.order, func(o *kind.Proc) bool { return o == p })
	closeProc(p)
}

// letGo detaches from a stopped thread.
func (s *session) letGo(p *kind.Proc, t *kind.Task) error {
	for _, k := range s.kinds.Threads {
		if k.Resume == nil {
			continue
		}
		if err := k.Resume(p, t); err != nil && !errors.Is(err, tracee.ErrGone) {
			return s.fail(p, k.Name, err)
		}
	}
	if err := t.Traced.Detach(0); err != nil && !errors.Is(err, tracee.ErrGone) && !errors.Is(err, unix.ESRCH) {
		return s.fail(p, "let it go on", err)
	}
	return nil
}
