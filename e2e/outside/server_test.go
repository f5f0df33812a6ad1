package outside

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// server is the other end of e2e/program/caller.c: a unix socket of the test's.
type server struct {
	t        *testing.T
	network  string
	listener *net.UnixListener
	conn     *net.UnixConn // the newest connection; the socket of datagrams
}

// serve makes the server of that name.
func serve(t *testing.T, network, name string) *server {
	t.Helper()
	s := &server{t: t, network: network}
	var err error
	if a := (&net.UnixAddr{Name: name, Net: network}); network == "unixgram" {
		s.conn, err = net.ListenUnixgram(network, a)
	} else {
		s.listener, err = net.ListenUnix(network, a)
	}
	must(t, err)
	t.Cleanup(s.end)
	if name[0] != '@' {
		must(t, os.Chmod(name, 0o777))
	}
	return s
}

// end leaves the name, if it is a file, to nobody.
func (s *server) end() {
	if s.listener != nil {
		s.listener.SetUnlinkOnClose(false)
		s.listener.Close()
	}
	if s.conn != nil {
		s.conn.Close()
	}
}

func (s *server) accept() {
	s.t.Helper()
	if s.listener == nil {
		return
	}
	must(s.t, s.listener.SetDeadline(time.Now().Add(patience)))
	var err error
	s.conn, err = s.listener.AcceptUnix()
	must(s.t, err)
	s.t.Cleanup(func() { s.conn.Close() })
}

// hears expects a message, and that it comes from a socket of that name.
func (s *server) hears(want, from string) {
	s.t.Helper()
	must(s.t, s.conn.SetReadDeadline(time.Now().Add(patience)))
	b := make([]byte, 256)
	n, at, err := s.conn.ReadFromUnix(b)
	if s.network == "unix" {
		at, _ = s.conn.RemoteAddr().(*net.UnixAddr)
	}
	name := ""
	if at != nil && at.Name != "@" { // as Go calls one without a name
		name = at.Name
	}
	if got := string(b[:n]); err != nil || got != want+"\n" || s.network != "unixpacket" && name != from {
		s.t.Fatalf("it hears %q from %q, want %q from %q (%v)", got, name, want, from, err)
	}
}

// hearsEnd expects the end of the connection.
func (s *server) hearsEnd() {
	s.t.Helper()
	if s.listener == nil {
		return
	}
	must(s.t, s.conn.SetReadDeadline(time.Now().Add(patience)))
	if n, err := s.conn.Read(make([]byte, 1)); n != 0 || err != nil && !errors.Is(err, io.EOF) {
		s.t.Fatalf("it reads %d bytes (%v), want the end", n, err)
	}
}

// knows expects that the kernel says who has connected (SO_PEERCRED).
func (s *server) knows(c *harness.Container) {
	s.t.Helper()
	if s.listener == nil {
		return
	}
	raw, err := s.conn.SyscallConn()
	must(s.t, err)
	var who *unix.Ucred
	must(s.t, raw.Control(func(fd uintptr) { who, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }))
	must(s.t, err)
	if pid := c.Ps().Processes[0].PID; int(who.Pid) != pid || int(who.Uid) != c.Env.UID {
		s.t.Errorf("its client is pid %d of user %d, want %d of %d", who.Pid, who.Uid, pid, c.Env.UID)
	}
}

func write(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}
