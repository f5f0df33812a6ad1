package restore

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fs"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/inventory"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"

	"ckpt/failure"
	"ckpt/foreign"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
)

// taskDead and taskStopped are states of task_core_entry (CRIU's enum).
const (
	taskDead    = 2
	taskStopped = 3
)

// load reads the whole image but the contents of memory.
func (s *session) load() error {
	if s.in.Manifest() == nil {
		if err := foreign.Translate(s.in); err != nil {
			return err
		}
	}
	suspends, err := kernel.SuspendsSeccomp()
	if err != nil {
		return err
	}
	privileged, err := kernel.Privileged()
	if err != nil {
		return err
	}
	s.r = &kind.Restore{
		Log: s.o.Log, In: s.in, Manifest: s.in.Manifest(), LogFile: s.o.LogFile, Privileged: privileged, SuspendsSeccomp: suspends, Groups: s.o.Groups, Names: s.o.Names,
		Entries: map[uint32]*fdinfo.FileEntry{}, Extras: map[uint32]*image.FileExtra{},
		HostPID: s.hostPID, Bear: s.bear, AllowChanged: s.allowChanged, File: s.file, Reserve: s.reserve,
		Undo: func(what string, fn func() error) { s.undos = append(s.undos, undo{what, fn}) },
	}
	if err := checkMachine(s.r.Manifest, s.o.AnyCPU); err != nil {
		if !s.checks || !errors.Is(err, failure.ErrIncompatible) || otherArch(s.r.Manifest) {
			return err
		}
		s.unfit = failure.All(err)
	}
	s.ids = newIdentities(s.r.Manifest)
	s.r.Chain = s.ids.chain
	if s.owners, err = newOwners(s.r.Manifest); err != nil {
		return err
	}
	inv, err := image.One[*inventory.InventoryEntry](s.in, image.Inventory, "")
	if err != nil {
		return err
	}
	if inv.GetImgVersion() != 2 || !inv.GetFdinfoPerId() {
		return failure.Mark(failure.ErrIncompatible, fmt.Errorf("inventory.img: version %d of CRIU's format is not known", inv.GetImgVersion()))
	}
	if err := s.loadFiles(); err != nil {
		return err
	}
	if err := s.move(); err != nil {
		return err
	}
	if err := s.checkAllowed(); err != nil {
		return err
	}
	if err := image.Each(s.in, image.PSTree, "", func(e *pstree.PstreeEntry, _ func(int) ([]byte, error)) error {
		t, err := s.loadTarget(e)
		s.r.Targets = append(s.r.Targets, t)
		return err
	}); err != nil {
		return err
	}
	if err := checkSpaces(s.r.Targets); err != nil {
		return err
	}
	if err := s.loadEnded(); err != nil {
		return err
	}
	if err := s.markOwners(); err != nil {
		return err
	}
	return s.sound()
}

func (s *session) loadFiles() error {
	if err := image.Each(s.in, image.Files, "", func(e *fdinfo.FileEntry, _ func(int) ([]byte, error)) error {
		if s.r.Entries[e.GetId()] != nil {
			return failure.Damagedf("files.img: file %d stands there twice", e.GetId())
		}
		s.r.Entries[e.GetId()] = e
		return soundEntry(e)
	}); err != nil {
		return err
	}
	return image.Each(s.in, image.FilesExtra, "", func(e *image.FileExtra, _ func(int) ([]byte, error)) error {
		if s.r.Entries[e.GetId()] == nil {
			return failure.Damagedf("ckpt-files.img: file %d is not in files.img", e.GetId())
		}
		s.r.Extras[e.GetId()] = e
		return nil
	})
}

func (s *session) loadTarget(e *pstree.PstreeEntry) (*kind.Target, error) {
	id := strconv.Itoa(int(e.GetPid()))
	t := &kind.Target{VPID: pidns.VPID(e.GetPid()), Entry: e}
	t.Chain, t.Space = s.ids.chain(t.VPID), s.ids.space(t.VPID)
	var err error
	if t.Extra, err = image.One[*image.Task](s.in, image.TaskExtra, id); err != nil {
		return t, err
	}
	for i, tid := range image.Threads(e) {
		core, err := image.One[*criu_core.CoreEntry](s.in, image.Core, strconv.Itoa(int(tid)))
		if err != nil {
			return t, err
		}
		tt := &kind.TargetThread{VTID: pidns.VPID(tid), Chain: s.ids.chain(pidns.VPID(tid)), Core: core, Extra: &image.Thread{}}
		if i < len(t.Extra.GetThreads()) {
			tt.Extra = t.Extra.GetThreads()[i]
		}
		t.Threads = append(t.Threads, tt)
	}
	if len(t.Threads) == 0 || t.Threads[0].VTID != t.VPID || t.Threads[0].Core.GetTc() == nil {
		return t, failure.Damagedf("pstree.img: pid %d has no leading thread", e.GetPid())
	}
	t.TC = t.Threads[0].Core.GetTc()
	if t.TC.GetTaskState() == taskDead {
		t.Zombie = true
		t.IDs, t.MM, t.FSE = &criu_core.TaskKobjIdsEntry{}, &mm.MmEntry{}, &fs.FsEntry{}
		return t, nil
	}
	if t.IDs, err = image.One[*criu_core.TaskKobjIdsEntry](s.in, image.IDs, id); err != nil {
		return t, err
	}
	if t.MM, err = image.One[*mm.MmEntry](s.in, image.MM, id); err != nil {
		return t, err
	}
	if t.FSE, err = image.One[*fs.FsEntry](s.in, image.FS, id); err != nil {
		return t, err
	}
	return t, s.loadFds(t)
}

func (s *session) loadFds(t *kind.Target) error {
	err := image.Each(s.in, image.FDInfo, image.FDInfo.ID(uint64(t.IDs.GetFilesId())), func(e *fdinfo.FdinfoEntry, _ func(int) ([]byte, error)) error {
		switch f := s.r.Entries[e.GetId()]; {
		case f == nil:
			return failure.Damagedf("fdinfo-%d.img: fd %d is file %d, which files.img does not hold", t.IDs.GetFilesId(), e.GetFd(), e.GetId())
		case f.GetType() != e.GetType():
			return failure.Damagedf("fdinfo-%d.img: fd %d is of type %v, and its file %d of type %v", t.IDs.GetFilesId(), e.GetFd(), e.GetType(), e.GetId(), f.GetType())
		}
		t.Fds = append(t.Fds, e)
		return nil
	})
	slices.SortFunc(t.Fds, func(a, b *fdinfo.FdinfoEntry) int { return cmp.Compare(a.GetFd(), b.GetFd()) })
	for i := 1; i < len(t.Fds); i++ {
		if t.Fds[i].GetFd() == t.Fds[i-1].GetFd() {
			return failure.Damagedf("fdinfo-%d.img: fd %d stands there twice", t.IDs.GetFilesId(), t.Fds[i].GetFd())
		}
	}
	return err
}

// markOwners says who rebuilds what several processes share: the first.
func (s *session) markOwners() error {
	vm, files, fsID, sighand := map[uint32]bool{}, map[uint32]bool{}, map[uint32]bool{}, map[uint32]bool{}
	first := func(seen map[uint32]bool, id uint32) bool {
		mine := !seen[id]
		seen[id] = true
		return mine
	}
	byPID := map[pidns.VPID]bool{}
	for _, t := range s.r.Targets {
		if byPID[t.VPID] {
			return failure.Damagedf("pstree.img: pid %d stands there twice", t.VPID)
		}
		byPID[t.VPID] = true
		if t.Zombie {
			continue
		}
		t.OwnsVM, t.OwnsFiles = first(vm, t.IDs.GetVmId()), first(files, t.IDs.GetFilesId())
		t.OwnsFS, t.OwnsSighand = first(fsID, t.IDs.GetFsId()), first(sighand, t.IDs.GetSighandId())
	}
	if main := pidns.VPID(s.r.Manifest.GetMainVpid()); !byPID[main] {
		return failure.Damagedf("the command, pid %d, is not among the processes", main)
	}
	return nil
}

func (s *session) hostPID(v pidns.VPID) (pidns.HostPID, bool) {
	if v == pidns.Init && s.root != nil {
		return pidns.HostPID(s.root.HostPID), true
	}
	if t := s.stubs[v]; t != nil {
		return pidns.HostPID(t.TID), true
	}
	return 0, false
}
