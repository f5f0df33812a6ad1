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
	for _, p := range d.Procs {
		if id != 0 && !p.Zombie && p.hasThread(id) {
			return 0, failure.WithHint(failure.Unsupportedf("it refers to a process %d that has ended, and another has that number now (pid %d, %s)", id, p.VPID, p.Comm),
				fmt.Sprintf("try again when pid %d has ended, or let the program close it", p.VPID))
		}
	}
	inode, status := uint64(0), unix.WaitStatus(0)
	if pidfd >= 0 {
		if inode, err = kernel.PidfdInode(pidfd); err != nil {
			return 0, fmt.Errorf("look at the pidfd of an ended process: %w", err)
		}
		status, _ = kernel.PidfdExit(uintptr(pidfd))
	}
	return d.Held.Note(inode, id, status), nil
}

func (p *Proc) hasThread(id pidns.VPID) bool {
	for _, t := range p.Threads {
		if t.VTID == id {
			return true
		}
	}
	return false
}
