package filelock

import (
	"errors"

	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/procfs"
)

// check refuses a process whose locks somebody has by now. Nothing is opened for
// that, which would break a lease. Leases are not looked at: whether one can be
// had is known when the file is open.
func (s *restorer) check(r *kind.Restore, t *kind.Target) error {
	if err := s.load(r); err != nil {
		return err
	}
	if len(s.locks[t.VPID]) == 0 {
		return nil
	}
	all, err := procfs.Locks(r.HostProc)
	if err != nil {
		return err
	}
	var refused []error
	for _, e := range s.locks[t.VPID] {
		k := newTaken(r, t, e)
		if e.GetFlag() == lease || k.name == "" {
			continue
		}
		k.st = new(unix.Stat_t)
		if err := unix.Stat(k.name, k.st); err != nil {
			continue // the file's own kind says that it is gone
		}
		if k.held(all) {
			refused = append(refused, k.why(unix.EAGAIN))
		}
	}
	return errors.Join(refused...)
}

// held tells whether a lock of all is in the way. The numbers of devices in /proc/locks
// are those of file systems, which those of files are not everywhere (btrfs,
// overlay): there it takes the holder's descriptors to be sure.
func (k *taken) held(all []procfs.Lock) bool {
	for i := range all {
		l := &all[i]
		if l.Ino != k.st.Ino || !k.inTheWay(l) {
			continue
		}
		if l.Dev == k.st.Dev {
			return true
		}
		pid, _ := k.holder()
		return pid != 0
	}
	return false
}
