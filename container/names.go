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
)

// Name is one that a restore is about to make in the file system: a socket, or that
// of a deleted file for the instant until it is deleted again. Should ckpt be killed
// meanwhile, whoever finds that out removes it: the command that waited for the
// restore, the next that takes the container's name, or rm (Sweep).
type Name struct {
	Path string    `json:"path"`
	Mode uint32    `json:"mode"` // as in stat(2)
	At   time.Time `json:"at"`
	// Removed: it is the other way round, that of a socket which nobody has any more
	// and which is to make room for another.
	Removed bool   `json:"removed,omitempty"`
	UID     uint32 `json:"uid,omitempty"`
	GID     uint32 `json:"gid,omitempty"`
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

// Making adds a name, before it is made.
func (n *Names) Making(path string, mode uint32) error {
	return n.note(Name{Path: path, Mode: mode})
}

// Removing adds a name, before it is removed.
func (n *Names) Removing(path string, mode, uid, gid uint32) error {
	return n.note(Name{Path: path, Mode: mode, Removed: true, UID: uid, GID: gid})
}

func (n *Names) note(name Name) error {
	name.At = time.Now()
	b, err := json.Marshal(name)
	if err == nil {
		_, err = n.f.Write(append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("note that %s changes: %w", name.Path, err)
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
		if err := names[i].undo(); err != nil {
			errs = append(errs, fmt.Errorf("undo what a restore that was killed has done to %s: %w", names[i].Path, err))
		}
	}
	return errors.Join(append(errs, remove(c.file(namesFile)))...)
}

func (n Name) undo() error {
	var st unix.Stat_t
	switch err := unix.Lstat(n.Path, &st); {
	case n.Removed && errors.Is(err, unix.ENOENT):
		return errors.Join(unix.Mknod(n.Path, n.Mode, 0), n.own())
	case err != nil:
		return nil // not made, or out of reach
	}
	age := time.Unix(st.Ctim.Unix()).Sub(n.At)
	if st.Mode&unix.S_IFMT != n.Mode&unix.S_IFMT || age < -soon || age > soon {
		return nil
	}
	if n.Removed { // the one that was to take its place has no owner and rights of its own yet
		return n.own()
	}
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if err := unix.Rmdir(n.Path); !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return nil
	case unix.S_IFREG:
		if st.Size != 0 {
			return nil
		}
	}
	return unix.Unlink(n.Path)
}

// own gives the file of that name its owner and its rights back.
func (n Name) own() error {
	return errors.Join(unix.Lchown(n.Path, int(n.UID), int(n.GID)), unix.Chmod(n.Path, n.Mode&0o7777))
}
