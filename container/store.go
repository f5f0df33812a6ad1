package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ckpt/failure"
)

// Store is a state directory: the containers of one user.
type Store struct{ dir string }

// NewStore is the store in dir (see StateDir); it is empty if dir is not there.
func NewStore(dir string) *Store { return &Store{dir} }

// Dir is the state directory.
func (s *Store) Dir() string { return s.dir }

// Container is one entry of a store as it was read.
type Container struct {
	Record
	store  *Store
	dir    string
	damage error // why nothing but Remove works on it; nil: all does
}

// Get finds a container. A name nobody has is failure.ErrNoContainer; one of
// which nothing of use is remembered is an error that says what to do.
func (s *Store) Get(name string) (*Container, error) {
	c, err := s.Entry(name)
	if err != nil {
		return nil, err
	}
	if c.damage != nil {
		return nil, c.damage
	}
	return c, nil
}

// Entry is Get, for a damaged container too.
func (s *Store) Entry(name string) (*Container, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	c, err := s.read(name)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, failure.WithHint(
			failure.Mark(failure.ErrNoContainer, fmt.Errorf("there is no container named %s", name)),
			"`ckpt ps` lists the containers there are")
	}
	return c, c.untilMade()
}

// read gives nil for a name nobody has, an entry that is being made included.
func (s *Store) read(name string) (*Container, error) {
	c := &Container{store: s, dir: filepath.Join(s.dir, name)}
	ok, err := readJSON(c.file(recordFile), &c.Record)
	switch {
	case err == nil && !ok:
		return nil, nil
	case err == nil && c.Format != recordFormat:
		err = fmt.Errorf("it was written by another version of ckpt (format %d, not %d)", c.Format, recordFormat)
	case err == nil && c.Name != name:
		err = fmt.Errorf("%s is of a container named %q", c.file(recordFile), c.Name)
	}
	if err != nil {
		return s.damaged(name, c.dir, err), nil
	}
	return c, nil
}

// List gives every container, by name; the damaged ones, too.
func (s *Store) List() ([]*Container, error) {
	ents, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var out []*Container
	for _, e := range ents {
		if !e.IsDir() || checkName(e.Name()) != nil {
			continue
		}
		c, err := s.read(e.Name())
		if err != nil {
			return nil, err
		}
		if c != nil {
			out = append(out, c)
		}
	}
	return out, nil
}

func (c *Container) file(name string) string { return filepath.Join(c.dir, name) }

// Log is the path of the container's log.
func (c *Container) Log() string { return c.file(logFile) }

// Dir is the container's own directory.
func (c *Container) Dir() string { return c.dir }

// Reload reads the record again.
func (c *Container) Reload() error {
	n, err := c.store.read(c.Name)
	switch {
	case err != nil:
		return err
	case n == nil:
		return c.removed()
	case n.damage != nil:
		return n.damage
	case !n.Created.Equal(c.Created):
		return failure.WithHint(failure.Mark(ErrSaved, fmt.Errorf("%s has ended, and was started or restored anew since", c.Name)),
			"look at that one: ckpt ps "+c.Name)
	}
	c.Record = n.Record
	return nil
}

// ErrSaved: an image holds what was waited for, or may hold it, with the files
// that it had open. Or it was restored since.
var ErrSaved = errors.New("saved in an image")

func (c *Container) removed() error {
	return failure.Mark(failure.ErrNoContainer, fmt.Errorf("%s was removed meanwhile", c.Name))
}
