package hold_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/hold"
)

// inNetwork runs the rest of a test in a network of its own, on a thread that
// ends with it.
func inNetwork(t *testing.T, f func(t *testing.T)) {
	if os.Geteuid() != 0 {
		t.Skip("only root makes a network without entering a user namespace before")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread is no good for others
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("a network of its own: %v", err)
			return
		}
		if err := up(); err != nil {
			t.Error(err)
			return
		}
		f(t)
	}()
	<-done
}

// up switches the loopback interface on.
func up() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}

// pair is a connection; conn is as a shows it.
func pair(t *testing.T, network, addr string) (a, b *os.File, conn hold.Conn, listener net.Listener) {
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Error(err)
		runtime.Goexit()
	}
	t.Cleanup(func() { l.Close() })
	x, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Error(err)
		runtime.Goexit()
	}
	y, err := l.Accept()
	if err != nil {
		t.Error(err)
		runtime.Goexit()
	}
	ap := func(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }
	conn = hold.Conn{Local: ap(y.LocalAddr()), Peer: ap(y.RemoteAddr())}
	file := func(c net.Conn) *os.File {
		f, err := c.(*net.TCPConn).File()
		if err != nil {
			t.Error(err)
		}
		c.Close()
		unix.SetNonblock(int(f.Fd()), false)
		t.Cleanup(func() { f.Close() })
		return f
	}
	return file(y), file(x), conn, l
}

// passes tells whether a byte comes through, in time.
func passes(t *testing.T, from, to *os.File) bool {
	t.Helper()
	if _, err := from.Write([]byte("x")); err != nil {
		t.Errorf("send: %v", err)
	}
	p := []unix.PollFd{{Fd: int32(to.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 300)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Poll(p, 300)
	}
	if n == 0 {
		return false
	}
	_, err = to.Read(make([]byte, 1))
	if err != nil {
		t.Errorf("receive: %v", err)
	}
	return err == nil
}

func repair(t *testing.T, f *os.File) {
	if err := unix.SetsockoptInt(int(f.Fd()), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1); err != nil {
		t.Error(err)
	}
}

func silent(t *testing.T, f *os.File) {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN | unix.POLLRDHUP}}
	if n, _ := unix.Poll(p, 300); n != 0 {
		_, err := f.Read(make([]byte, 1))
		t.Errorf("it heard of the other end's close: events %#x, %v", p[0].Revents, err)
	}
}

var places = map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}

func TestHold(t *testing.T) {
	for network, addr := range places {
		t.Run(network, func(t *testing.T) {
			inNetwork(t, func(t *testing.T) {
				a, b, conn, _ := pair(t, network, addr)
				c, d, _, _ := pair(t, network, addr)
				h, err := hold.New()
				if err == nil {
					err = h.Add(conn)
				}
				if err != nil {
					t.Error(err)
					return
				}
				if passes(t, a, b) || passes(t, b, a) {
					t.Error("packets pass")
				}
				if !passes(t, c, d) || !passes(t, d, c) {
					t.Error("another connection is held, too")
				}
				if err := h.Close(); err != nil {
					t.Error(err)
				}
				for _, f := range []*os.File{a, b} { // what was sent meanwhile is sent again
					f.SetDeadline(time.Now().Add(10 * time.Second))
					if _, err := io.ReadFull(f, make([]byte, 1)); err != nil {
						t.Errorf("after the hold: %v", err)
					}
				}
			})
		})
	}
}

func TestLeave(t *testing.T) {
	for network, addr := range places {
		t.Run(network, func(t *testing.T) {
			inNetwork(t, func(t *testing.T) {
				a, b, conn, l := pair(t, network, addr)
				c, d, other, _ := pair(t, network, addr)
				for _, want := range []bool{true, false} {
					if fresh, err := hold.Leave("ckpt-test", []hold.Conn{conn, other}); err != nil || fresh != want {
						t.Errorf("fresh: %v, want %v (%v)", fresh, want, err)
						return
					}
				}
				if !passes(t, a, b) || !passes(t, b, a) {
					t.Error("a connection of a socket is held")
				}
				if err := unix.SetsockoptInt(int(c.Fd()), unix.SOL_SOCKET, unix.SO_MARK, hold.Mark); err != nil {
					t.Error(err)
				}
				if passes(t, c, d) || passes(t, d, c) {
					t.Error("a connection of a marked socket is not held")
				}
				repair(t, a)
				a.Close()
				// First somebody listens there, then nobody.
				for range 2 {
					if _, err := b.Write([]byte("anybody there?")); err != nil {
						t.Error(err)
					}
					silent(t, b)
					l.Close()
				}
				for range 2 {
					if err := hold.Lift("ckpt-test"); err != nil {
						t.Error(err)
					}
				}
				b.SetDeadline(time.Now().Add(10 * time.Second))
				if _, err := b.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
					t.Errorf("after the table is lifted: %v", err)
				}
			})
		})
	}
}
