package dump

import (
	"errors"
	"fmt"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fs"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
)

// identify reads who a stopped process is.
func (s *session) identify(p *kind.Proc) (err error) {
	if p.Status, err = p.FS.Status(); err != nil {
		return s.fail(p, "", err)
	}
	if p.Stat, err = p.FS.Stat(); err != nil {
		return s.fail(p, "", err)
	}
	p.Comm = p.Status.Name
	p.Chain = pidns.ChainOf(p.Status.NSpid, s.level)
	p.GroupChain, p.SessionChain = pidns.ChainOf(p.Status.NSpgid, s.level), pidns.ChainOf(p.Status.NSsid, s.level)
	p.VPID, p.PGID, p.SID = p.Chain.Outer(), p.GroupChain.Outer(), p.SessionChain.Outer()
	if err := s.identifyThreads(p); err != nil {
		return s.fail(p, "", err)
	}
	p.Zombie = p.Status.Zombie() && len(p.Threads) == 0
	if p.Status.Zombie() {
		if !p.Zombie {
			p.FS.Through(p.Threads[0].FS)
		}
		p.Threads = append([]*kind.Task{s.leader(p)}, p.Threads...) // the dead leader, or the zombie itself
	}
	slices.SortStableFunc(p.Threads, func(a, b *kind.Task) int {
		if (a.VTID == p.VPID) != (b.VTID == p.VPID) {
			if a.VTID == p.VPID {
				return -1
			}
			return 1
		}
		return int(a.VTID - b.VTID)
	})
	return nil
}

func (s *session) leader(p *kind.Proc) *kind.Task {
	return &kind.Task{VTID: p.VPID, Chain: p.Chain, Host: p.Host, FS: p.FS, Status: p.Status, Stat: p.Stat}
}

// identifyThreads leaves out threads that end while only checking. A process
// that has none left then has ended: ESRCH.
func (s *session) identifyThreads(p *kind.Proc) error {
	var there []*kind.Task
	for _, t := range p.Threads {
		err := s.identifyThread(t)
		if s.endedMeanwhile(err) || err == nil && s.out == nil && t.Status.Zombie() {
			_ = t.FS.Close()
			continue
		}
		if err != nil {
			return err
		}
		there = append(there, t)
	}
	if p.Threads = there; len(there) == 0 && !p.Status.Zombie() {
		return unix.ESRCH
	}
	return nil
}

func (s *session) identifyThread(t *kind.Task) (err error) {
	if t.Status, err = t.FS.Status(); err != nil {
		return err
	}
	if t.Stat, err = t.FS.Stat(); err != nil {
		return err
	}
	t.Chain = pidns.ChainOf(t.Status.NSpid, s.level)
	t.VTID = t.Chain.Outer()
	if t.Traced != nil {
		t.Traced.VPID, t.Traced.VTID = int(pidns.ChainOf(t.Status.NStgid, s.level).Own()), int(t.Chain.Own())
	}
	return nil
}

// arrange ties the processes together: parents, shared objects, and which of
// them go into the image.
func (s *session) arrange() error {
	byHost := map[int]*kind.Proc{}
	for _, p := range s.order {
		byHost[int(p.Host)] = p
	}
	if err := s.origin.met(byHost[int(s.src.Root)]); err != nil {
		return err
	}
	s.d.Procs = nil
	saved := map[*kind.Proc]bool{}
	for _, p := range s.order {
		parent := byHost[p.Stat.PPid]
		if !s.origin.saves(p, parent) {
			continue
		}
		if saved[parent] {
			p.Parent = parent
		}
		p.TC, p.IDs = &criu_core.TaskCoreEntry{}, &criu_core.TaskKobjIdsEntry{}
		p.MM, p.FSE = &mm.MmEntry{}, &fs.FsEntry{}
		p.Extra = &image.Task{}
		for _, t := range p.Threads {
			t.Core = &criu_core.CoreEntry{}
			t.Extra = &image.Thread{Vtid: uint32(t.VTID), Dead: t.Status.Zombie()}
			if !t.Extra.Dead {
				t.Core.ThreadCore = &criu_core.ThreadCoreEntry{}
			}
		}
		s.d.Procs, saved[p] = append(s.d.Procs, p), true
	}
	if err := s.fillTable(); err != nil {
		return err
	}
	main := slices.IndexFunc(s.d.Procs, func(p *kind.Proc) bool { return p.VPID == s.src.MainVPID })
	if main < 0 || s.d.Procs[main].Zombie {
		return &failure.Error{Doing: "dump", Err: errors.New("its command has just ended")}
	}
	if err := s.findParentThreads(byHost); err != nil {
		return err
	}
	return s.findShared()
}

// findParentThreads notes whose child each process is where that is not its
// parent's leading thread.
func (s *session) findParentThreads(byHost map[int]*kind.Proc) error {
	isParent := map[*kind.Proc]bool{}
	for _, p := range s.d.Procs {
		isParent[byHost[p.Stat.PPid]] = true
	}
	for _, p := range s.d.Procs {
		for _, t := range p.Threads {
			if t.VTID == p.VPID || !isParent[p] {
				continue
			}
			children, err := t.FS.Children()
			if err = ignoreGone(err); err != nil {
				return s.failThread(p, t, "find its children", err)
			}
			for _, c := range children {
				if child := byHost[c]; child != nil && child.Extra != nil {
					child.Extra.ParentThread = uint32(t.VTID)
				}
			}
		}
	}
	return nil
}

// fillTable makes the remap table of what is saved.
func (s *session) fillTable() error {
	spaces, err := s.findSpaces()
	if err != nil {
		return err
	}
	s.table = pidns.New()
	if init := s.origin.unsaved(); init != nil { // a pidfd or a file's owner may be it
		if err := s.table.Add(pidns.Row{ID: pidns.Init, Host: init.Host, TGID: pidns.Init, PGID: init.PGID, SID: init.SID, Space: pidns.Init}); err != nil {
			return s.fail(init, "", err)
		}
	}
	for _, p := range s.d.Procs {
		row := pidns.Row{TGID: p.VPID, PPID: s.origin.orphan(p), PGID: p.PGID, SID: p.SID, Zombie: p.Zombie, Space: p.Space}
		if p.Parent != nil {
			row.PPID = p.Parent.VPID
		}
		for _, t := range p.Threads {
			row.ID, row.Nested, row.Host = t.VTID, t.Chain.Nested(), t.Host
			if err := s.table.Add(row); err != nil {
				return s.fail(p, "", err)
			}
		}
	}
	for _, p := range s.d.Procs {
		for _, id := range []pidns.Chain{p.GroupChain, p.SessionChain} {
			s.table.Hold(id, spaces, p.Space)
		}
	}
	return nil
}

// findSpaces finds the pid namespace of each process.
func (s *session) findSpaces() (*pidns.Spaces, error) {
	index := map[*kind.Proc]int{}
	var members []pidns.Member
	for i, p := range s.d.Procs {
		m := pidns.Member{IDs: p.Chain, Parent: -1}
		if at, ok := index[p.Parent]; ok {
			m.Parent = at
		}
		var err error
		if m.Link, err = pidns.SpaceLink(p.Chain, p.FS); err != nil {
			return nil, s.fail(p, "read its pid namespace", err)
		}
		index[p] = i
		members = append(members, m)
	}
	spaces, err := pidns.FindSpaces(members)
	if err != nil {
		return nil, &failure.Error{Doing: "dump", Err: err}
	}
	for i, p := range s.d.Procs {
		p.Space = spaces.Of[i]
	}
	return spaces, nil
}

// findShared gives every process the ids of its address space, descriptor
// table, fs and signal handlers: equal ids, shared object (clone(2) flags).
// kcmp(2) orders objects, so one sort an object finds all that are shared.
func (s *session) findShared() error {
	var live []*kind.Proc
	for _, p := range s.d.Procs {
		if !p.Zombie {
			live = append(live, p)
		}
	}
	for _, o := range []struct {
		t     kernel.KcmpType
		id    func(*kind.Proc) **uint32
		first func(*kind.Proc) **kind.Proc
	}{
		{kernel.KcmpVM, func(p *kind.Proc) **uint32 { return &p.IDs.VmId }, func(p *kind.Proc) **kind.Proc { return &p.SharesVM }},
		{kernel.KcmpFiles, func(p *kind.Proc) **uint32 { return &p.IDs.FilesId }, func(p *kind.Proc) **kind.Proc { return &p.SharesFiles }},
		{kernel.KcmpFS, func(p *kind.Proc) **uint32 { return &p.IDs.FsId }, func(p *kind.Proc) **kind.Proc { return &p.SharesFS }},
		{kernel.KcmpSighand, func(p *kind.Proc) **uint32 { return &p.IDs.SighandId }, func(p *kind.Proc) **kind.Proc { return &p.SharesSighand }},
	} {
		var failed error
		compare := func(a, b *kind.Proc) int {
			n, err := kernel.Kcmp(int(a.Lead().Host), int(b.Lead().Host), o.t, 0, 0)
			if err != nil {
				failed = errors.Join(failed, err)
				return int(a.Host - b.Host) // two objects, for what that is worth
			}
			return n
		}
		sorted := slices.Clone(live)
		slices.SortStableFunc(sorted, compare) // stable: the first of equals is the one saved first
		for i, p := range sorted {
			if i > 0 && compare(sorted[i-1], p) == 0 {
				before := sorted[i-1]
				*o.id(p) = *o.id(before)
				if *o.first(p) = *o.first(before); *o.first(p) == nil {
					*o.first(p) = before
				}
				continue
			}
			*o.id(p) = proto.Uint32(s.newID(fmt.Sprint("kcmp ", o.t)))
		}
		if hidden(failed) && s.readable() != nil {
			return nil // examine says why
		}
		if failed != nil && !s.endedMeanwhile(failed) {
			return &failure.Error{Doing: "dump", What: "compare what processes share (kcmp)", Err: failed}
		}
	}
	return nil
}
