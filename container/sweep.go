package container

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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
// One that holds anything else is somebody's, and stays as it is.
func (c *Container) removeClaim() (bool, error) {
	ents, err := os.ReadDir(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // another command has removed it
	}
	if err != nil {
		return false, err
	}
	locked := false // the first file that is made
	for _, e := range ents {
		if !ofClaim(e) {
			return false, nil
		}
		locked = locked || e.Name() == lockFile
	}
	if len(ents) > 0 && !locked {
		return false, nil
	}
	if err := errors.Join(c.removeNames(), c.forget()); err != nil {
		return false, err
	}
	return true, nil
}

// ofClaim tells whether a claim makes such a file before it is a container.
func ofClaim(e fs.DirEntry) bool {
	switch name := e.Name(); name {
	case lockFile, makingFile, logFile, newLog, namesFile, imagesFile:
		return e.Type().IsRegular()
	case consoleFile:
		return e.Type() == fs.ModeSocket
	default:
		return e.Type().IsRegular() && strings.HasPrefix(name, newPrefix)
	}
}
