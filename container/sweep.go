package container

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Sweep removes what the supervisor of that name has left behind, if it was killed
// while it made the container; swept tells whether there was any such thing. A
// container that stood there before stays as it was.
func (s *Store) Sweep(name string) (swept bool, err error) {
	if err := CheckName(name); err != nil {
		return false, err
	}
	c := &Container{store: s, dir: filepath.Join(s.dir, name)}
	if _, err := os.Lstat(c.dir); err != nil {
		return false, nil
	}
	err = s.locked(func() error {
		if busy, err := lockedForWriting(c.file(lockFile)); err != nil || busy {
			return err
		}
		now, err := s.read(name)
		if err != nil {
			return err
		}
		if now == nil {
			swept, err = c.removeClaim()
			return err
		}
		if now.damage != nil {
			return nil
		}
		if alive, err := now.alive(); err != nil || alive {
			return err // it has come as far as that, and runs
		}
		return errors.Join(c.removeNames(), remove(c.file(newLog)))
	})
	return swept, err
}

// removeClaim removes the directory of a name that was claimed and is no container.
// What is none of ckpt's stays there, and so does it.
func (c *Container) removeClaim() (bool, error) {
	errs := []error{c.removeNames()}
	for _, name := range []string{logFile, newLog, makingFile, lockFile} {
		errs = append(errs, remove(c.file(name)))
	}
	if err := errors.Join(errs...); err != nil {
		return false, err
	}
	switch err := unix.Rmdir(c.dir); err {
	case nil:
		return true, nil
	case unix.ENOTEMPTY, unix.EEXIST:
		return false, nil
	default:
		return false, &os.PathError{Op: "rmdir", Path: c.dir, Err: err}
	}
}
