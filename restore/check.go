package restore

import (
	"context"
	"errors"
	"maps"
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/all"
	"ckpt/pidns"
	"ckpt/restore/tree"
	"ckpt/tracee"
)

// Check lists what would keep the image in o.Dir from being restored on this
// machine, each with what can be done about it. It makes nothing. What only
// shows while a container is made (a port taken meanwhile, a lease) is not seen.
func Check(ctx context.Context, o Options) (refused []error, m *image.Manifest, err error) {
	in, err := o.open()
	if err != nil {
		return nil, nil, err
	}
	defer in.Close()
	in.Until(ctx)
	s := &session{o: o, checks: true, in: in, kinds: all.New(), stubs: map[pidns.VPID]*tracee.Thread{}, files: map[uint32]*file{}}
	if o.Log == nil {
		s.o.Log = discard
	}
	missing := checkKernel()
	if err := s.load(); err != nil {
		if errors.Is(err, failure.ErrIncompatible) || errors.Is(err, failure.ErrUnsupported) {
			return append(missing, failure.All(err)...), in.Manifest(), nil
		}
		return nil, nil, err
	}
	if err := verify(ctx, in); err != nil {
		return nil, nil, s.damaged(err)
	}
	if s.r.HostProc, err = os.OpenFile("/proc", os.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
		return nil, nil, err
	}
	defer s.r.HostProc.Close()
	refused = append(missing, s.unfit...)
	rows := s.rows()
	max, err := expectPIDMax(rows)
	if err != nil {
		return nil, nil, err
	}
	if _, err := tree.Compile(rows, tree.Options{NoInit: s.r.Manifest.GetNoInit(), PIDMax: max}); err != nil {
		refused = append(refused, &failure.Error{Doing: "restore", What: "the tree of processes", Err: err})
	}
	lacking, err := s.checkRoom()
	if err != nil {
		return nil, nil, err
	}
	refused = append(refused, lacking...)
	refused = append(refused, s.checkFiles()...)
	return append(refused, s.checkProcesses()...), in.Manifest(), nil
}

// checkKernel lists what this kernel, or this user on it, lacks of what every
// restore needs.
func checkKernel() (refused []error) {
	for _, p := range kernel.Probes() {
		if p.Need != kernel.Required {
			continue
		}
		if err := p.Try(); err != nil {
			refused = append(refused, failure.WithHint(failure.Unsupportedf("this kernel lacks, or keeps from uid %d: %s: %w", os.Geteuid(), p.Name, err),
				"restore it on a kernel that has it ("+p.Since+" or later), or as root"))
		}
	}
	return refused
}

// checkProcesses asks the kinds of processes and threads. What holds for several
// threads of a process is told of the first.
func (s *session) checkProcesses() (refused []error) {
	for _, t := range s.r.Targets {
		for _, k := range s.kinds.All() {
			if k.Check != nil && !t.Zombie {
				refused = append(refused, s.fail(t, k.Name, k.Check(s.r, t)))
			}
		}
		for _, k := range s.kinds.Threads {
			if k.Check == nil {
				continue
			}
			for _, tt := range t.Threads {
				if err := k.Check(s.r, t, tt); err != nil {
					refused = append(refused, s.fail(t, k.Name, err))
					break
				}
			}
		}
	}
	return slices.DeleteFunc(refused, func(err error) bool { return err == nil })
}

// checkFiles asks the kind of each file that a process uses. Other entries
// stand for names that kinds keep, or for files on their way in a socket.
func (s *session) checkFiles() (refused []error) {
	t, fd := s.holders()
	users := s.users()
	told := map[string]bool{} // one file may have several entries
	add := func(err error) {
		if text := err.Error(); !told[text] {
			told[text] = true
			refused = append(refused, err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.r.Entries)) {
		e, user := s.r.Entries[id], users[id]
		if t[id] == nil && user == nil {
			continue
		}
		k, err := s.kindFor(e)
		if err == nil && k.Check != nil {
			if err = k.Check(s.r, e); err != nil {
				err = named(k, err)
			}
		}
		switch {
		case err == nil:
		case t[id] != nil:
			add(s.failFile(t[id], fd[id], err))
		default: // a mapped file, an executable, a working directory
			add(s.failUsed(user, err))
		}
	}
	return refused
}

// mappedFile are the status bits of a vma_entry whose shmid is the id of a
// file (VMA_FILE_PRIVATE, VMA_FILE_SHARED of CRIU's image.h).
const mappedFile = 1<<6 | 1<<7

// users tells of each file the first process that uses it other than by a
// descriptor.
func (s *session) users() map[uint32]*kind.Target {
	users := map[uint32]*kind.Target{}
	for _, t := range slices.Backward(s.r.Targets) { // the first stays
		users[t.MM.GetExeFileId()], users[t.FSE.GetCwdId()], users[t.FSE.GetRootId()] = t, t, t
		for _, v := range t.MM.GetVmas() {
			if v.GetStatus()&mappedFile != 0 && v.GetShmid() <= math.MaxUint32 {
				users[uint32(v.GetShmid())] = t
			}
		}
	}
	return users
}

func (s *session) failUsed(t *kind.Target, err error) error {
	if _, ok := errors.AsType[*failure.Error](err); ok {
		return s.failFile(t, 0, err) // it names its subject
	}
	return s.fail(t, "", err)
}

// checked makes sure, before anything is made, that all files are there and
// what they were: every one that is not is told at once. It asks other values
// of the kinds, which remember what they have looked at.
func (s *session) checked() error {
	r := *s.r
	r.Log = discard // whoever restores warns of the same
	c := &session{o: s.o, in: s.in, kinds: all.New(), r: &r}
	return errors.Join(c.checkFiles()...)
}
