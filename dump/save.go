package dump

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

// areaSize is the room for scripts in a process being asked, in bytes. The
// pages are touched only as far as a script needs them.
const areaSize = 1 << 20

// save writes everything but the manifest. The container is frozen.
func (s *session) save(ctx context.Context) error {
	if err := s.examine(); err != nil {
		return err
	}
	for _, p := range s.d.Procs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.ask(p); err != nil {
			return err
		}
	}
	if err := s.readCounters(); err != nil {
		return err
	}
	for _, k := range s.kinds.Namespaces {
		if k.Ask == nil {
			continue
		}
		if err := k.Ask(s.d); err != nil {
			return &failure.Error{Doing: "dump", What: k.Name, Err: err}
		}
	}
	if err := s.late(); err != nil {
		return err
	}
	if err := s.counted(image.PhaseFiles, 0, func() error {
		if err := errors.Join(s.saveFiles(), s.unusedExternals()); err != nil {
			return err
		}
		// Clocks are read after every timer (a restored one must not be early)
		// and before the bulk (nor late by the time that takes).
		return errors.Join(s.saveNamespaces(), s.unhide())
	}); err != nil {
		return err
	}
	if err := s.counted(image.PhaseMemory, s.resident(), func() error { return s.bulk(ctx) }); err != nil {
		return err
	}
	return s.write()
}

// examine looks at everything that can be seen without running code in a
// process, and gathers all that stands in the way of a dump.
func (s *session) examine() error {
	if err := s.readable(); err != nil {
		return err
	}
	if err := s.findNamespaces(); err != nil {
		return err
	}
	refused, err := s.collectFiles()
	if err != nil {
		return err
	}
	refused = append(refused, s.checkTree()...)
	for _, p := range s.d.Procs {
		for _, k := range s.kinds.All() {
			if k.Observe != nil && !p.Zombie {
				refused = append(refused, s.fail(p, k.Name, k.Observe(s.d, p)))
			}
		}
		if !p.Zombie {
			refused = append(refused, s.fail(p, "", s.room(p)))
		}
		for _, t := range p.Threads {
			refused = append(refused, s.observeThread(p, t)...)
		}
	}
	err = errors.Join(append(refused, s.origin.outside()...)...)
	if err != nil && s.out != nil { // else the files on their way in others have a say as well
		err = errors.Join(err, s.unusedExternals())
	}
	return err
}

func (s *session) observeThread(p *kind.Proc, t *kind.Task) (refused []error) {
	for _, k := range s.kinds.Threads {
		observe := k.Observe
		if t.Extra.Dead {
			observe = k.ObserveDead
		}
		if observe != nil {
			refused = append(refused, s.failThread(p, t, k.Name, observe(s.d, p, t)))
		}
	}
	return refused
}

// readable refuses processes that have made themselves undumpable: what stands
// in their /proc/PID belongs to root, and to an ordinary user says nothing.
// They hide all else that may stand in the way.
func (s *session) readable() error {
	var refused []error
	for _, p := range s.d.Procs {
		if p.Zombie {
			continue
		}
		_, err := p.FS.Auxv()
		if hidden(err) {
			err = closed(p.Status)
		}
		refused = append(refused, s.fail(p, "", ignoreGone(err)))
	}
	return errors.Join(refused...)
}

// closed is why an ordinary user cannot look into a process.
func closed(st *procfs.Status) error {
	why := failure.Unsupportedf("it has hidden its memory from its own user (PR_SET_DUMPABLE), and only root can look into it")
	own := uint32(os.Geteuid())
	if i := slices.IndexFunc(st.Uid[:3], func(u uint32) bool { return u != own }); i >= 0 {
		why = failure.Unsupportedf("it runs with the rights of user %d, and ckpt with those of user %d", st.Uid[i], own)
	}
	return failure.WithHint(why, "dump as root")
}

func hidden(err error) bool { return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) }

// ask runs the calls of every kind in p and in each of its threads.
func (s *session) ask(p *kind.Proc) (err error) {
	if p.Zombie {
		return nil
	}
	lead := p.Lead()
	inj, err := tracee.Inject(lead.Traced, p.Maps, areaSize)
	if err != nil {
		return s.fail(p, "run calls in it", err)
	}
	s.injected = append(s.injected, inj)
	defer func() {
		s.injected = s.injected[:len(s.injected)-1]
		err = errors.Join(err, s.fail(p, "take back what was injected", inj.Remove()))
	}()

	var reads []func() error
	script := tracee.NewScript(inj.Site().Base)
	for _, k := range s.kinds.All() {
		if k.Ask == nil {
			continue
		}
		read, err := k.Ask(s.d, p, script)
		if err != nil {
			return s.fail(p, k.Name, err)
		}
		reads = append(reads, s.named(p, k.Name, read))
	}
	continued := peek(script, unix.P_ALL, 0)
	if err := s.runScript(inj, p, lead, script, reads); err != nil {
		return err
	}
	if continued() {
		if err := s.findContinued(inj, p); err != nil {
			return err
		}
	}
	for _, t := range p.Threads {
		if t.Traced == nil {
			continue
		}
		if err := s.askThread(inj, p, t); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) askThread(inj *tracee.Injection, p *kind.Proc, t *kind.Task) error {
	var reads []func() error
	script := tracee.NewScript(inj.Site().Base)
	for _, k := range s.kinds.Threads {
		if k.Ask == nil {
			continue
		}
		read, err := k.Ask(s.d, p, t, script)
		if err != nil {
			return s.failThread(p, t, k.Name, err)
		}
		reads = append(reads, s.named(p, k.Name, read))
	}
	return s.runScript(inj, p, t, script, reads)
}

func (s *session) runScript(inj *tracee.Injection, p *kind.Proc, t *kind.Task, script *tracee.Script, reads []func() error) error {
	if script.Len() == 0 {
		return nil
	}
	if script.Size() > inj.Site().Size {
		return s.fail(p, "run calls in it", fmt.Errorf("%d bytes of calls do not fit into %d", script.Size(), inj.Site().Size))
	}
	if err := inj.Run(t.Traced, script); err != nil {
		return s.failThread(p, t, "run calls in it", err)
	}
	for _, read := range reads {
		if err := read(); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) named(p *kind.Proc, what string, read func() error) func() error {
	return func() error {
		if read == nil {
			return nil
		}
		return s.fail(p, what, read())
	}
}

// late goes the other way round than a restore does.
func (s *session) late() error {
	for _, p := range s.d.Procs {
		if p.Zombie {
			continue
		}
		for _, t := range p.Threads {
			for _, k := range slices.Backward(s.kinds.Threads) {
				if k.Late != nil && t.Traced != nil {
					if err := k.Late(s.d, p, t); err != nil {
						return s.failThread(p, t, k.Name, err)
					}
				}
			}
		}
		for _, k := range slices.Backward(s.kinds.All()) {
			if k.Late != nil {
				if err := k.Late(s.d, p); err != nil {
					return s.fail(p, k.Name, err)
				}
			}
		}
		if err := s.findStop(p); err != nil {
			return s.fail(p, "read how it was stopped", err)
		}
	}
	return nil
}

func (s *session) bulk(ctx context.Context) error {
	for _, p := range s.d.Procs {
		for _, k := range s.kinds.All() {
			if k.Bulk == nil || p.Zombie {
				continue
			}
			n, err := k.Bulk(ctx, s.d, p)
			s.bytes += n
			if err != nil {
				return s.fail(p, k.Name, err)
			}
		}
	}
	return nil
}

// counted has the bytes counted that work hands over.
func (s *session) counted(name string, total uint64, work func() error) error {
	s.phase = s.progress.BeginOf(len(s.d.Procs), name, total)
	s.out.Count(s.phase)
	err := work()
	if err == nil {
		s.phase.End()
	}
	return err
}

// resident is about how much memory there is to save, in bytes, as far as that has
// been read anyway: to ask for more would keep the container stopped for longer.
func (s *session) resident() (n uint64) {
	shared := uint64(0) // mostly the same in all
	for _, p := range s.d.Procs {
		if p.Zombie || p.SharesVM != nil {
			continue
		}
		n += p.Status.RssAnon + p.Status.VmSwap + p.Status.HugetlbPages
		shared = max(shared, p.Status.RssShmem)
	}
	return n + shared
}

func (s *session) failThread(p *kind.Proc, t *kind.Task, what string, err error) error {
	if t.VTID != p.VPID {
		of := fmt.Sprintf("thread %d", t.VTID)
		if what != "" {
			of += ": " + what
		}
		what = of
	}
	return s.fail(p, what, err)
}
