package sysv

import (
	"errors"
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/ipc-shm"
	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// last is what a restore remembers of who attached or detached segments last.
type last struct {
	read bool
	by   map[pidns.VPID][]segment
}

// segment is one by its id and size in bytes.
type segment struct {
	id   uint32
	size uint64
}

// Last are the last pids of segments (shm_lpid). All processes attach theirs
// while they are rebuilt, so the last one attaches it once more, before it
// gives up its rights, and detaches it when all others are done. A process
// that has ended stays for that long, and detaches by its end.
func Last() kind.Process {
	l := &last{}
	return kind.Process{
		Name:    "last pids of System V segments",
		Saves:   "who attached or detached a segment last (shm_lpid)",
		Restore: l.restore,
		Limits:  "the last pid of a segment (shm_lpid) is not kept where that is a zombie or the dead leader of a group, nor of one of huge pages",
	}
}

const page = 4096

// restore adds the calls. Of the segment the first page is left attached, out
// of the way: what is reserved is not touched before the last script.
func (l *last) restore(r *kind.Restore, t *kind.Target) error {
	if err := l.load(r); err != nil {
		return err
	}
	own := l.by[t.VPID]
	if len(own) == 0 || !hasRights(t) {
		return nil
	}
	most := uint64(0)
	for _, s := range own {
		most = max(most, s.pages())
	}
	pages, err := r.Reserve(uint64(len(own)) * page)
	if err != nil {
		return err
	}
	room, err := r.Reserve(most)
	if err != nil {
		return err
	}
	for i, s := range own {
		at := pages.Start + uint64(i)*page
		t.Main.Note(t.Main.Must(unix.SYS_SHMAT, uint64(s.id), room.Start, unix.SHM_RDONLY), fmt.Sprintf("attach System V segment %d once more", s.id))
		if rest := s.pages() - page; rest > 0 {
			t.Main.Must(unix.SYS_MUNMAP, room.Start+page, rest)
		}
		t.Main.Must(unix.SYS_MREMAP, room.Start, page, page, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, at)
		t.Late.Must(unix.SYS_MUNMAP, at, page)
	}
	return nil
}

func (s segment) pages() uint64 { return (s.size + page - 1) &^ (page - 1) }

// load finds the segments of each.
func (l *last) load(r *kind.Restore) error {
	if l.read {
		return nil
	}
	l.read, l.by = true, map[pidns.VPID][]segment{}
	ns := r.NamespaceFile((*criu_core.TaskKobjIdsEntry).GetIpcNsId)
	pids, err := readPids(r.In, ns)
	if err != nil || len(pids) == 0 {
		return err
	}
	return image.Each(r.In, image.IPCShm, ns, func(e *ipc_shm.IpcShmEntry, _ func(int) ([]byte, error)) error {
		id := e.GetDesc().GetId()
		if p := pids[pidKey{image.SysVPids_SEGMENT, id}]; len(p) == 2 && p[1] != 0 && e.GetHugetlbFlag() == 0 {
			l.by[p[1]] = append(l.by[p[1]], segment{id, e.GetSize()})
		}
		return nil
	})
}

// putBack has the last one attach and detach each segment once more, since a
// dump has done so meanwhile. Of one whose number is taken, though it does not
// run, nobody can do it.
func putBack(d *kind.Dump, all []object, pids [][]pidns.VPID) error {
	by := map[pidns.VPID][]int{}
	for i, o := range all {
		if len(pids[i]) == 2 && pids[i][1] != 0 {
			by[pids[i][1]] = append(by[pids[i][1]], o.id)
		}
	}
	for v, ids := range by {
		var steps []tracee.Step
		err := d.AsID(v, func(s *tracee.Script) error {
			for _, id := range ids {
				at, dt := s.Try(unix.SYS_SHMAT, uint64(id), 0, unix.SHM_RDONLY), s.Try(unix.SYS_SHMDT, 0)
				s.Feed(at, dt, 0)
				steps = append(steps, dt)
			}
			return nil
		}, func(s *tracee.Script) error {
			for _, step := range steps {
				if _, err := s.Result(step); err != nil {
					d.Log.Info("a System V segment shows nobody as the last who attached it (shm_lpid), if the container goes on", "vpid", v)
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("detach segments as pid %d: %w", v, err)
		}
	}
	return nil
}

// leaveTo has a process that has ended attach the segment and stay until it is
// the last that detaches it.
func leaveTo(r *kind.Restore, v pidns.VPID, e *ipc_shm.IpcShmEntry) error {
	if v == 0 || e.GetHugetlbFlag() != 0 || lives(r, v) {
		return nil
	}
	if !r.Stay(v) {
		r.Log.Info("who detached a System V segment last is not kept", "segment", e.GetDesc().GetId(), "vpid", v)
		return nil
	}
	return r.As(v, func(s *tracee.Script) error {
		s.Must(unix.SYS_SHMAT, uint64(e.GetDesc().GetId()), 0, unix.SHM_RDONLY)
		return nil
	}, nil)
}

func lives(r *kind.Restore, v pidns.VPID) bool {
	for _, t := range r.Targets {
		if t.VPID == v && !t.Zombie {
			return true
		}
	}
	return v == pidns.Init
}
