package container

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// State is what a container does now.
type State string

const (
	Running State = "running"
	Stopped State = "stopped" // every process was stopped by a signal
	Dumped  State = "dumped"  // ended by a dump: an image holds it
	Exited  State = "exited"
	Damaged State = "damaged" // what is remembered of it is of no use: only Remove works on it
)

// Alive: its first process lives.
func (s State) Alive() bool { return s == Running || s == Stopped }

// State looks at the processes; see the package comment.
func (c *Container) State() (State, error) {
	if c.damage != nil {
		return Damaged, nil
	}
	alive, err := c.alive()
	if err != nil {
		return "", err
	}
	if alive {
		ps, err := c.walk(false)
		if err != nil {
			return "", err
		}
		return stateOf(true, ps, false), nil
	}
	return stateOf(false, nil, c.Marker() != nil), nil
}

// stateOf decides by facts alone. Zombies do not count: they neither run nor
// can be stopped.
func stateOf(initAlive bool, ps []Process, marked bool) State {
	if !initAlive {
		if marked {
			return Dumped
		}
		return Exited
	}
	stopped := 0
	for _, p := range ps {
		switch p.State {
		case 'Z', 'X':
		case 'T':
			stopped++
		default:
			return Running
		}
	}
	if stopped > 0 {
		return Stopped
	}
	return Running
}

func (c *Container) alive() (bool, error) {
	p, err := c.openInit()
	if err != nil || p == nil {
		return false, err
	}
	return true, p.Close()
}

// Up is the time since the container was started or restored here.
func (c *Container) Up(now time.Time) time.Duration { return now.Sub(c.Created) }

// Marker is the image that holds the container, nil if it was not dumped. One
// that cannot be read says so all the same, but not where the image is.
func (c *Container) Marker() *Marker {
	m := new(Marker)
	ok, err := readJSON(c.file(markerFile), m)
	switch {
	case err != nil:
		return new(Marker)
	case !ok:
		return nil
	}
	return m
}

// MarkDumped says that the image dir holds the container, which the caller is
// about to end. If the container goes on for whatever reason, the mark means
// nothing.
func (c *Container) MarkDumped(dir string) error {
	if err := writeJSON(c.file(markerFile), Marker{Image: dir, At: time.Now()}); err != nil {
		return fmt.Errorf("note that %s is dumped: %w", c.Name, err)
	}
	return nil
}

// bootID is another one after every boot.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}
