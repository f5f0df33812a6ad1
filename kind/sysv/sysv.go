// Package sysv saves the System V objects of a container's ipc namespace:
// shared memory segments, semaphore sets and message queues.
//
// # What the kernel shows
//
// The lists that shmctl(2), semctl(2) and msgctl(2) give with SHM_INFO,
// SHM_STAT_ANY and the like, called inside the namespace, that is in
// a bare child of ckpt's. Messages are copied with MSG_COPY and stay where they
// are. Segments are attached to a bare child of ckpt's and read from there.
//
// A mapping of a segment shows as "/SYSV<key>" with the segment's id as its
// inode number. The memory kind notes it (vma_entry.shmid) and attaches the
// segment again with shmat(2); the contents are saved here, whoever maps them.
// The inode number stays the id for life, and ids are below 2^31: other shared
// memory must be numbered from there on, for pagemap-shmem-N.img is named by
// either.
//
// # What is saved
//
// Ids, keys, modes, owners and creators; who made or used an object last, by
// pid (pids.go); contents; of a segment also that it
// is removed (SHM_DEST), locked, or of huge pages; the limits of the namespace
// (kernel.sem, kernel.shmmax, ...). A segment that is removed is made anew
// under the key that its mappings show, and removed again once the processes
// have attached it.
//
// The undo values of processes (SEM_UNDO of semop(2)), which the kernel does
// not show: undo.go tells how they are found.
//
// Objects of the host, where the processes share its namespace (a tree that
// ckpt did not start), stay out of the image. A process that has attached a
// segment of those, or has undo values, is refused.
//
// # What is lost
//
// Times, and in some cases the last pid of a segment (last.go).
//
// A message longer than 512 KiB is refused, and so are undo values that are too
// many or too high to be probed.
//
// While a dump runs a segment has one attachment more (shm_nattch), by a process
// that nobody inside has a number for; if ckpt is killed just then, shm_lpid stays
// 0.
//
// # Needs
//
// CONFIG_CHECKPOINT_RESTORE: MSG_COPY (Linux 3.8, commit 4a674f34ba04) and
// shm_next_id, sem_next_id, msg_next_id in /proc/sys/kernel (03f595668017).
// SHM_STAT_ANY and its like (4.17, c21a6970ae72).
package sysv

import (
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
)

// Kind is the ipc namespace.
func Kind() kind.Namespace {
	m := &maker{}
	return kind.Namespace{
		Name:    "System V IPC",
		Saves:   "segments, semaphore sets and message queues with ids, keys, owners, contents, the pids of who made and last used them; limits",
		Refuses: "messages above 512 KiB; objects in an ipc namespace made inside; with dump --pid, semaphores and message queues of the host that a process has used last",
		Needs:   "CONFIG_CHECKPOINT_RESTORE",
		Sort:    "ipc", Dump: dump, Finish: m.finish, Unseen: "System V objects",
		Restore: func(r *kind.Restore) error { return restore(m, r) }, Born: m.born,
		Limits: "times of System V objects are new; with dump --pid, that a process has used semaphores or a message queue of the host is not noticed if others did after it; a removed segment is shown with key 0 where another has its key",
	}
}

// restore sets the limits of a namespace. One made inside has nothing else. The
// container's own is filled by those who made and used what is in it, and so
// when they are there.
func restore(m *maker, r *kind.Restore) error {
	if r.Namespace == 0 {
		return m.restore(r)
	}
	inner := &maker{}
	if err := inner.restore(r); err != nil {
		return err
	}
	return inner.finish(r)
}

func dump(d *kind.Dump) error {
	own, err := d.OwnNamespace("ipc")
	if err != nil {
		return err
	}
	if !own {
		return refuseUsed(d)
	}
	if d.Namespace != 0 {
		if err := refuseObjects(d); err != nil {
			return err
		}
	}
	for _, f := range []func(*kind.Dump, string) error{dumpVars, dumpShm, dumpSem, dumpMsg} {
		if err := f(d, d.NamespaceFile()); err != nil {
			return err
		}
	}
	return nil
}

// maker is what a restore remembers until its end.
type maker struct {
	vars   *settings
	queues []*queue
	pids   map[pidKey][]pidns.VPID
	remove []int // segments to be removed once they are attached
}

func (m *maker) restore(r *kind.Restore) (err error) {
	ns := r.NamespaceFile((*criu_core.TaskKobjIdsEntry).GetIpcNsId)
	if m.queues, err = readQueues(r.In, ns); err != nil {
		return err
	}
	if m.vars, err = readVars(r.In, ns); err != nil {
		return err
	}
	// The limits may since have been lowered under what there already was.
	return m.vars.raise(r, m.queues)
}

// born makes the objects.
func (m *maker) born(r *kind.Restore) (err error) {
	ns := r.NamespaceFile((*criu_core.TaskKobjIdsEntry).GetIpcNsId)
	if m.pids, err = readPids(r.In, ns); err != nil {
		return err
	}
	if err := m.restoreShm(r, ns); err != nil {
		return err
	}
	if err := m.restoreSem(r, ns); err != nil {
		return err
	}
	for _, q := range m.queues {
		id := q.e.GetDesc().GetId()
		if err := q.restore(r, m.pidsOf(r, image.SysVPids_MESSAGES, id, 2)); err != nil {
			return fmt.Errorf("message queue %d: %w", id, err)
		}
	}
	return nil
}

// refuseObjects: their ids, by which the memory kind and the undo values know
// them, say nothing of the namespace.
func refuseObjects(d *kind.Dump) error {
	for _, s := range []sort{segments(), semaphores(), messageQueues()} {
		_, n, err := s.count(d)
		if err != nil {
			return err
		}
		if n > 0 {
			return failure.WithHint(failure.Unsupportedf("a %s in an ipc namespace made inside the container; these are not carried yet", s.name),
				"remove it (ipcrm), or start the program without an ipc namespace of its own")
		}
	}
	return nil
}

// finish runs when every process has attached its segments.
func (m *maker) finish(r *kind.Restore) error {
	for _, id := range m.remove {
		if _, err := kernel.Shmctl(id, unix.IPC_RMID, nil); err != nil {
			return fmt.Errorf("remove segment %d again: %w", id, err)
		}
	}
	return m.vars.set(r)
}
