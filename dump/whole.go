package dump

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

// as is Dump.As.
func (s *session) as(p *kind.Proc, size uint64, use func(tracee.Runner) error) error {
	return s.runIn(p, p.Maps, size, "it", use)
}

// runIn lets use run calls in a process, and takes out again what they need:
// it may share its memory with the next one. who is it, for messages.
func (s *session) runIn(p *kind.Proc, maps []procfs.Map, size uint64, who string, use func(tracee.Runner) error) (err error) {
	inj, err := tracee.Inject(p.Lead().Traced, maps, size)
	if err != nil {
		return fmt.Errorf("run calls in %s: %w", who, err)
	}
	s.injected = append(s.injected, inj)
	defer func() {
		s.injected = s.injected[:len(s.injected)-1]
		err = errors.Join(err, inj.Remove())
	}()
	return use(inj.Runner(p.Lead().Traced, who))
}

// whole is Dump.Whole. Until the script's first call the child dies with ckpt,
// first by PTRACE_O_EXITKILL and then by its parent-death signal, which that
// call clears and one at the end sets again. Whether ckpt has died in between
// is told by PTRACE_TRACEME, which fails in a process that is traced; the call
// behind it ends the child.
func (s *session) whole(size uint64, build, read func(*tracee.Script) error) (err error) {
	deathSignal := func(sc *tracee.Script, sig unix.Signal) { sc.Must(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uint64(sig)) }
	if err := s.d.Inside(func(sc *tracee.Script) error { deathSignal(sc, unix.SIGKILL); return nil }, nil); err != nil {
		return err
	}
	site, drop, err := s.roomInHand(size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	sc := tracee.NewScript(site.Base)
	deathSignal(sc, 0)
	if err := build(sc); err != nil {
		return err
	}
	deathSignal(sc, unix.SIGKILL)
	alive := sc.Must(unix.SYS_PTRACE, unix.PTRACE_TRACEME)
	sc.Must(unix.SYS_EXIT_GROUP, 0)
	if err := s.hand.SetOptions(tracee.Options{}); err != nil {
		return err
	}
	err = s.hand.Run(site, sc)
	if se, ok := errors.AsType[*tracee.StepError](err); ok && se.Step == int(alive) && se.Errno == unix.EPERM {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("run calls in the container's namespaces: %w", err)
	}
	err = errors.Join(err, s.hand.SetOptions(tracee.Options{ExitKill: true, Children: true}))
	if err != nil || read == nil {
		return err
	}
	return read(sc)
}

// roomInHand maps an area for calls in the bare child.
func (s *session) roomInHand(size uint64) (site tracee.Site, drop func() error, err error) {
	site = s.handSite
	if site.Base, err = mapRoom(s.hand, site, size); err != nil {
		return site, nil, err
	}
	site.Size = size
	return site, func() error {
		_, err := s.hand.Syscall(s.handSite, unix.SYS_MUNMAP, site.Base, site.Size)
		return err
	}, nil
}

func mapRoom(hand *tracee.Thread, site tracee.Site, size uint64) (uint64, error) {
	area, err := hand.Syscall(site, unix.SYS_MMAP, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0)
	if err != nil {
		return 0, fmt.Errorf("make room for calls in the container's namespaces: %w", err)
	}
	return area, nil
}
