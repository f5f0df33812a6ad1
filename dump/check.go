package dump

import (
	"context"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
)

// Check lists everything that a dump of the container would refuse, without
// stopping or touching it. What changes while it looks may be missed: Run
// looks again.
func Check(ctx context.Context, src Source, o Options) (refused []error, err error) {
	s, err := newSession(src, o.Log, nil)
	if err != nil {
		return nil, err
	}
	defer s.close()
	pids, err := pidns.Walk(src.InitHost)
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
	return failure.All(s.examine()), nil
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
	if err != nil || st.State == 'Z' || st.State == 'X' {
		return ignoreGone(err)
	}
	tids, err := fs.Tasks()
	if err != nil {
		return ignoreGone(err)
	}
	for _, tid := range tids {
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
	_ = s.self.Close()
}
