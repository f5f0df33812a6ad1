package restore

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// lastPID lets the container hand out pids where the dumped one stopped.
// Births at a chosen pid do not move the counter (kernel/pid.c, alloc_pid).
// A counter beyond the end of the ids here begins anew with the next birth, as
// it does where it comes to the end.
func (s *session) lastPID() error {
	return s.setLastPID(pidns.Init, min(int(s.r.Manifest.GetLastPid()), s.pidMax-1))
}

// setLastPID sets the pid handed out last in the pid namespace whose first
// process, a bare child, is in.
func (s *session) setLastPID(in pidns.VPID, last int) error {
	fd, err := s.openIn(in, procfs.SysctlPath("kernel/ns_last_pid"), unix.O_WRONLY)
	if err != nil {
		return err
	}
	text := strconv.Itoa(last)
	if err := s.asHere(in, func(sc *tracee.Script) error {
		sc.Must(unix.SYS_WRITE, fd, sc.Str(text), uint64(len(text)))
		sc.Must(unix.SYS_CLOSE, fd)
		return nil
	}, nil); err != nil {
		return fmt.Errorf("set ns_last_pid: %w", err)
	}
	return nil
}

// verify proves that the container has exactly the ids the image says, before
// anything runs in it.
func (s *session) verify() error {
	table, err := pidns.Read(pidns.HostPID(s.root.HostPID))
	if err != nil {
		return err
	}
	if err := table.Verify(s.r.Manifest.GetTable()); err != nil {
		return &failure.Error{Doing: "restore", What: "ids", Err: err}
	}
	return nil
}

// finish takes ckpt's code out of every process and gives its threads their
// own registers. They stay stopped.
func (s *session) finish() error {
	for _, k := range s.kinds.Namespaces {
		if k.Finish == nil {
			continue
		}
		if err := s.within(func() error { return k.Finish(s.r) }); err != nil {
			return &failure.Error{Doing: "restore", What: k.Name, Err: err}
		}
	}
	for _, t := range s.live() {
		if t.OwnsFiles {
			sc := tracee.NewScript(s.siteOf(t).Base)
			sc.Must(unix.SYS_CLOSE, s.tables[t.IDs.GetFilesId()].self)
			if err := s.run(t, t.Threads[0], sc); err != nil {
				return err
			}
		}
	}
	targets := s.live()
	for i := len(targets) - 1; i >= 0; i-- { // those that share an address space before its owner
		if err := s.finishProcess(targets[i]); err != nil {
			return err
		}
	}
	if s.r.Manifest.GetNoInit() {
		return nil
	}
	if s.parcels != nil {
		if err := s.call(pidns.Init, unix.SYS_CLOSE, parcelFD); err != nil {
			return err
		}
	}
	return s.root.BecomeInit(int(s.r.Manifest.GetMainVpid()))
}

func (s *session) finishProcess(t *kind.Target) error {
	for _, tt := range t.Threads {
		if tt.Extra.GetDead() {
			if err := tracee.ExitThread(tt.Traced, s.siteOf(t)); err != nil {
				return s.failThread(t, tt, "end it", err)
			}
			s.ended[tt.VTID] = true
			continue
		}
		for _, k := range s.kinds.Threads {
			if k.Final == nil {
				continue
			}
			if err := k.Final(s.siteOf(t), t, tt); err != nil {
				return s.failThread(t, tt, k.Name, err)
			}
		}
	}
	if t.OwnsVM {
		if err := s.clearArea(t); err != nil {
			return s.fail(t, "take the scripts out of it", err)
		}
	}
	if t.TC.GetTaskState() == taskStopped {
		return s.fail(t, "stop it again", s.stop(t))
	}
	return nil
}

// alive is the leading thread, or, where it is dead, the first that is not.
func alive(t *kind.Target) *kind.TargetThread {
	for _, tt := range t.Threads {
		if !tt.Extra.GetDead() {
			return tt
		}
	}
	return t.Threads[0]
}

// clearArea unmaps the scripts by a call of the leading thread, whose own
// state is put back once more.
func (s *session) clearArea(t *kind.Target) error {
	lead := alive(t).Traced
	mask, err := lead.SigMask()
	if err != nil {
		return err
	}
	regs, err := lead.Regs()
	if err != nil {
		return err
	}
	if err := lead.SetSigMask(^uint64(0)); err != nil {
		return err
	}
	if _, err := lead.SyscallAt(s.siteOf(t).Call, unix.SYS_MUNMAP, s.area.Start, s.area.Len()); err != nil {
		return err
	}
	if err := lead.Park(regs); err != nil {
		return err
	}
	if err := lead.SetRegs(regs); err != nil {
		return err
	}
	return lead.SetSigMask(mask)
}

// letGo is the commit: vpid 1 last, since until then its death, which is
// that of ckpt, is everybody's.
func (s *session) letGo() error {
	for i := len(s.r.Targets) - 1; i >= 0; i-- {
		t := s.r.Targets[i]
		if t.Zombie || t.VPID == pidns.Init {
			continue
		}
		if err := s.detach(t); err != nil {
			return err
		}
	}
	released := s.release()
	s.done = true
	if err := s.letInitGo(); err != nil {
		return err
	}
	released()
	return nil
}

func (s *session) letInitGo() error {
	if s.r.Manifest.GetNoInit() {
		return s.detach(s.target(pidns.Init))
	}
	err := s.root.Thread.Detach(0)
	if errors.Is(err, tracee.ErrGone) {
		return s.killed(pidns.Init)
	}
	return err
}

// release has the kinds let go what they have kept back, as far as it must be
// before vpid 1 is let go; then does the rest.
func (s *session) release() (then func()) {
	var rest []func()
	failed := func(kind string, err error) {
		if err != nil {
			s.o.Log.Warn("something may still be kept back", "kind", kind, "why", err)
		}
	}
	for _, k := range s.kinds.Files {
		if k.Release == nil {
			continue
		}
		failed(k.Name, s.within(func() error {
			after, err := k.Release(s.r)
			if after != nil {
				rest = append(rest, func() { failed(k.Name, s.within(after)) })
			}
			return err
		}))
	}
	return func() {
		for _, f := range rest {
			f()
		}
	}
}

func (s *session) detach(t *kind.Target) error {
	for i := len(t.Threads) - 1; i >= 0; i-- {
		if t.Threads[i].Extra.GetDead() {
			continue // let go already
		}
		err := t.Threads[i].Traced.Detach(0)
		if errors.Is(err, tracee.ErrGone) {
			return s.killed(t.VPID)
		}
		if err != nil {
			return s.failThread(t, t.Threads[i], "let it go", err)
		}
	}
	return nil
}
