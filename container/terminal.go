package container

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/console"
	"ckpt/failure"
	"ckpt/tracee"
)

// Terminal is that of a container, as its maker hands it to the supervisor.
type Terminal struct {
	Master *os.File // which does not block
	Shows  *console.Screen
}

// openTerminal makes a terminal in the container's /dev/pts, with the stub that is to
// execute its command, and gives its master.
func openTerminal(t *tracee.Thread, site tracee.Site, z console.Size) (_ *os.File, err error) {
	s := tracee.NewScript(site.Base)
	open := s.Must(unix.SYS_OPENAT, 0, s.Str("/dev/ptmx"), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	s.Note(open, "open /dev/ptmx")
	if err := t.Run(site, s); err != nil {
		return nil, fmt.Errorf("make a terminal: %w", err)
	}
	fd, err := s.Result(open)
	if err != nil {
		return nil, err
	}
	pidfd, err := unix.PidfdOpen(t.PID, 0)
	if err != nil {
		return nil, fmt.Errorf("take the terminal: %w", err)
	}
	defer unix.Close(pidfd)
	own, err := unix.PidfdGetfd(pidfd, int(fd), 0)
	if err != nil {
		return nil, fmt.Errorf("take the terminal (pidfd_getfd): %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(own)
		}
	}()
	if err := unix.IoctlSetPointerInt(own, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlock the terminal (TIOCSPTLCK): %w", err)
	}
	if err := z.Set(own); err != nil {
		return nil, fmt.Errorf("set the terminal's size (TIOCSWINSZ): %w", err)
	}
	s = tracee.NewScript(site.Base)
	peer := s.Must(unix.SYS_IOCTL, fd, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
	s.Note(peer, "open the terminal (TIOCGPTPEER)")
	for i := range uint64(3) {
		from := peer
		if i > 0 {
			from = s.Again(peer)
		}
		s.Feed(from, s.Must(unix.SYS_DUP3, 0, i, 0), 0)
	}
	s.Note(s.Must(unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0), "make it the controlling terminal (TIOCSCTTY)")
	if err := t.Run(site, s); err != nil {
		return nil, fmt.Errorf("make a terminal: %w", err)
	}
	return os.NewFile(uintptr(own), "/dev/ptmx"), nil
}

// serve has the container's terminal served, where others find it.
func (cl *claim) serve(t *Terminal, attached *os.File) (_ *console.Server, err error) {
	log, err := dupFile(cl.log)
	if err != nil {
		return nil, err
	}
	s, err := console.Serve(t.Master, t.Shows, log)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	l, err := cl.c.listen()
	if err != nil {
		s.Abandon()
		return nil, errors.Join(err, log.Close())
	}
	go s.Accept(l)
	if attached != nil {
		conn, err := unixConn(attached)
		if err != nil {
			s.Abandon()
			return nil, errors.Join(err, l.Close(), log.Close())
		}
		s.Expect(conn)
	}
	return s, nil
}

func dupFile(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// unixConn takes f over.
func unixConn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("take the connection of the terminal: %w", err)
	}
	return c.(*net.UnixConn), nil
}

// listen makes the socket by which others find the terminal. A path may be longer than
// the address of a socket (unix(7)): the directory is opened, and the rest is short.
func (c *Container) listen() (*net.UnixListener, error) {
	if err := remove(c.file(consoleFile)); err != nil {
		return nil, err
	}
	var l *net.UnixListener
	err := c.atSocket(func(a *net.UnixAddr) (err error) {
		l, err = net.ListenUnix("unix", a)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("serve the container's terminal: %w", failure.WithoutPath(err))
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}

func (c *Container) atSocket(use func(*net.UnixAddr) error) error {
	dir, err := os.Open(c.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return use(&net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), consoleFile)})
}

// DialTerminal connects to the container's terminal. It fails with
// failure.ErrUsage if it has none.
func (c *Container) DialTerminal() (conn *net.UnixConn, err error) {
	if !c.Terminal {
		return nil, failure.WithHint(failure.Mark(failure.ErrUsage, fmt.Errorf("%s has no terminal", c.Name)),
			"follow what it writes: ckpt logs -f "+c.Name, "or start one with a terminal: ckpt start -t NAME -- CMD")
	}
	err = c.atSocket(func(a *net.UnixAddr) (err error) {
		conn, err = net.DialUnix("unix", nil, a)
		return err
	})
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) {
		if err := c.MustLive(); err != nil {
			return nil, err
		}
		return nil, failure.WithHint(fmt.Errorf("nobody serves the terminal of %s: its supervisor was killed", c.Name), "end it: ckpt rm -f "+c.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the terminal of %s: %w", c.Name, failure.WithoutPath(err))
	}
	return conn, nil
}

// Attachment is a connection to the terminal of a container that is yet to be made:
// nothing that its command writes is missed.
type Attachment struct {
	Conn *net.UnixConn
	far  *os.File // the supervisor's end
}

// NewAttachment makes one, for Request.Attached.
func NewAttachment() (*Attachment, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("connect to the terminal: %w", err)
	}
	far := os.NewFile(uintptr(fds[1]), "terminal")
	conn, err := unixConn(os.NewFile(uintptr(fds[0]), "terminal"))
	if err != nil {
		return nil, errors.Join(err, far.Close())
	}
	return &Attachment{conn, far}, nil
}

// Close ends it.
func (a *Attachment) Close() error { return errors.Join(a.Conn.Close(), a.far.Close()) }
