package container

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/kernel"
)

// Name is one that a restore is about to make in the file system: a socket, or that
// of a deleted file for the instant until it is deleted again. Should ckpt be killed
// meanwhile, whoever finds that out removes it: the command that waited for the
// restore, the next that takes the container's name, or rm.
type Name struct {
	Path string    `json:"path"`
	Mode uint32    `json:"mode"` // its type, as in stat(2)
	At   time.Time `json:"at"`
}

// soon is how long after it was noted a name has been made, if it has: another file
// of that name is none of ckpt's.
const soon = time.Second

// Names is where a restore notes them.
type Names struct{ f *os.File }

// NoteNames opens the list of the container of that name, which is being made.
func (s *Store) NoteNames(name string) (*Names, error) {
	c := &Container{store: s, dir: filepath.Join(s.dir, name)}
	f, err := os.OpenFile(c.file(namesFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("note what names are made: %w", err)
	}
	return &Names{f}, nil
}

// Note adds a name, before it is made.
func (n *Names) Note(path string, mode uint32) error {
	b, err := json.Marshal(Name{path, mode & unix.S_IFMT, time.Now()})
	if err == nil {
		_, err = n.f.Write(append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("note that %s is made: %w", path, err)
	}
	return nil
}

// Close closes the list. It stays until the container runs.
func (n *Names) Close() error { return n.f.Close() }

// removeNames removes what a killed restore has left behind, the last first, and the
// list. Preconditions: nobody is at work on c.
func (c *Container) removeNames() error {
	f, err := os.Open(c.file(namesFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var names []Name
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var n Name
		if json.Unmarshal(lines.Bytes(), &n) == nil { // else it was killed over it
			names = append(names, n)
		}
	}
	var errs []error
	for i := len(names) - 1; i >= 0; i-- {
		if err := names[i].remove(); err != nil {
			errs = append(errs, fmt.Errorf("remove %s, left behind by a restore that was killed: %w", names[i].Path, err))
		}
	}
	return errors.Join(append(errs, remove(c.file(namesFile)))...)
}

func (n Name) remove() error {
	var st unix.Stat_t
	if err := unix.Lstat(n.Path, &st); err != nil {
		return nil // not made, or out of reach
	}
	age := time.Unix(st.Ctim.Unix()).Sub(n.At)
	if st.Mode&unix.S_IFMT != n.Mode || age < -soon || age > soon {
		return nil
	}
	switch n.Mode {
	case unix.S_IFDIR:
		if err := unix.Rmdir(n.Path); !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return nil
	case unix.S_IFSOCK:
		if heard(n.Path) {
			return nil
		}
	case unix.S_IFREG:
		if st.Size != 0 {
			return nil
		}
	}
	return unix.Unlink(n.Path)
}

// heard tells whether somebody has the socket of that name.
func heard(path string) bool {
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET} {
		fd, err := unix.Socket(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return true
		}
		err = kernel.ConnectUnix(fd, []byte(path))
		unix.Close(fd)
		if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EPROTOTYPE) {
			return true
		}
	}
	return false
}

// sweep removes what the supervisor of that name has left behind, which was killed
// while it made the container.
func (s *Store) sweep(name string) error {
	return s.locked(func() error {
		c := &Container{store: s, dir: filepath.Join(s.dir, name)}
		if busy, err := lockedForWriting(c.file(lockFile)); err != nil || busy {
			return err
		}
		if now, err := s.read(name); err != nil || now != nil {
			if err != nil || now.damage != nil {
				return err
			}
			if alive, err := now.alive(); err != nil || alive {
				return err // it has come as far as that, and runs
			}
		}
		return c.removeNames()
	})
}
