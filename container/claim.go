package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// claim is a name being turned into a container. Until commit, what stood
// there before (a dumped or an ended container) stays as it was.
type claim struct {
	c     *Container
	lock  *os.File // held as long as the supervisor lives
	made  *os.File // held until the container runs
	log   *os.File // O_APPEND
	fresh bool     // the directory was made for this claim
	anew  bool     // the log starts anew
	old   *Record  // what stood there
	mark  *Marker
	done  bool // committed
}

const newLog = "log.new"

// claim takes a name for the caller, who becomes its supervisor.
func (s *Store) claim(name string, keepLog bool) (*claim, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	var cl *claim
	err := s.locked(func() (err error) {
		cl, err = s.claimLocked(name, keepLog)
		return err
	})
	return cl, err
}

func (s *Store) claimLocked(name string, keepLog bool) (_ *claim, err error) {
	cl := &claim{c: &Container{store: s, dir: filepath.Join(s.dir, name)}, anew: !keepLog}
	switch err := os.Mkdir(cl.c.dir, 0o700); {
	case err == nil:
		cl.fresh = true
	case !errors.Is(err, fs.ErrExist):
		return nil, err
	}
	defer func() {
		if err != nil {
			cl.undoLocked()
		}
	}()
	if old, err := s.read(name); err != nil {
		return nil, err
	} else if old != nil {
		if old.damage != nil {
			return nil, old.damage
		}
		if alive, err := old.alive(); err != nil || alive {
			return nil, errors.Join(err, taken(name, "is running"))
		}
		cl.old = &old.Record
	}
	cl.mark = cl.c.Marker()
	// Readers lock for an instant only (settle), so wait for them, but not
	// for a supervisor.
	if busy, err := lockedForWriting(cl.c.file(lockFile)); err != nil || busy {
		cl.fresh = false // another's
		return nil, errors.Join(err, cl.c.busy(name))
	}
	cl.lock, err = lockFor(cl.c.file(lockFile), unix.F_OFD_SETLKW, unix.F_WRLCK)
	if err != nil {
		return nil, err
	}
	cl.made, err = lockFor(cl.c.file(makingFile), unix.F_OFD_SETLKW, unix.F_WRLCK)
	if err != nil {
		return nil, err
	}
	if err := cl.c.removeNames(); err != nil {
		return nil, err
	}
	path := cl.c.file(logFile)
	flags := os.O_WRONLY | os.O_APPEND | os.O_CREATE
	if cl.anew {
		path = cl.c.file(newLog)
		flags |= os.O_TRUNC
	}
	cl.log, err = os.OpenFile(path, flags, 0o600)
	return cl, err
}

// busy tells of a name that a supervisor has, which is no running container's.
func (c *Container) busy(name string) error {
	making, err := lockedForWriting(c.file(makingFile))
	if err == nil && !making {
		return failure.WithHint(failure.Mark(failure.ErrNameTaken, fmt.Errorf("a container named %s is about to end", name)),
			"wait for that: ckpt wait "+name)
	}
	return errors.Join(err, taken(name, "is being started"))
}

// Free is failure.ErrNameTaken if a container of that name runs.
func (s *Store) Free(name string) error {
	c, err := s.read(name)
	if err != nil || c == nil || c.damage != nil {
		return err
	}
	if alive, err := c.alive(); err != nil || alive {
		return errors.Join(err, taken(name, "is running"))
	}
	return nil
}

func taken(name, how string) error {
	return failure.WithHint(
		failure.Mark(failure.ErrNameTaken, fmt.Errorf("a container named %s %s", name, how)),
		"take another name", "or end that one: ckpt rm -f "+name)
}

// commit makes the claim the container of that name.
func (cl *claim) commit(r Record) error {
	r.Format, r.Supervisor, r.Created = recordFormat, os.Getpid(), time.Now()
	boot, err := bootID()
	if err != nil {
		return err
	}
	p, st, err := openAlive(r.Init)
	if err != nil {
		return err
	}
	r.BootID = boot
	if p != nil { // else it has ended already, and its start time says nothing
		r.InitStart = st.StartTime
		p.Close()
	}
	if cl.anew {
		if err := os.Rename(cl.c.file(newLog), cl.c.file(logFile)); err != nil {
			return err
		}
		if err := remove(cl.c.file(imagesFile)); err != nil {
			return err
		}
	}
	cl.done = true
	if err := writeJSON(cl.c.file(recordFile), r); err != nil {
		return err
	}
	cl.c.Record = r
	cl.c.clearExecs()
	return errors.Join(remove(cl.c.file(markerFile)), remove(cl.c.file(savesFile)))
}

// running lets other commands act on the container, and gives up the log.
func (cl *claim) running() error {
	return errors.Join(cl.made.Close(), cl.log.Close(), cl.c.liftTables(), remove(cl.c.file(namesFile)))
}

// undo gives the name back, and what stood there, but for a log that was
// started anew already.
func (cl *claim) undo() error {
	return cl.c.store.locked(cl.undoLocked)
}

func (cl *claim) undoLocked() error {
	var err error
	if cl.log != nil {
		err = cl.log.Close()
		if cl.anew {
			err = errors.Join(err, remove(cl.c.file(newLog)))
		}
	}
	if cl.lock != nil {
		err = errors.Join(err, remove(cl.c.file(namesFile))) // all are gone
	}
	switch {
	case cl.fresh:
		err = errors.Join(err, cl.c.forget())
	case cl.old == nil && cl.lock != nil: // in what one that was killed has left
		err = errors.Join(err, remove(cl.c.file(recordFile)))
		_, left := cl.c.removeClaim()
		err = errors.Join(err, left)
	case cl.done && cl.old != nil:
		err = errors.Join(err, writeJSON(cl.c.file(recordFile), cl.old))
		if cl.mark != nil {
			err = errors.Join(err, writeJSON(cl.c.file(markerFile), cl.mark))
		}
	}
	for _, l := range []*os.File{cl.made, cl.lock} {
		if l != nil {
			err = errors.Join(err, l.Close())
		}
	}
	return err
}

// remove removes a file that may not be there.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
