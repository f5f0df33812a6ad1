package dump

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
)

// Check lists everything that a dump of the container would refuse, without
// stopping or touching it. What changes while it looks may be missed, and what
// ends is left out: Run looks again.
func Check(ctx context.Context, src Source, o Options) (refused []error, err error) {
	s, err := newSession(src, o.Log, nil)
	if err != nil {
		return nil, err
	}
	defer s.close()
	pids, err := pidns.Walk(src.Root)
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
	return slices.DeleteFunc(failure.All(s.examine()), func(err error) bool { return willPass(err) || s.hasPassed(err) }), nil
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

// willPass tells of a refusal that Run would wait for.
func willPass(err error) bool {
	b, ok := errors.AsType[*kind.Busy](err)
	return ok && !slices.ContainsFunc(b.Holders, func(p *kind.Proc) bool { return p.Stat.State == 'T' })
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
