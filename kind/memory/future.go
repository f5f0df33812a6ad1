package memory

import (
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
)

// lockedFuture finds whether all memory that p maps from now on is locked
// (mlockall(2) with MCL_FUTURE), which the kernel shows of no process: the
// script's own area, mapped since p was looked at, is locked then. at is an
// address in it.
func lockedFuture(p *kind.Proc, at uint64) (uint32, error) {
	st, err := p.FS.Status()
	if err != nil || st.VmLck <= p.Status.VmLck {
		return 0, err
	}
	maps, err := p.FS.Maps()
	if err != nil {
		return 0, err
	}
	for i := range maps {
		if m := &maps[i]; m.Start <= at && at < m.End {
			if lockedOnFault(m) {
				return unix.MCL_FUTURE | unix.MCL_ONFAULT, nil
			}
			return unix.MCL_FUTURE, nil
		}
	}
	return 0, fmt.Errorf("the mapping of address %#x is not listed", at)
}

// lockFuture has what the process maps from now on locked. What it has mapped
// stays as it is without MCL_CURRENT.
func (b *space) lockFuture() error {
	flags := b.t.Extra.GetMlockFuture()
	switch flags {
	case 0:
		return nil
	case unix.MCL_FUTURE, unix.MCL_FUTURE | unix.MCL_ONFAULT:
		step := b.t.Late.Must(unix.SYS_MLOCKALL, uint64(flags))
		b.t.Late.Note(step, "lock memory that it will map (mlockall)")
		b.t.Late.Explain(step, func(errno unix.Errno) error { return notLocked("memory that it will map", errno) })
		return nil
	}
	return failure.Damagedf("mlockall(2) with flags %#x", flags)
}

// notLocked explains that memory cannot be locked, by the errors that mlock(2)
// has for it.
func notLocked(what string, errno unix.Errno) error {
	switch errno {
	case unix.ENOMEM, unix.EAGAIN, unix.EPERM:
		return failure.WithHint(failure.Unsupportedf("%s cannot be locked (mlock): it is more than one process may lock here", what),
			"raise the limit (ulimit -l, in kB), or restore as root")
	}
	return nil
}
