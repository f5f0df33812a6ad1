package dump

import (
	"os"

	"ckpt/failure"
	"ckpt/image"
)

// Console is the terminal of a container, whose master ckpt's supervisor has.
type Console struct {
	Master *os.File
	// Hold lets nothing come out of it or go into it until Release, and gives what
	// shows what is seen there.
	Hold    func() (shows []byte, err error)
	Release func() error
}

// master is what the bare child carries for Dump.Console; nil: nothing.
func (c *Console) master() *os.File {
	if c == nil {
		return nil
	}
	return c.Master
}

// holdConsole takes in what the programs have written last. They are stopped.
func (s *session) holdConsole() (err error) {
	c := s.src.Console
	if c == nil {
		return nil
	}
	s.over("let the terminal go on", c.Release)
	if s.shows, err = c.Hold(); err != nil {
		return &failure.Error{Doing: "dump", Err: err}
	}
	return nil
}

// saveConsole saves the terminal as a file that no process has.
func (s *session) saveConsole() error {
	c := s.src.Console
	if c == nil {
		return nil
	}
	id, err := s.addFile(s.d.Procs[0], c.Master, "/dev/ptmx")
	if err == nil {
		err = s.out.Add(image.Console, "", &image.ConsoleEntry{File: id, Shows: s.shows})
	}
	if err != nil {
		return &failure.Error{Doing: "dump", What: "the container's terminal", Err: err}
	}
	return nil
}
