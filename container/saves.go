package container

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Schedule says how a container is saved by itself. It goes into each image of the
// container, so that it holds after a restore.
type Schedule struct {
	Every  time.Duration `json:"every_ns,omitempty"` // from the end of one dump to the next; 0: not by time
	Keep   int           `json:"keep"`               // images, at least
	To     string        `json:"to"`                 // directory, absolute
	OnTerm time.Duration `json:"on_term_ns,omitempty"`
	Flags  []string      `json:"flags,omitempty"` // of `ckpt dump`, paths absolute
}

// Saves is what is known of a container that is saved by itself.
type Saves struct {
	Saver  int     `json:"saver,omitempty"`  // host pid of the process that does it
	Last   *Save   `json:"last,omitempty"`   // the last that went well
	Failed *Failed `json:"failed,omitempty"` // the last one, if it did not
}

// Save is an image that was made.
type Save struct {
	At     time.Time     `json:"at"`
	Image  string        `json:"image"` // absolute
	Stored uint64        `json:"stored"`
	Frozen time.Duration `json:"frozen_ns"`
	Total  time.Duration `json:"total_ns"`
	// Left is why something of earlier images is left that is not needed any more, or
	// "latest" leads to one of them.
	Left string `json:"left,omitempty"`
}

// Failed is a dump that made none; the container went on.
type Failed struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	Hints  []string  `json:"hints,omitempty"`
}

// Saver is the right to save a container by itself, of one process. It ends with it.
type Saver struct {
	c    *Container
	lock *os.File
}

// BeSaver makes the caller the saver of the container.
func (c *Container) BeSaver() (*Saver, error) {
	l, err := lockFor(c.file(saverLock), unix.F_OFD_SETLK, unix.F_WRLCK)
	if err != nil {
		return nil, err
	}
	return &Saver{c, l}, nil
}

// Note replaces what is known of the saves, but for the saver, which is the caller. The container may have been forgotten.
func (s *Saver) Note(v Saves) error {
	v.Saver = os.Getpid()
	err := writeJSON(s.c.file(savesFile), v)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Close gives the right back.
func (s *Saver) Close() error { return s.lock.Close() }

// Saves is what is known of the container's saves. Its Saver is 0 if that was killed.
func (c *Container) Saves() (v Saves, err error) {
	lives, err := lockedForWriting(c.file(saverLock))
	if err != nil {
		return v, err
	}
	if _, err := readJSON(c.file(savesFile), &v); err != nil {
		return v, err
	}
	if !lives {
		v.Saver = 0
	}
	return v, nil
}
