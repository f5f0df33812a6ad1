package tracee

import (
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/procfs"
)

// A killed thread may be unable to end before ckpt has waited for others: the
// leader of threads is reported only after them (kernel/exit.c,
// delay_group_leader), and the first process of a pid namespace first waits
// until all others of it are reaped (kernel/pid_namespace.c,
// zap_pid_ns_processes), which those that ckpt traces are not until it has
// waited for them. Waiting for such a thread alone would be for ever.
const (
	dyingPatience = 100 * time.Millisecond
	dyingPause    = 5 * time.Millisecond
)

// untangle waits, from patience on, for what keeps tid from ending, until
// stop is called. Any thread of ckpt may wait for what another traces
// (wait(2), __WNOTHREAD), so this need not disturb the waiting one.
func untangle(tid int) (stop func()) {
	var done atomic.Bool
	timer := time.AfterFunc(dyingPatience, func() {
		for ; !done.Load(); time.Sleep(dyingPause) {
			if dying(tid) && !done.Load() {
				reapBelow(tid)
			}
		}
	})
	return func() {
		done.Store(true)
		timer.Stop()
	}
}

// dying tells whether a thread is on its way out.
func dying(tid int) bool {
	p, err := procfs.Open(tid)
	if err != nil {
		return false
	}
	defer p.Close()
	st, err := p.Stat()
	return err == nil && st.Flags&procfs.PFExiting != 0
}

// Killed tells whether a thread that ckpt left in a stop is there no more:
// only SIGKILL ends such a one, and takes it out of the stop at once, however
// long it then needs to end.
func (t *Thread) Killed() bool {
	p, err := procfs.Open(t.TID)
	if err != nil {
		return errors.Is(err, unix.ESRCH)
	}
	defer p.Close()
	st, err := p.Stat()
	if err != nil {
		return errors.Is(err, unix.ESRCH)
	}
	return st.State != 't' && st.State != 'T'
}

// reapBelow waits for the dead among the other threads of pid and all that
// descends from it. Only the end of what ckpt traces is taken; a zombie then
// is its parent's to wait for.
func reapBelow(pid int) {
	seen := map[int]bool{pid: true}
	for all := []int{pid}; len(all) > 0; all = all[1:] {
		p, err := procfs.Open(all[0])
		if err != nil {
			continue
		}
		tids, _ := p.Tasks() // gone: nothing to wait for
		children, _ := p.Children()
		p.Close()
		for _, c := range children {
			if !seen[c] {
				seen[c] = true
				all = append(all, c)
			}
		}
		for i := len(tids) - 1; i >= 0; i-- { // the leader, which is first, after its threads
			if tids[i] != pid {
				_ = unix.Waitid(unix.P_PID, tids[i], nil, unix.WEXITED|unix.WNOHANG|unix.WALL, nil) // ECHILD: not traced
			}
		}
	}
}
