package restore

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// processes makes the files, then turns each bare child into its process,
// and only when all are there runs what must come last.
func (s *session) processes() error {
	area, err := s.reserve(areaSize)
	if err != nil {
		return err
	}
	s.area = area
	s.r.Park = kind.Range{Start: area.End - parkSize, End: area.End}
	if err := s.bearFar(); err != nil {
		return err
	}
	if err := s.lastPID(); err != nil {
		return err
	}
	if err := s.within(s.counted(s.openFiles)); err != nil {
		return err
	}
	s.contents.End()
	if err := s.endMost(); err != nil {
		return err
	}
	for _, t := range s.live() {
		if err := s.rebuild(t); err != nil {
			return err
		}
	}
	for _, t := range s.live() {
		for _, tt := range t.Threads {
			if err := tt.Traced.BlockSignals(queued(t, tt)); err != nil {
				return s.fail(t, "", err)
			}
		}
		if err := s.run(t, t.Threads[0], t.Late); err != nil {
			return err
		}
	}
	if err := s.endRest(); err != nil {
		return err
	}
	for _, t := range s.live() {
		for _, tt := range t.Threads {
			if err := s.run(t, tt, tt.Last); err != nil {
				return err
			}
		}
	}
	return nil
}

// bearFar makes the threads of processes in user namespaces made inside. Some
// of their ids are given through the first process of a pid namespace, which
// must be bare for that.
func (s *session) bearFar() error {
	for _, t := range s.live() {
		if !s.places[t.VPID].far() {
			continue
		}
		if err := s.prepare(t); err != nil {
			return err
		}
		if err := s.bearThreads(t); err != nil {
			return err
		}
	}
	return nil
}

// live are the targets that are no zombies.
func (s *session) live() (out []*kind.Target) {
	for _, t := range s.r.Targets {
		if !t.Zombie {
			out = append(out, t)
		}
	}
	return out
}

// rebuild makes the address space, the descriptors and the rest of a process,
// then its threads.
func (s *session) rebuild(t *kind.Target) error {
	if err := s.prepare(t); err != nil {
		return err
	}
	if err := s.within(func() error { return s.compile(t) }); err != nil {
		return err
	}
	if err := s.run(t, t.Threads[0], t.Main); err != nil {
		return err
	}
	for _, check := range t.Check {
		if err := check(); err != nil {
			return s.fail(t, "", err)
		}
	}
	if err := s.bearThreads(t); err != nil {
		return err
	}
	return s.threads(t)
}

// bearThreads makes the threads of t that are not there yet. That is done
// after Main, which is quicker in a process of one thread: the kernel waits
// for all CPUs (synchronize_rcu()) where a table of descriptors grows that
// threads share, and where one registers with membarrier(2).
func (s *session) bearThreads(t *kind.Target) error {
	for _, tt := range t.Threads[1:] {
		if tt.Traced != nil {
			continue
		}
		if err := s.bearThread(t.VPID, tt, t.Threads[0].Traced, s.siteOf(t)); err != nil {
			return s.fail(t, fmt.Sprintf("make thread %d", tt.VTID), err)
		}
	}
	return nil
}

// threadFlags are those of a thread (pthread_create(3)).
const threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM

func (s *session) bearThread(of pidns.VPID, tt *kind.TargetThread, leader *tracee.Thread, site tracee.Site) (err error) {
	numbers, err := s.giveNumbers(of, s.places[of].path, tt.Chain)
	if err != nil {
		return err
	}
	tt.Traced, err = tracee.ForkStub(leader, site, tracee.ForkOptions{SetTID: numbers, Flags: threadFlags})
	if err == nil {
		s.stubs[tt.VTID] = tt.Traced
	}
	return err
}

// bear is Restore.Bear. Called on the inner thread.
func (s *session) bear(v pidns.VPID) error {
	t := s.owner(v)
	if t == nil || s.stubs[v] != nil {
		return nil
	}
	done := make(chan error, 1)
	s.ask <- func() {
		err := s.prepare(t)
		if err == nil {
			err = s.bearThreads(t)
		}
		done <- err
	}
	return <-done
}

// prepare gives the child a place for code and scripts that its future
// mappings leave free, unless it shares the address space of one that has it.
// It does so once.
func (s *session) prepare(t *kind.Target) error {
	if t.Main != nil {
		return nil
	}
	if t.OwnsVM {
		if err := s.makeSite(t); err != nil {
			return s.fail(t, "", err)
		}
	} else if err := s.prepareOwner(t); err != nil {
		return err
	}
	base := s.siteOf(t).Base
	t.Main, t.Late = tracee.NewScript(base), tracee.NewScript(base)
	return nil
}

// prepareOwner prepares the process that rebuilds the address space of t: one
// that has a thread made early may come before it.
func (s *session) prepareOwner(t *kind.Target) error {
	for _, o := range s.r.Targets {
		if o.OwnsVM && o.IDs.GetVmId() == t.IDs.GetVmId() {
			return s.prepare(o)
		}
	}
	return nil
}

// makeSite makes that place in the address space of t.
func (s *session) makeSite(t *kind.Target) error {
	lead := t.Threads[0].Traced
	size := s.r.Park.Start - s.area.Start
	if _, err := lead.Syscall(s.root.Site, unix.SYS_MMAP, s.area.Start, s.area.Len(), unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE|unix.MAP_FIXED_NOREPLACE, ^uint64(0), 0); err != nil {
		return fmt.Errorf("make room for scripts at %#x: %w", s.area.Start, err)
	}
	site, err := tracee.InstallSite(int(t.Host), s.area.Start, size)
	if err != nil {
		return err
	}
	s.sites[t.IDs.GetVmId()] = site
	p, err := procfs.Open(int(t.Host))
	if err != nil {
		return err
	}
	defer p.Close()
	t.StubMaps, err = p.MapsOnly()
	return err
}

func (s *session) siteOf(t *kind.Target) tracee.Site { return s.sites[t.IDs.GetVmId()] }

// compile fills Main and Late. It runs on the inner thread, since kinds make
// files meanwhile.
func (s *session) compile(t *kind.Target) error {
	s.dropEnds(t)
	t.Heir = s.heirs[t.VPID]
	id := t.IDs.GetFilesId()
	if t.OwnsFiles {
		tab, err := s.newTable(t)
		if err != nil {
			return s.fail(t, "", err)
		}
		s.tables[id] = tab
	}
	tab := s.tables[id]
	t.Fetch = func(sc *tracee.Script, f *os.File) uint64 { return tab.fetch(sc, f) }
	t.Drop = tab.drop
	if err := s.addKinds(t, s.kinds.Spaces); err != nil {
		return err
	}
	if t.OwnsFiles {
		if err := s.install(t, tab); err != nil {
			return err
		}
	}
	return s.addKinds(t, s.kinds.Processes)
}

// dropEnds takes from a process what helpers and zombies have told it by
// ending: SIGCHLD, and whatever else they were born to tell it, one each, since
// real-time signals do not merge. What it had before comes with the pending
// signals.
func (s *session) dropEnds(t *kind.Target) {
	for _, sig := range append([]unix.Signal{unix.SIGCHLD}, s.told[t.VPID]...) {
		takeSignal(t.Main, uint32(sig))
	}
}

// takeSignal takes one signal from those that wait, if it is there (else EAGAIN).
func takeSignal(sc *tracee.Script, sig uint32) {
	set := binary.LittleEndian.AppendUint64(nil, bit(sig))
	sc.Try(unix.SYS_RT_SIGTIMEDWAIT, sc.Data(set), 0, sc.Space(16), 8)
}

func (s *session) addKinds(t *kind.Target, kinds []kind.Process) error {
	for _, k := range kinds {
		if k.Restore == nil {
			continue
		}
		if err := k.Restore(s.r, t); err != nil {
			return s.fail(t, k.Name, err)
		}
	}
	return nil
}

// threads runs each thread's own script.
func (s *session) threads(t *kind.Target) error {
	base := s.siteOf(t).Base
	for _, tt := range t.Threads {
		tt.Script, tt.Last = tracee.NewScript(base), tracee.NewScript(base)
		if tt.Extra.GetDead() {
			if err := s.within(func() error { return s.dead(t, tt) }); err != nil {
				return err
			}
			if err := s.run(t, tt, tt.Script); err != nil {
				return err
			}
			continue
		}
		if err := s.within(func() error {
			for _, k := range s.kinds.Threads {
				if k.Restore == nil {
					continue
				}
				if err := k.Restore(s.r, t, tt); err != nil {
					return s.failThread(t, tt, k.Name, err)
				}
			}
			return nil
		}); err != nil {
			return err
		}
		if err := s.run(t, tt, tt.Script); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) run(t *kind.Target, tt *kind.TargetThread, sc *tracee.Script) error {
	if sc.Len() == 0 {
		return nil
	}
	site := s.siteOf(t)
	if sc.Size() > site.Size {
		return s.failThread(t, tt, "", fmt.Errorf("%d bytes of calls do not fit into %d", sc.Size(), site.Size))
	}
	s.deliver(sc)
	return s.failThread(t, tt, "", tt.Traced.Run(site, sc))
}

func (s *session) failThread(t *kind.Target, tt *kind.TargetThread, what string, err error) error {
	if tt.VTID != t.VPID {
		if what != "" {
			what = ": " + what
		}
		what = fmt.Sprintf("thread %d%s", tt.VTID, what)
	}
	return s.fail(t, what, err)
}

// queued are the signals that will be pending for a thread, or that a timer
// may send as soon as it is armed, bit N-1 for signal N: the end of a script
// must be told by another one.
func queued(t *kind.Target, tt *kind.TargetThread) (set uint64) {
	for _, si := range tt.Core.GetThreadCore().GetSignalsP().GetSignals() {
		set |= bitOf(si.GetSiginfo())
	}
	for _, si := range t.TC.GetSignalsS().GetSignals() {
		set |= bitOf(si.GetSiginfo())
	}
	for _, e := range t.TC.GetTimers().GetPosix() {
		set |= bit(e.GetSiSigno())
	}
	return set | bit(uint32(unix.SIGALRM)) | bit(uint32(unix.SIGVTALRM)) | bit(uint32(unix.SIGPROF))
}

func bitOf(siginfo []byte) uint64 {
	if len(siginfo) < 4 {
		return 0
	}
	return bit(binary.LittleEndian.Uint32(siginfo))
}

func bit(sig uint32) uint64 {
	if sig == 0 || sig > 64 {
		return 0
	}
	return 1 << (sig - 1)
}
