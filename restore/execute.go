package restore

import (
	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// execute lets those bare children execute a program whose process has executed
// one since its birth. Nothing else takes from a task the mark that it has not
// (begin_new_exec() in fs/exec.c), and by that mark its parent may change its
// group (setpgid(2): EACCES). It is done when all are born: a birth may need
// what a parent carries, and its group.
func (s *session) execute() error {
	for _, t := range s.live() {
		if s.executed[t.VPID] || !s.executes(t) {
			continue
		}
		if err := s.executeOne(t); err != nil {
			return s.fail(t, "", err)
		}
	}
	return nil
}

func (s *session) executeOne(t *kind.Target) error {
	if s.program == nil {
		var err error
		if s.program, err = tracee.Program(); err != nil {
			return err
		}
	}
	take := func(sc *tracee.Script) tracee.Step { return takeFile(sc, s.program) }
	if err := s.stubs[t.VPID].Execute(s.root.Site, take); err != nil {
		return err
	}
	s.executed[t.VPID] = true
	delete(s.heirs, t.VPID)
	return nil
}

// executes tells whether t has executed a program, and can once more. Not one
// that shares what execve(2) would give it anew, that needs memory from before
// its birth, that is to come into a user namespace made inside, for which it
// carries descriptors, with children by another signal than SIGCHLD, which they would
// send then (do_notify_parent() in kernel/signal.c), or with a time namespace
// for its children, into which it would come itself.
func (s *session) executes(t *kind.Target) bool {
	if s.others == nil {
		s.others = s.relations()
	}
	if t.VPID == pidns.Init || t.TC.GetFlags()&procfs.PFForkNoExec != 0 || t.IDs.GetUserNsId() > image.NamespaceID || t.Extra.GetChildrenTimeNs() != 0 ||
		!sigchld(t) || s.others.share(t) || s.others.odd[t.VPID] {
		return false
	}
	for _, tt := range t.Threads[1:] {
		if s.stubs[tt.VTID] != nil {
			return false
		}
	}
	return !s.inherits(t)
}

// relations are those of processes to others that stand against execve(2).
type relations struct {
	vm, files, sighand map[uint32]int      // how many have it
	odd                map[pidns.VPID]bool // parents by another signal than SIGCHLD
}

func (s *session) relations() *relations {
	o := &relations{map[uint32]int{}, map[uint32]int{}, map[uint32]int{}, map[pidns.VPID]bool{}}
	for _, t := range s.r.Targets {
		if !sigchld(t) {
			o.odd[pidns.VPID(t.Entry.GetPpid())] = true
		}
		if !t.Zombie {
			o.vm[t.IDs.GetVmId()]++
			o.files[t.IDs.GetFilesId()]++
			o.sighand[t.IDs.GetSighandId()]++
		}
	}
	return o
}

func (o *relations) share(t *kind.Target) bool {
	return o.vm[t.IDs.GetVmId()] > 1 || o.files[t.IDs.GetFilesId()] > 1 || o.sighand[t.IDs.GetSighandId()] > 1
}

func sigchld(t *kind.Target) bool { return unix.Signal(t.Extra.GetExitSignal()) == unix.SIGCHLD }
