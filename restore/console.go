package restore

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/console"
	"ckpt/container"
	"ckpt/failure"
	"ckpt/image"
)

// openConsole makes the container's own terminal, for who is going to serve it.
func (s *session) openConsole() error {
	err := image.Each(s.in, image.Console, "", func(e *image.ConsoleEntry, _ func(int) ([]byte, error)) (err error) {
		if s.terminal != nil {
			return failure.Damagedf("%s has a second terminal", image.Console.Name(""))
		}
		s.terminal, err = s.makeConsole(e)
		return err
	})
	if err != nil {
		return &failure.Error{Doing: "restore", What: "the container's terminal", Err: err}
	}
	return nil
}

func (s *session) makeConsole(e *image.ConsoleEntry) (*container.Terminal, error) {
	f, err := s.file(e.GetFile())
	if err != nil {
		return nil, err
	}
	if _, err := unix.IoctlGetUint32(int(f.Fd()), unix.TIOCGPTN); err != nil {
		return nil, failure.Damagedf("file %d is not the master of a terminal", e.GetFile())
	}
	w, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return nil, fmt.Errorf("read its window size (TIOCGWINSZ): %w", err)
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return nil, fmt.Errorf("duplicate the master: %w", err)
	}
	shows := console.NewScreen(console.Size{Rows: w.Row, Cols: w.Col, X: w.Xpixel, Y: w.Ypixel})
	shows.Write(e.GetShows())
	return &container.Terminal{Master: os.NewFile(uintptr(fd), "/dev/ptmx"), Shows: shows}, nil
}
