package container

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Locks are those of open file descriptions (F_OFD_SETLK of fcntl(2)): they
// end with the last duplicate of the descriptor, also when its holder is
// killed; and F_OFD_GETLK asks who holds one without taking it, so that a
// question never makes another command believe a name is taken.

// lockFor opens path, makes it if need be, and locks it: how is F_WRLCK or
// F_RDLCK, cmd F_OFD_SETLK (EAGAIN where another holds it) or F_OFD_SETLKW.
func lockFor(path string, cmd int, how int16) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.FcntlFlock(f.Fd(), cmd, &unix.Flock_t{Type: how})
		if err == nil {
			return f, nil
		}
		if err != unix.EINTR {
			f.Close()
			return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
		}
	}
}

// lockedForWriting tells whether somebody holds the lock of path alone.
func lockedForWriting(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	// A read lock would be refused by a write lock only.
	l := unix.Flock_t{Type: unix.F_RDLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l); err != nil {
		return false, &fs.PathError{Op: "ask for the lock of", Path: path, Err: err}
	}
	return l.Type == unix.F_WRLCK, nil
}

// locked runs fn while no other command makes or forgets an entry.
func (s *Store) locked(fn func() error) error {
	f, err := lockFor(filepath.Join(s.dir, ".lock"), unix.F_OFD_SETLKW, unix.F_WRLCK)
	if err != nil {
		return err
	}
	defer f.Close()
	return fn()
}

// Supervised tells whether the container's supervisor lives.
func (c *Container) Supervised() (bool, error) { return lockedForWriting(c.file(lockFile)) }

// settle waits until the supervisor has written all it knows, and has ended.
func (c *Container) settle() error { return c.waitLock(lockFile) }

// untilMade waits until the container runs that has just been recorded. To
// kill it before, while the supervisor traces it, would make the two wait for
// each other: vpid 1 does not end before all zombies below it have been
// reaped, and those the tracer has to reap.
func (c *Container) untilMade() error { return c.waitLock(makingFile) }

func (c *Container) waitLock(name string) error {
	f, err := lockFor(c.file(name), unix.F_OFD_SETLKW, unix.F_RDLCK)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // forgotten meanwhile
	}
	if err != nil {
		return err
	}
	return f.Close()
}
