package kind

import (
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/pidns"
)

// Ended notes a process that has ended and that the object being saved still
// refers to, and gives its number for Restore.Ended. pidfd is one of it, -1
// where there is none; id is its virtual pid, 0 where the object shows it to
// nobody. A zombie and the dead leader of a group or session may be noted, too.
//
// A process that runs and has the same id, which was free by then, is a
// refusal: the dead one could not be made beside it.
func (d *Dump) Ended(pidfd int, id pidns.VPID) (number uint32, err error) {
	inode, status := uint64(0), unix.WaitStatus(0)
	if pidfd >= 0 {
		if inode, err = kernel.PidfdInode(pidfd); err != nil {
			return 0, fmt.Errorf("look at the pidfd of an ended process: %w", err)
		}
		status, _ = kernel.PidfdExit(uintptr(pidfd))
	}
	return d.noteEnded(inode, id, 0, status)
}

// EndedThread is Ended for a thread of the process of, which lives, or has been
// noted itself; pidns.Either for what may be a thread or a process.
func (d *Dump) EndedThread(id, of pidns.VPID) (number uint32, err error) {
	return d.noteEnded(0, id, of, 0)
}

func (d *Dump) noteEnded(inode uint64, id, of pidns.VPID, status unix.WaitStatus) (number uint32, err error) {
	if p := d.Running(id); p != nil {
		return 0, failure.WithHint(failure.Unsupportedf("it refers to a process %d that has ended, and another has that number now (pid %d, %s)", id, p.VPID, p.Comm),
			fmt.Sprintf("try again when pid %d has ended, or let the program close it", p.VPID))
	}
	number, ok := d.Held.Note(inode, id, of, status)
	if !ok {
		return 0, failure.WithHint(failure.Unsupportedf("it refers to a process %d that has ended, and something else to another that had that number", id),
			"let the program close it")
	}
	return number, nil
}

// Running is the process that has a thread of that id and is no zombie; nil:
// there is none.
func (d *Dump) Running(id pidns.VPID) *Proc {
	for _, p := range d.Procs {
		for _, t := range p.Threads {
			if t.VTID == id && !p.Zombie {
				return p
			}
		}
	}
	return nil
}
