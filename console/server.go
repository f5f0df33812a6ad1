package console

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/kernel"
)

// Server has the master of a terminal. It reads what the programs write, whether
// somebody looks or not, and gives it to the client that is attached.
type Server struct {
	master *os.File
	fd     int // master's: os.File.Fd would make it block
	log    io.Writer
	screen *Screen
	typing *typing

	mu      sync.Mutex
	changed *sync.Cond // of what follows
	client  *client    // nil: nobody is attached
	holds   int        // of connections that want nothing to move
	parked  bool       // the pump has seen that
	closed  bool
	conns   map[*net.UnixConn]bool
	// expected: a client has yet to say so, who was there before the terminal.
	expected *net.UnixConn
}

// Serve begins to serve master, which must not block (O_NONBLOCK) and shows
// screen. What is read goes to log, too.
func Serve(master *os.File, screen *Screen, log io.Writer) (*Server, error) {
	s := &Server{master: master, log: log, screen: screen, typing: newTyping(), conns: map[*net.UnixConn]bool{}}
	s.changed = sync.NewCond(&s.mu)
	raw, err := master.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { s.fd = int(fd) })
	}
	if err == nil {
		err = master.SetReadDeadline(time.Time{})
	}
	if err != nil {
		return nil, fmt.Errorf("read the container's terminal: %w", err)
	}
	go s.pump(func(b []byte) (n int, err error) {
		errRead := raw.Read(func(fd uintptr) bool {
			n, err = readSome(int(fd), b)
			// EIO: no program has the terminal open; one may again.
			return n > 0 || err != nil && err != unix.EAGAIN && err != unix.EIO && err != unix.EINTR
		})
		return n, errors.Join(errRead, err)
	})
	s.screen.Answers(s.typing.answer)
	go s.typist(raw)
	return s, nil
}

// readSome reads what there is: one read gives no more than a page of it.
func readSome(fd int, b []byte) (n int, err error) {
	for n < len(b) {
		got, err := unix.Read(fd, b[n:])
		if got <= 0 {
			if n > 0 {
				return n, nil
			}
			return 0, err
		}
		n += got
	}
	return n, nil
}

// Accept serves all that connect to l, until it is closed.
func (s *Server) Accept(l *net.UnixListener) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		go s.Connect(c)
	}
}

// Expect serves the connection of a client who was there before the terminal: it is
// shown all, also if the container ends before it has said a word.
func (s *Server) Expect(conn *net.UnixConn) {
	s.mu.Lock()
	s.expected = conn
	s.conns[conn] = true
	s.mu.Unlock()
	go s.Connect(conn)
}

// pump passes on what programs write.
func (s *Server) pump(read func([]byte) (int, error)) {
	b := make([]byte, mostFrame)
	for {
		n, err := read(b)
		s.mu.Lock()
		if n > 0 && err == nil {
			s.take(b[:n])
			if c := s.client; c != nil && len(c.buf) > mostWaiting {
				c.throttle()
			}
		}
		for s.holds > 0 && !s.closed {
			s.parked = true
			s.changed.Broadcast()
			s.changed.Wait()
		}
		s.parked = false
		closed := s.closed
		s.mu.Unlock()
		if closed || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

// take notes what was read. It is called with s locked.
func (s *Server) take(b []byte) {
	_, _ = s.log.Write(b) // a disk that is full must not stop the programs
	s.screen.Write(b)
	if s.client != nil {
		s.client.put(b)
	}
}

// typist gives programs what was typed.
func (s *Server) typist(raw syscall.RawConn) {
	for {
		b := s.typing.next()
		if b == nil {
			return
		}
		for len(b) > 0 {
			n, err := s.write(b)
			b = b[max(n, 0):]
			if err == unix.EAGAIN && waitWritable(raw) == nil || err == nil || err == unix.EINTR {
				continue
			}
			if err != unix.EIO { // else nobody has it open, and all is lost that is typed
				return
			}
			b = nil
		}
	}
}

// write writes as much as programs take now.
func (s *Server) write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.holds > 0 && !s.closed {
		s.changed.Wait()
	}
	if s.closed {
		return 0, os.ErrClosed
	}
	return unix.Write(s.fd, b)
}

// waitWritable waits until a program has read something of what was typed.
func waitWritable(raw syscall.RawConn) error {
	asked := false
	return raw.Write(func(uintptr) bool {
		before := asked
		asked = true
		return before
	})
}

// resize gives the terminal another size. It is called with s locked.
func (s *Server) resize(z Size) {
	for s.holds > 0 && !s.closed {
		s.changed.Wait()
	}
	if s.closed {
		return
	}
	s.screen.Resize(z)
	_ = z.Set(s.fd)
}

// Connect serves one connection until it ends.
func (s *Server) Connect(conn *net.UnixConn) {
	defer conn.Close()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.conns[conn] = true
	s.mu.Unlock()
	c := &connection{s: s, conn: conn}
	defer c.end()
	for {
		kind, b, err := receive(conn)
		if err != nil {
			return
		}
		if err := c.handle(kind, b); err != nil {
			return
		}
	}
}

// connection is what a peer has asked for.
type connection struct {
	s     *Server
	conn  *net.UnixConn
	as    *client
	holds bool
}

func (c *connection) handle(kind byte, b []byte) error {
	switch kind {
	case attach, resize:
		z, err := decodeSize(b)
		if err != nil {
			return err
		}
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		if kind == attach {
			c.attach()
			c.s.met(c.conn)
		}
		if c.s.client == c.as {
			c.s.resize(z)
		}
	case input:
		if c.as != nil {
			c.s.typing.typed(b)
		}
	case detach:
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		if c.as != nil {
			c.as.end(goodbye, c.s.screen.leave())
		}
	case lend:
		return c.lend()
	case hold:
		return c.hold()
	case release:
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		c.release()
	default:
		return fmt.Errorf("message %q", kind)
	}
	return nil
}

// attach makes it the client, in the place of another.
func (c *connection) attach() {
	if old := c.s.client; old != nil && old != c.as {
		old.end(elsewhere, nil)
	}
	if c.as == nil {
		c.as = newClient(c.s, c.conn)
	}
	c.s.client = c.as
	c.s.typing.attached.Store(true)
	c.as.stale = true
	c.s.changed.Broadcast()
}

// met: nobody has to wait for the client any more. It is called with s locked.
func (s *Server) met(conn *net.UnixConn) {
	if s.expected == conn {
		s.expected = nil
	}
	s.changed.Broadcast()
}

// lend hands over the master.
func (c *connection) lend() error {
	_, _, err := c.conn.WriteMsgUnix([]byte{lend}, unix.UnixRights(c.s.fd), nil)
	return err
}

// hold stops all until the connection ends, takes in what programs have written,
// and tells what is shown then.
func (c *connection) hold() error {
	s := c.s
	s.mu.Lock()
	if !c.holds {
		c.holds = true
		s.holds++
	}
	_ = s.master.SetReadDeadline(time.Unix(1, 0))
	for !s.parked && !s.closed {
		s.changed.Wait()
	}
	err := s.drain()
	shows := s.screen.Paint()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if err := send(c.conn, output, shows); err != nil {
		return err
	}
	return send(c.conn, hold, nil)
}

// release ends hold. It is called with the server locked.
func (c *connection) release() {
	if !c.holds {
		return
	}
	c.holds = false
	if c.s.holds--; c.s.holds == 0 && !c.s.closed {
		_ = c.s.master.SetReadDeadline(time.Time{})
	}
	c.s.changed.Broadcast()
}

// drain takes in what is there to be read. It is called with s locked.
func (s *Server) drain() error {
	b := make([]byte, 32<<10)
	for {
		// poll(2) brings along what a worker of the kernel has yet to hand over
		// (n_tty_poll() of its n_tty.c).
		if _, err := kernel.Poll(uintptr(s.fd), unix.POLLIN); err != nil {
			return err
		}
		n, err := unix.Read(s.fd, b)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return nil // EAGAIN, or EIO: nothing is left
		}
		s.take(b[:n])
	}
}

// end undoes what the peer has asked for.
func (c *connection) end() {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	c.release()
	if c.as != nil && s.client == c.as {
		s.client = nil
		s.typing.attached.Store(false)
	}
	if c.as != nil {
		c.as.ended = true
	}
	delete(s.conns, c.conn)
	s.met(c.conn)
	s.changed.Broadcast()
}

// lastPatience is how long a client may take to be told of the end: it may have been
// stopped.
const lastPatience = 10 * time.Second

// Abandon is Close for a container that is not to be: nobody is waited for.
func (s *Server) Abandon() {
	s.mu.Lock()
	s.expected = nil
	s.mu.Unlock()
	s.Close()
}

// Close passes on what programs have written last, and ends all connections, when
// the container has ended.
func (s *Server) Close() {
	s.mu.Lock()
	_ = s.drain()
	late := time.AfterFunc(lastPatience, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			_ = c.Close()
		}
	})
	for s.expected != nil {
		s.changed.Wait()
	}
	s.closed = true
	if s.client != nil {
		s.client.end(goodbye, s.screen.leave())
	}
	_ = s.master.SetReadDeadline(time.Unix(1, 0))
	_ = s.master.SetWriteDeadline(time.Unix(1, 0))
	for c := range s.conns {
		if s.client == nil || s.client.conn != c {
			_ = c.Close()
		}
	}
	s.changed.Broadcast()
	for len(s.conns) > 0 {
		s.changed.Wait()
	}
	s.mu.Unlock()
	late.Stop()
	s.typing.close()
	s.screen.Close()
	_ = s.master.Close()
}
