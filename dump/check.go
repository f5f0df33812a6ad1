package dump

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
)

// Check lists everything that a dump of the container would refuse and that can
// be seen without stopping or touching it; unseen names the rest, as far as it
// concerns the container. What passes by itself it waits for, as long as Run
// does. What changes while it looks may be missed, and what ends is left out:
// Run looks again.
//
// Processes that come and go do not hold still for a look: one end of a pipe may
// be seen before a fork(2), the other after it. So what is refused is what every
// one of several looks finds; or the last, if each finds something else.
//
// estimate is how large the image would be, as far as that depends on memory.
func Check(ctx context.Context, src Source, o Options) (refused []error, unseen []string, estimate Estimate, err error) {
	var all []error // found by every look so far
	for n := 1; ; n++ {
		var sure []error
		if n == 2 {
			o.Log = slog.New(slog.DiscardHandler) // all has been told
		}
		err := kernel.OnThread(func() (err error) { // as in Run: a look may take a bare child
			refused, sure, unseen, estimate, err = checkOnce(ctx, src, o)
			return err
		})
		if err != nil {
			return nil, nil, estimate, err
		}
		if n == 1 {
			all = refused
		} else {
			all = slices.DeleteFunc(all, func(e error) bool { return !slices.ContainsFunc(refused, sameText(e)) })
		}
		switch {
		case len(sure) > 0:
			return append(refused, sure...), unseen, estimate, nil
		case len(refused) == 0:
			return nil, unseen, estimate, nil
		case n < looks:
		case len(all) > 0:
			return all, unseen, estimate, nil
		default:
			return refused, unseen, estimate, nil
		}
	}
}

// looks is how often a check looks before it refuses. A shell that makes one
// pipeline after the other is seen between two forks in a few looks of a hundred.
const looks = 5

func sameText(e error) func(error) bool {
	return func(o error) bool { return e.Error() == o.Error() }
}

// checkOnce looks once; sure is what needs no second look, since it was waited for.
func checkOnce(ctx context.Context, src Source, o Options) (refused, sure []error, unseen []string, estimate Estimate, err error) {
	s, err := newSession(src, o, nil)
	if err != nil {
		return nil, nil, nil, estimate, err
	}
	defer s.close()
	s.d.Peek = s.peek
	all, err := s.check(ctx)
	if err == nil {
		err = s.unusedExternals()
	}
	if err != nil {
		return nil, nil, nil, estimate, err
	}
	sure = append(waitOut(ctx, slices.DeleteFunc(slices.Clone(all), notBusy)), s.stuck(ctx)...)
	return slices.DeleteFunc(all, func(err error) bool { return !notBusy(err) }), sure, s.unseen(), s.estimate(), ctx.Err()
}

func notBusy(err error) bool {
	_, ok := errors.AsType[*kind.Busy](err)
	return !ok
}

func (s *session) check(ctx context.Context) (refused []error, err error) {
	pids, err := pidns.Walk(s.src.Root)
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := s.look(int(pid)); err != nil {
			return nil, err
		}
	}
	if err := s.settle(pids); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(failure.All(s.examine()), s.hasPassed), nil
}

// unseen is what the kinds do not look at while the processes run, of those that
// every process has, and of threads and files that one has.
func (s *session) unseen() (out []string) {
	add := func(what string) {
		if what != "" && !slices.Contains(out, what) {
			out = append(out, what)
		}
	}
	for _, k := range s.kinds.All() {
		add(k.Unseen)
	}
	for _, k := range s.kinds.Namespaces {
		add(k.Unseen)
	}
	for _, k := range s.kinds.Threads {
		for _, p := range s.d.Procs {
			for _, t := range p.Threads {
				if k.Unseen != nil {
					add(k.Unseen(t))
				}
			}
		}
	}
	for _, d := range s.files {
		if k, err := s.kindOf(d); err == nil {
			add(k.Unseen)
		}
	}
	return out
}

// hasPassed tells of an error that comes of the end of a process or thread
// while it was looked at.
func (s *session) hasPassed(err error) bool {
	if errors.Is(err, unix.ESRCH) {
		return true
	}
	e, ok := errors.AsType[*failure.Error](err)
	if !ok {
		return false
	}
	i := slices.IndexFunc(s.d.Procs, func(p *kind.Proc) bool { return p.VPID == pidns.VPID(e.VPID) })
	if i < 0 || s.d.Procs[i].Zombie {
		return false
	}
	p := s.d.Procs[i]
	return !slices.ContainsFunc(p.Threads, func(t *kind.Task) bool { return !ending(t) }) ||
		ignoreGone(err) == nil && slices.ContainsFunc(p.Threads, func(t *kind.Task) bool { return !t.Extra.Dead && ending(t) })
}

// ending tells whether a thread has ended, or is just giving back what it has.
func ending(t *kind.Task) bool {
	st, err := t.FS.Stat()
	return ignoreGone(err) == nil && (err != nil || st.State == 'Z' || st.State == 'X' || st.Flags&procfs.PFExiting != 0)
}

// endedMeanwhile tells of an error that is for a process, or a descriptor, not
// being there any more, while only checking: nothing keeps it there.
func (s *session) endedMeanwhile(err error) bool {
	return s.out == nil && err != nil && (ignoreGone(err) == nil || errors.Is(err, unix.EBADF))
}

// waitOut drops of busy (kind.Busy) what passes while it waits, which is for as
// long as Run does.
func waitOut(ctx context.Context, busy []error) []error {
	for deadline := time.Now().Add(drainPatience); ; {
		busy = slices.DeleteFunc(busy, func(err error) bool {
			b, ok := errors.AsType[*kind.Busy](err)
			return ok && b.Done()
		})
		if len(busy) == 0 || time.Now().After(deadline) {
			return busy
		}
		select {
		case <-ctx.Done():
			return busy
		case <-time.After(time.Millisecond):
		}
	}
}

// stuck refuses threads that wait in vfork(2) for as long as Run would try.
func (s *session) stuck(ctx context.Context) (refused []error) {
	deadline := time.Now().Add(freezeTries * (vforkPatience + tryPause))
	for _, p := range s.d.Procs {
		for _, t := range p.Threads {
			for inVfork(t) {
				if time.Now().After(deadline) {
					refused = append(refused, s.failThread(p, t, "", failure.WithHint(failure.Mark(failure.ErrUnsupported, errVfork), vforkHint)))
					break
				}
				select {
				case <-ctx.Done():
					return refused
				case <-time.After(tryPause):
				}
			}
		}
	}
	return refused
}

// inVfork tells whether a running thread is deaf and makes a process.
func inVfork(t *kind.Task) bool {
	st, err := t.FS.Stat()
	return err == nil && st.State == 'D' && forking(t)
}

// look takes a running process as freeze takes a stopped one.
func (s *session) look(pid int) error {
	fs, err := procfs.Open(pid)
	if err != nil {
		return ignoreGone(err)
	}
	p := &kind.Proc{Host: pidns.HostPID(pid), FS: fs}
	s.procs[pid] = p
	st, err := fs.Stat()
	if err != nil || st.State == 'X' {
		return ignoreGone(err)
	}
	tids, err := fs.Tasks()
	if err != nil {
		return ignoreGone(err)
	}
	for _, tid := range tids {
		if tid == pid && st.State == 'Z' {
			continue // a zombie, or a leader that has ended before the others
		}
		t, err := fs.Thread(tid)
		if err != nil {
			if err := ignoreGone(err); err != nil {
				return err
			}
			continue
		}
		p.Threads = append(p.Threads, &kind.Task{Host: pidns.HostPID(tid), FS: t})
	}
	return nil
}

// close gives back every descriptor the session holds.
func (s *session) close() {
	if s.hand != nil {
		_ = s.hand.Kill()
	}
	for _, d := range s.files {
		if d.FD >= 0 {
			_ = d.File.Close()
		}
	}
	if err := s.endOvers(); err != nil {
		s.log.Warn("something is left over", "why", err)
	}
	for _, p := range s.procs {
		closeProc(p)
	}
	_ = s.self.Close()
}

func closeProc(p *kind.Proc) {
	if p.PIDFD != nil {
		_ = p.PIDFD.Close()
	}
	for _, t := range p.Threads {
		if t.FS != p.FS {
			_ = t.FS.Close()
		}
	}
	_ = p.FS.Close()
}
