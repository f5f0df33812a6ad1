package console

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// How an attachment has ended.
type How int

const (
	Ended     How = iota // the container has, or it is being ended
	Detached             // by the keys, or a signal
	Elsewhere            // another one has taken its place
)

// The window's title is kept meanwhile (XTWINOPS).
const (
	remember = "\x1b[22;0t"
	forget   = "\x1b[23;0t"
	// bottom is where the cursor is left if nobody says where.
	bottom = "\x1b[999;1H\r\n"
)

// Terminal is that of the user.
type Terminal struct {
	in, out    *os.File
	attributes // of in
	guard      *guard
}

// NewTerminal takes a terminal to show another one on.
func NewTerminal(in, out *os.File) (*Terminal, error) {
	for _, f := range []*os.File{in, out} {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
			return nil, failure.WithHint(
				failure.Mark(failure.ErrUsage, errors.New("standard input and output are not a terminal")),
				"run it in a terminal (in a script, script(1) makes one)")
		}
	}
	return &Terminal{in: in, out: out}, nil
}

// Size is that of its window.
func (t *Terminal) Size() Size { return SizeOf(t.out) }

// SizeOf is that of the window of a terminal; 0 if f is none.
func SizeOf(f *os.File) Size {
	w, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return Size{}
	}
	return Size{w.Row, w.Col, w.Xpixel, w.Ypixel}
}

// Set gives it to a terminal.
func (z Size) Set(fd int) error {
	return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: z.Rows, Col: z.Cols, Xpixel: z.X, Ypixel: z.Y})
}

// Attach shows what is at the other end of conn, and passes on what is typed, until
// one of them ends. When ctx ends it detaches. In every case the terminal is as it was.
func (t *Terminal) Attach(ctx context.Context, conn *net.UnixConn) (how How, err error) {
	defer conn.Close()
	if err := t.begin(); err != nil {
		return Ended, err
	}
	bye := []byte(bottom)
	defer func() { err = errors.Join(err, t.end(bye)) }()
	out := &sender{conn: conn}
	if err := out.send(attach, t.Size().encode()); err != nil {
		return Ended, nil // it has ended since
	}
	stop, err := t.follow(ctx, out)
	if err != nil {
		return Ended, err
	}
	defer stop()
	r := bufio.NewReader(conn)
	for {
		kind, b, err := receive(r)
		if err != nil {
			return out.how(), nil
		}
		switch kind {
		case paint:
			b = t.emptied()
		case goodbye:
			bye = b
			return out.how(), nil
		case elsewhere:
			return Elsewhere, nil
		}
		if _, err := t.out.Write(b); err != nil {
			return Detached, nil // the terminal is gone
		}
	}
}

// sender sends for several.
type sender struct {
	conn     *net.UnixConn
	mu       sync.Mutex
	detached bool
}

func (s *sender) send(kind byte, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return send(s.conn, kind, b)
}

// detachPatience is how long the server may take to let go: it may wait for a program
// to read what was typed.
const detachPatience = time.Second

func (s *sender) detach() {
	_ = s.conn.SetDeadline(time.Now().Add(detachPatience)) // for who is sending, too
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detached = true
	_ = send(s.conn, detach, nil)
}

// how is Detached, if that was asked for, else Ended.
func (s *sender) how() How {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.detached {
		return Detached
	}
	return Ended
}

// begin makes the terminal pass on every key, and has it guarded.
func (t *Terminal) begin() (err error) {
	if t.guard, err = startGuard(t.out); err != nil {
		return err
	}
	before, err := unix.IoctlGetTermios(int(t.in.Fd()), unix.TCGETS)
	if err == nil {
		t.attributes = attributes{*before, raw(*before)}
		err = t.guard.tell(t.attributes)
	}
	if err == nil {
		err = unix.IoctlSetTermios(int(t.in.Fd()), unix.TCSETS, &t.While)
	}
	if err == nil {
		_, err = t.out.WriteString(remember)
	}
	if err != nil {
		t.guard.dismiss()
		return fmt.Errorf("take the terminal: %w", err)
	}
	return nil
}

// raw are attributes under which every key is passed on as it is (cfmakeraw(3)). The
// guard has to know them before they are set.
func raw(t unix.Termios) unix.Termios {
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag &^= unix.CSIZE | unix.PARENB
	t.Cflag |= unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return t
}

// end gives the terminal back.
func (t *Terminal) end(bye []byte) error {
	_, _ = t.out.WriteString(Clean + forget + string(bye)) // it may be gone
	err := unix.IoctlSetTermios(int(t.in.Fd()), unix.TCSETS, &t.Before)
	t.guard.dismiss()
	if err != nil && !errors.Is(err, unix.EIO) {
		return fmt.Errorf("give back the terminal: %w", err)
	}
	return nil
}

// emptied moves what there is away to the top, and leaves an empty screen.
func (t *Terminal) emptied() []byte {
	rows := max(int(t.Size().Rows), 1)
	return fmt.Appendf(nil, "%s\x1b[%d;1H%s\x1b[H\x1b[2J", Clean, rows, strings.Repeat("\n", rows))
}

// follow passes on what is typed and the window's size, until stop.
func (t *Terminal) follow(ctx context.Context, out *sender) (stop func(), err error) {
	ended, end, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	var all sync.WaitGroup
	sizes := make(chan os.Signal, 1)
	signal.Notify(sizes, unix.SIGWINCH)
	// It would stop, and leave the terminal to the shell as it is.
	suspended := make(chan os.Signal, 1)
	signal.Notify(suspended, unix.SIGTSTP)
	all.Go(func() { t.typed(ended, out) })
	all.Go(func() {
		for range sizes {
			_ = out.send(resize, t.Size().encode())
		}
	})
	_ = out.send(resize, t.Size().encode()) // it may have changed before
	over := context.AfterFunc(ctx, out.detach)
	return func() {
		over()
		signal.Stop(sizes)
		signal.Stop(suspended)
		close(sizes)
		_ = end.Close()
		all.Wait()
		_ = ended.Close()
	}, nil
}

// typed passes on what is typed, until the other end of ended is closed: it takes no
// key from who reads the terminal next.
func (t *Terminal) typed(ended *os.File, out *sender) {
	ps := []unix.PollFd{{Fd: int32(ended.Fd())}, {Fd: int32(t.in.Fd()), Events: unix.POLLIN}}
	var k keys
	b := make([]byte, 4096)
	for {
		if _, err := unix.Poll(ps, -1); err != nil && err != unix.EINTR {
			return
		}
		if ps[0].Revents != 0 {
			return
		}
		if ps[1].Revents == 0 {
			continue
		}
		n, err := unix.Read(int(t.in.Fd()), b)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		pass, detached := k.typed(b[:max(n, 0)])
		if len(pass) > 0 {
			_ = out.send(input, bytes.Clone(pass))
		}
		if detached || n <= 0 {
			out.detach()
			return
		}
	}
}
