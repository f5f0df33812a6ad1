package restore

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/restore/tree"
	"ckpt/tracee"
)

// tree gives birth to a bare child for every process, at its ids, in its
// session and group; zombies die.
func (s *session) tree() error {
	max, err := tracee.Sysctl(s.root.Thread.Runner(s.root.Site, "vpid 1"), container.PIDMaxName)
	if err != nil {
		return &failure.Error{Doing: "restore", What: "the tree of processes", Err: err}
	}
	s.pidMax = max
	steps, err := tree.Compile(s.rows(), tree.Options{NoInit: s.r.Manifest.GetNoInit(), PIDMax: s.pidMax, Linger: s.held.linger})
	if err != nil && !errors.Is(err, failure.ErrUnsupported) {
		err = failure.Mark(failure.ErrDamaged, err)
	}
	if err != nil {
		return &failure.Error{Doing: "restore", What: "the tree of processes", Err: err}
	}
	// No step makes vpid 1 a session leader: container.Create did.
	if err := s.lead(pidns.Init); err != nil {
		return &failure.Error{Doing: "restore", What: "session 1", Err: err}
	}
	births := steps
	if at := slices.Index(steps, tree.Step(tree.Settled{})); at >= 0 {
		births, s.endings = steps[:at], steps[at+1:]
	}
	s.carriers = s.carriersOf(births)
	if err := s.takeAll(births); err != nil {
		return err
	}
	s.tellThreads(steps)
	s.told = tree.Told(steps)
	for _, t := range s.r.Targets {
		stub := s.stubs[t.VPID]
		if stub == nil && !t.Zombie {
			return fmt.Errorf("pid %d was not made", t.VPID)
		}
		if stub != nil {
			s.found(t)
		}
	}
	return nil
}

// found notes which bare child a process is.
func (s *session) found(t *kind.Target) {
	stub := s.stubs[t.VPID]
	t.Host, t.Threads[0].Traced = pidns.HostPID(stub.PID), stub
}

func (s *session) rows() []tree.Row {
	var rows []tree.Row
	for _, t := range s.r.Targets {
		e := t.Entry
		r := tree.Row{VPID: t.VPID, Comm: t.TC.GetComm(), PPID: pidns.VPID(e.GetPpid()), PGID: pidns.VPID(e.GetPgid()), SID: pidns.VPID(e.GetSid()),
			Zombie: t.Zombie, VM: uint64(t.IDs.GetVmId()), Files: uint64(t.IDs.GetFilesId()), FS: uint64(t.IDs.GetFsId()),
			Sighand: uint64(t.IDs.GetSighandId()), ExitSignal: unix.Signal(t.Extra.GetExitSignal())}
		if t.Zombie {
			r.Status = unix.WaitStatus(t.TC.GetExitCode())
		}
		r.ByThread = pidns.VPID(t.Extra.GetParentThread())
		r.Space, r.Nested = s.ids.space(t.VPID), s.ids.chain(t.VPID).Nested()
		if owner := s.owners.of(space{"pid", uint32(r.Space)}); owner != image.NamespaceID {
			r.Owner = owner
		}
		r.Users, _ = s.owners.way(image.NamespaceID, t.IDs.GetUserNsId())
		r.Alone = s.alone(t)
		r.GroupNested, r.SessionNested = s.ids.seen(r.Space, r.PGID), s.ids.seen(r.Space, r.SID)
		for _, tt := range t.Threads {
			r.Threads = append(r.Threads, tt.VTID)
			r.ThreadsNested = append(r.ThreadsNested, s.ids.chain(tt.VTID).Nested()...)
		}
		rows = append(rows, r)
	}
	return rows
}

func (s *session) takeAll(steps []tree.Step) error {
	for _, step := range steps {
		if err := s.take(step); err != nil {
			return &failure.Error{Doing: "restore", What: step.String(), Err: err}
		}
	}
	return nil
}

// take takes one step.
func (s *session) take(step tree.Step) error {
	switch st := step.(type) {
	case tree.Fork:
		if err := s.bequeath(st.Parent); err != nil {
			return err
		}
		by, err := s.forker(st)
		if err != nil {
			return err
		}
		space := pidns.VPID(0)
		if st.Flags&unix.CLONE_NEWPID != 0 {
			space = st.Child
		}
		place, ids := s.places[st.Parent].born(space), append(pidns.Chain{st.Child}, st.Nested...)
		numbers, err := s.giveNumbers(st.Parent, place.path, ids)
		if err != nil {
			return err
		}
		child, err := tracee.ForkStub(by, s.root.Site, tracee.ForkOptions{SetTID: numbers, Flags: st.Flags, ExitSignal: st.ExitSignal})
		if err != nil {
			if errors.Is(err, tracee.ErrGone) {
				s.stillborn = st.Child
			}
			return err
		}
		s.born[st.Child] = ids
		s.heirs[st.Child] = s.heirs[st.Parent]
		s.stubs[st.Child] = child
		return s.inherit(place, st.Child)
	case tree.Enter:
		return s.descend(st.P, s.target(st.For), st.User)
	case tree.Setsid:
		if err := s.call(st.P, unix.SYS_SETSID); err != nil {
			return err
		}
		return s.lead(st.P)
	case tree.Setpgid:
		if st.By != 0 {
			return s.call(st.By, unix.SYS_SETPGID, s.known(st.By, st.P), s.known(st.By, st.PGID))
		}
		return s.call(st.P, unix.SYS_SETPGID, 0, s.known(st.P, st.PGID))
	case tree.Exit:
		return s.exit(st)
	case tree.Reap:
		return s.call(st.Parent, unix.SYS_WAIT4, s.known(st.Parent, st.Child), 0, unix.WNOHANG|unix.WALL, 0)
	case tree.Unshare:
		return s.call(st.P, unix.SYS_UNSHARE, st.Flags)
	case tree.Subreaper:
		on := uint64(0)
		if st.On {
			on = 1
		}
		return s.call(st.P, unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, on)
	}
	return fmt.Errorf("unknown step %T", step)
}

// tellThreads tells of processes that have become children of the leading
// thread.
func (s *session) tellThreads(steps []tree.Step) {
	by := tree.Threads(steps)
	for _, t := range s.r.Targets {
		if th := pidns.VPID(t.Extra.GetParentThread()); th != by[t.VPID] {
			s.o.Log.Warn("the end of a thread will not be told as that of a parent (PR_SET_PDEATHSIG): "+
				"its child has become one of the leading thread", "vpid", t.VPID, "thread", th)
		}
	}
}

// forker is the thread that forks.
func (s *session) forker(st tree.Fork) (*tracee.Thread, error) {
	if st.Thread == 0 {
		return s.stubs[st.Parent], nil
	}
	for _, tt := range s.target(st.Parent).Threads {
		if tt.VTID != st.Thread {
			continue
		}
		if tt.Traced == nil {
			if err := s.enterSpaces(s.target(st.Parent)); err != nil {
				return nil, s.fail(s.target(st.Parent), "", err)
			}
			if err := s.bearThread(st.Parent, tt, s.stubs[st.Parent], s.root.Site); err != nil {
				return nil, fmt.Errorf("make thread %d: %w", tt.VTID, err)
			}
		}
		return tt.Traced, nil
	}
	return nil, failure.Damagedf("pid %d is a child of thread %d, which pid %d has not", st.Child, st.Thread, st.Parent)
}

// known is the number by which a bare child knows another, or a group.
func (s *session) known(by, v pidns.VPID) uint64 {
	c := s.born[v]
	level := max(0, len(s.born[by])-1)
	if level >= len(c) {
		return uint64(v) // the container's own: no step is made for one without a name
	}
	return uint64(c[level])
}

// setTID is a chain as clone3(2) takes it: the innermost id first.
func setTID(c pidns.Chain) []int32 {
	var out []int32
	for _, id := range slices.Backward(c) {
		out = append(out, int32(id))
	}
	return out
}

// lead gives a new session what its processes inherit.
func (s *session) lead(leader pidns.VPID) error {
	t := s.target(leader)
	if t == nil || t.Zombie {
		return nil // it dies again, and with it all that
	}
	sc := tracee.NewScript(s.root.Site.Base)
	fetch := func(f *os.File) tracee.Step { return s.keepIn(leader, sc, f) }
	if err := s.within(func() error {
		for _, k := range s.kinds.All() {
			if k.Lead == nil {
				continue
			}
			if err := k.Lead(s.r, t, sc, fetch); err != nil {
				return s.fail(t, k.Name, err)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return s.runBare(leader, sc)
}

// takeFile is Restore.Take.
func takeFile(sc *tracee.Script, f *os.File) tracee.Step {
	step := sc.Must(unix.SYS_PIDFD_GETFD, container.SelfFD, uint64(f.Fd()), 0)
	sc.Note(step, "take "+f.Name())
	return step
}

func (s *session) call(p pidns.VPID, nr uintptr, args ...uint64) error {
	_, err := s.stubs[p].Syscall(s.root.Site, nr, args...)
	return err
}

// exit ends a helper or makes a zombie, which keeps its name.
func (s *session) exit(st tree.Exit) error {
	stub := s.stubs[st.P]
	if t := s.target(st.P); t != nil {
		if err := s.zombie(t, stub); err != nil {
			return err
		}
	}
	if st.Status.CoreDump() {
		s.o.Log.Warn("a zombie dumped core, which its parent will not see (WCOREDUMP)", "vpid", st.P)
	}
	status := st.Status
	if h := s.held.byID[st.P]; h != nil && s.target(st.P) == nil {
		status = unix.WaitStatus(h.GetStatus())
	}
	if err := tracee.ExitStub(stub, s.root.Site, status); err != nil {
		return err
	}
	if s.target(st.P) == nil {
		delete(s.stubs, st.P) // another helper may get the number
	} else {
		s.ended[st.P] = true
	}
	return nil
}

// zombie makes a bare child what is seen of a process that has ended.
func (s *session) zombie(t *kind.Target, stub *tracee.Thread) error {
	t.Host = pidns.HostPID(stub.PID)
	tt := t.Threads[0]
	tt.Script = tracee.NewScript(s.root.Site.Base)
	if err := s.within(func() error { return s.dead(t, tt) }); err != nil {
		return err
	}
	return stub.Run(s.root.Site, tt.Script)
}

// dead adds to a thread's script what is left of one that has ended.
func (s *session) dead(t *kind.Target, tt *kind.TargetThread) error {
	tt.Script.Must(unix.SYS_PRCTL, unix.PR_SET_NAME, tt.Script.Str(t.TC.GetComm()))
	for _, k := range s.kinds.Threads {
		if k.RestoreDead == nil {
			continue
		}
		if err := k.RestoreDead(s.r, t, tt); err != nil {
			return s.failThread(t, tt, k.Name, err)
		}
	}
	return nil
}

func (s *session) target(v pidns.VPID) *kind.Target {
	for _, t := range s.r.Targets {
		if t.VPID == v {
			return t
		}
	}
	return nil
}
