package filelock

import (
	"errors"
	"fmt"

	filelock "github.com/checkpoint-restore/go-criu/v7/crit/images/file-lock"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fown"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
)

// broken stands in an entry's type beside what a lease is to become: somebody
// has opened the file and waits (LEASE_BREAKING of CRIU).
const broken = 4

// Leases breaks again those that were being broken.
func Leases() kind.Namespace {
	return kind.Namespace{
		Name:    "leases being broken",
		Saves:   "leases that somebody waits to be given up",
		Dump:    func(*kind.Dump) error { return nil }, // saved with the locks
		Restore: func(*kind.Restore) error { return nil },
		Finish:  breakAgain,
	}
}

// parseLease reads the rest of a line of fdinfo. Of a lease that is being
// broken it shows what it is to become (lock_get_status() in fs/locks.c).
//
//	lock:	1: LEASE  ACTIVE    READ 8735 fe:00:3366913 0 EOF
func (l *lock) parseLease(state, typ string) error {
	t, ok := map[string]uint32{"READ": unix.F_RDLCK, "WRITE": unix.F_WRLCK, "UNLCK": unix.F_UNLCK}[typ]
	switch {
	case !ok:
		return fmt.Errorf("a lease of type %s", typ)
	case state == "ACTIVE":
		l.typ = t
	case state == "BREAKING":
		l.typ = t | broken
	default:
		return fmt.Errorf("a lease that is %s", state)
	}
	return nil
}

// exclusive: whoever opens the file breaks the lease, ckpt among them.
func (l lock) exclusive() bool { return l.flag == lease && l.typ != unix.F_RDLCK }

// leased are the files that ckpt must not open.
func (s *saver) leased(d *kind.Dump) (map[inode]bool, error) {
	if s.leases != nil {
		return s.leases, nil
	}
	s.leases = map[inode]bool{}
	for _, p := range d.Procs {
		for _, fd := range p.Fds {
			for _, line := range fd.Desc.Info.Lines {
				l, ok, err := parse(line)
				if err != nil {
					return nil, err
				}
				if ok && l.exclusive() {
					s.leases[inode{fd.Desc.Stat.Dev, fd.Desc.Stat.Ino}] = true
				}
			}
		}
	}
	return s.leases, nil
}

type inode struct{ dev, ino uint64 }

// refuseLeased refuses what would break a lease to save: mapped files and the
// contents of deleted ones, which ckpt opens.
func (s *saver) refuseLeased(d *kind.Dump, p *kind.Proc) error {
	leased, err := s.leased(d)
	if err != nil || len(leased) == 0 {
		return err
	}
	for i := range p.Maps {
		if m := &p.Maps[i]; leased[inode{m.Dev, m.Ino}] {
			return failure.WithHint(failure.Unsupportedf("%s is mapped, and there is a lease (F_SETLEASE) on it that ckpt would break", shown(m)),
				"let the program give the lease up before the dump")
		}
	}
	for i := range p.Fds {
		desc := p.Fds[i].Desc
		if leased[inode{desc.Stat.Dev, desc.Stat.Ino}] && desc.Stat.Nlink == 0 {
			return failure.WithHint(failure.Unsupportedf("fd %d: there is a lease (F_SETLEASE) on %s that ckpt would break by reading the file",
				p.Fds[i].FD, desc.Link), "let the program give the lease up before the dump")
		}
	}
	return nil
}

func shown(m *procfs.Map) string { return fmt.Sprintf("%s at %#x", m.Path, m.Start) }

// takeLease adds the call that takes a lease again, as it was before it was
// broken: the process is the one that will be told, by the descriptor that it
// names here. It runs while the process still has ckpt's rights, since it may
// have given up its own (CAP_LEASE) by now.
func takeLease(r *kind.Restore, t *kind.Target, e *filelock.FileLockEntry) error {
	f := describes(r, t, e.GetFd())
	if f == nil {
		return failure.Damagedf("a lease on fd %d, which is no file", e.GetFd())
	}
	typ := uint64(unix.F_WRLCK)
	switch e.GetType() {
	case unix.F_RDLCK:
		typ = unix.F_RDLCK
	case broken | unix.F_UNLCK:
		// One for writing that a reader had cannot be told from this.
		if f.flags&unix.O_ACCMODE == unix.O_RDONLY {
			typ = unix.F_RDLCK
		}
	case unix.F_WRLCK, broken | unix.F_RDLCK:
	default:
		return failure.Damagedf("a lease of type %d", e.GetType())
	}
	step := t.Main.Must(unix.SYS_FCNTL, uint64(e.GetFd()), unix.F_SETLEASE, typ)
	t.Main.Note(step, fmt.Sprintf("take the lease on fd %d again", e.GetFd()))
	t.Main.Explain(step, newTaken(r, t, e).why)
	return nil
}

// description is what the image has of an open file that there may be a lease on.
type description struct {
	id, flags uint32
	owner     *fown.FownEntry
}

// describes gives the file that a process has as fd; nil: none.
func describes(r *kind.Restore, t *kind.Target, fd int32) *description {
	for _, d := range t.Fds {
		if int32(d.GetFd()) != fd {
			continue
		}
		if f := r.Entries[d.GetId()].GetReg(); f != nil {
			return &description{id: d.GetId(), flags: f.GetFlags(), owner: f.GetFown()}
		}
	}
	return nil
}

// breakAgain makes the owner of each description with a lease what it was, for
// taking the lease makes one where there is none (fs/locks.c), and opens what
// was being opened. That tells nobody: who has the lease was told before.
func breakAgain(r *kind.Restore) error {
	return image.Each(r.In, image.FileLocks, "", func(e *filelock.FileLockEntry, _ func(int) ([]byte, error)) error {
		if e.GetFlag() != lease {
			return nil
		}
		for _, t := range r.Targets {
			if t.VPID != pidns.VPID(e.GetPid()) {
				continue
			}
			if d := describes(r, t, e.GetFd()); d != nil {
				if err := d.breakLease(r, e.GetType()); err != nil {
					return fmt.Errorf("pid %d: fd %d: %w", t.VPID, e.GetFd(), err)
				}
			}
		}
		return nil
	})
}

func (d *description) breakLease(r *kind.Restore, typ uint32) error {
	if typ&broken == 0 && d.owner.GetPid() != 0 {
		return nil
	}
	f, err := r.File(d.id)
	if err != nil {
		return err
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETOWN, 0); err != nil {
		return fmt.Errorf("take the owner away (F_SETOWN): %w", err)
	}
	if typ&broken == 0 {
		return nil
	}
	how := uint32(unix.O_RDONLY)
	if typ == broken|unix.F_UNLCK {
		how = unix.O_WRONLY
	}
	opened, err := r.Reopen(f, how|unix.O_NONBLOCK)
	if err == nil {
		opened.Close()
		return errors.New("break the lease again: nobody minds that the file is opened")
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("break the lease again: %w", err)
	}
	return r.RestoreOwner(f, d.owner)
}
