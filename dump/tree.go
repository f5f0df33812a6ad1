package dump

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/restore/tree"
)

// checkTree refuses, before anything is touched, what a restore could not
// build.
func (s *session) checkTree() (refused []error) {
	own, err := s.ownNamespaces()
	if err != nil {
		return []error{err}
	}
	for _, p := range s.d.Procs {
		if err := s.checkNamespaces(p, own); err != nil {
			refused = append(refused, err)
		}
		if err := s.checkStatus(p); err != nil {
			refused = append(refused, err)
		}
		refused = append(refused, s.checkThreads(p)...)
	}
	if _, err := tree.Compile(s.rows(), tree.Options{NoInit: s.src.NoInit}); err != nil {
		refused = append(refused, &failure.Error{Doing: "dump", What: "the tree of processes", Err: err})
	}
	return refused
}

func (s *session) rows() []tree.Row {
	var rows []tree.Row
	for _, p := range s.d.Procs {
		r := tree.Row{VPID: p.VPID, Comm: p.Comm, PGID: p.PGID, SID: p.SID, Zombie: p.Zombie,
			Space: p.Space, Nested: p.Chain.Nested(), GroupNested: p.GroupChain.Nested(), SessionNested: p.SessionChain.Nested(),
			VM: uint64(p.IDs.GetVmId()), Files: uint64(p.IDs.GetFilesId()), FS: uint64(p.IDs.GetFsId()), Sighand: uint64(p.IDs.GetSighandId()),
			ExitSignal: unix.Signal(p.Stat.ExitSignal)}
		if p.Zombie {
			r.Status = unix.WaitStatus(p.Stat.ExitCode)
		}
		r.ByThread = pidns.VPID(p.Extra.GetParentThread())
		if p.Parent != nil {
			r.PPID = p.Parent.VPID
		} else {
			r.PPID = s.origin.orphan(p)
		}
		if born := s.bornIn(p); born != image.NamespaceID {
			r.Owner = born
		}
		r.Users = s.users.around(s.users.of[p])
		slices.Reverse(r.Users)
		r.Users = r.Users[1:] // without the container's
		r.Alone = s.alone(p)
		for _, t := range p.Threads {
			r.Threads = append(r.Threads, t.VTID)
			r.ThreadsNested = append(r.ThreadsNested, t.Chain.Nested()...)
		}
		rows = append(rows, r)
	}
	return rows
}

// checkStatus refuses a zombie whose wait status the kernel keeps from ckpt,
// and shows as 0: Linux 6.18 does that for one that was not dumpable when it
// ended, unless to root. The same rule guards the links to its namespaces.
func (s *session) checkStatus(p *kind.Proc) error {
	if !p.Zombie || p.Stat.ExitCode != 0 {
		return nil
	}
	if _, err := p.FS.Link("ns/user"); errors.Is(err, unix.EACCES) {
		return s.fail(p, "", failure.WithHint(failure.Unsupportedf("a zombie that was not dumpable (PR_SET_DUMPABLE): its exit status is shown to root alone"),
			"try again when its parent has waited for it", "or dump as root"))
	}
	return nil
}

// threadNamespaces are those that a thread can have of its own while the
// others of its process stay: not the mounts without a directory of its own.
// The pid namespace of a thread's children is kind/pidspace's.
var threadNamespaces = []struct{ file, name string }{
	{"net", "network"}, {"ipc", "ipc"}, {"uts", "uts"}, {"cgroup", "cgroup"}, {"time_for_children", "time"},
}

// checkThreads refuses threads that do not share what threads share as a rule:
// each process has one descriptor table and one place in the file system here.
// A tracer is told of by a mere check; the dump has met it before.
func (s *session) checkThreads(p *kind.Proc) (refused []error) {
	if p.Zombie {
		return nil
	}
	lead := p.Lead()
	for _, t := range p.Threads {
		if s.out == nil && t.Status.TracerPid != 0 {
			refused = append(refused, s.failThread(p, t, "", s.traced(t.Status)))
		}
		if t == lead || t.Status.Zombie() {
			continue
		}
		for _, o := range []struct {
			t    kernel.KcmpType
			what string
		}{
			{kernel.KcmpFiles, "a descriptor table of its own (unshare(2) or clone(2) without CLONE_FILES)"},
			{kernel.KcmpFS, "a working directory of its own (unshare(2) or clone(2) without CLONE_FS)"},
		} {
			n, err := kernel.Kcmp(int(t.Host), int(lead.Host), o.t, 0, 0)
			switch {
			case errors.Is(err, unix.ESRCH): // it has ended, while only checking
			case err != nil:
				refused = append(refused, s.failThread(p, t, "compare it with the others (kcmp)", err))
			case n != 0 && s.out == nil && ending(t): // it has none any more
			case n != 0:
				refused = append(refused, s.failThread(p, t, "", failure.WithHint(
					failure.Unsupportedf("it has %s; that is not carried yet", o.what), "let the program make a process of it")))
			}
		}
		for _, ns := range threadNamespaces {
			own, err := t.FS.Link("ns/" + ns.file)
			if err != nil {
				if err = ignoreGone(err); err != nil {
					refused = append(refused, s.failThread(p, t, "read its namespaces", err))
				}
				continue
			}
			of, err := lead.FS.Link("ns/" + ns.file)
			if err != nil {
				if err = ignoreGone(err); err != nil {
					refused = append(refused, s.fail(p, "read its namespaces", err))
				}
				break
			}
			if own != of {
				refused = append(refused, s.failThread(p, t, "", failure.WithHint(
					failure.Unsupportedf("it has a %s namespace of its own; these are not carried yet", ns.name), "let the program make a process of it, or start it without unshare(2)")))
			}
		}
	}
	return refused
}
