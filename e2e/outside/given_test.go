package outside

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// given is a descriptor that a program has got from outside, where it is held, or
// its other end is.
type given struct {
	what string
	// make gives the program's, and those that the test keeps.
	make func(t *testing.T, e *harness.Env) (give *os.File, keep []*os.File)
	// says is why it is refused; "": it is kept, since the kernel shows nobody
	// that another has it, too: the program gets one of its own.
	says, hint string
}

var givens = []given{
	{"the read end of a pipe", pipeEnd(0), "it reads from a pipe whose other end is held outside the container", "start the program at its other end inside the container too"},
	{"the write end of a pipe", pipeEnd(1), "it writes into a pipe whose other end is held outside the container", "start the container with the pipe replaced by a file"},
	{"the read end of a FIFO", fifoEnd(os.O_RDONLY), "a program outside the container writes into the FIFO", "end that program, or dump when it has closed the FIFO"},
	{"the write end of a FIFO", fifoEnd(os.O_WRONLY), "a program outside the container reads from the FIFO", "end that program, or dump when it has closed the FIFO"},
	{"an end of a stream", pairEnd(unix.SOCK_STREAM), "unix socket: peer (unnamed) is outside the container", "close the connection before the dump"},
	{"an end of datagrams", pairEnd(unix.SOCK_DGRAM), "unix socket: peer (unnamed) is outside the container", "close the connection before the dump"},
	{"an end of packets", pairEnd(unix.SOCK_SEQPACKET), "unix socket: peer (unnamed) is outside the container", "close the connection before the dump"},
	{"a terminal's slave", terminalEnd(true), "is run by a program outside the container", "under script(1) inside the container"},
	{"a terminal's master", terminalEnd(false), "the master of a terminal that was opened outside the container", "close it before the dump"},
	{"an eventfd", eventfd, "", ""},
}

func pipeEnd(n int) func(*testing.T, *harness.Env) (*os.File, []*os.File) {
	return func(t *testing.T, _ *harness.Env) (*os.File, []*os.File) {
		r, w, err := os.Pipe()
		must(t, err)
		ends := []*os.File{r, w}
		return ends[n], []*os.File{ends[1-n]}
	}
}

func fifoEnd(flags int) func(*testing.T, *harness.Env) (*os.File, []*os.File) {
	return func(t *testing.T, e *harness.Env) (*os.File, []*os.File) {
		path := e.Join("fifo")
		must(t, errors.Join(unix.Mkfifo(path, 0o666), os.Chmod(path, 0o666)))
		both, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		defer both.Close()
		mine, err := os.OpenFile(path, os.O_RDONLY+os.O_WRONLY-flags, 0)
		must(t, err)
		its, err := os.OpenFile(path, flags, 0)
		must(t, err)
		return its, []*os.File{mine}
	}
}

func pairEnd(typ int) func(*testing.T, *harness.Env) (*os.File, []*os.File) {
	return func(t *testing.T, _ *harness.Env) (*os.File, []*os.File) {
		p, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		return os.NewFile(uintptr(p[0]), "its"), []*os.File{os.NewFile(uintptr(p[1]), "mine")}
	}
}

func terminalEnd(slave bool) func(*testing.T, *harness.Env) (*os.File, []*os.File) {
	return func(t *testing.T, _ *harness.Env) (*os.File, []*os.File) {
		m, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
		must(t, err)
		must(t, unix.IoctlSetPointerInt(int(m.Fd()), unix.TIOCSPTLCK, 0))
		n, err := unix.IoctlGetInt(int(m.Fd()), unix.TIOCGPTN)
		must(t, err)
		s, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
		must(t, err)
		if slave {
			return s, []*os.File{m}
		}
		return m, []*os.File{s}
	}
}

func eventfd(t *testing.T, _ *harness.Env) (*os.File, []*os.File) {
	n, err := unix.Eventfd(5, unix.EFD_CLOEXEC)
	must(t, err)
	other, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	return os.NewFile(uintptr(n), "its"), []*os.File{os.NewFile(uintptr(other), "mine")}
}

// TestGiven: what a program has in common with somebody outside by having been
// given a descriptor (SCM_RIGHTS) is refused, where that can be told.
func TestGiven(t *testing.T) {
	for _, g := range givens {
		for _, user := range harness.Users() {
			t.Run(g.what+"/as "+user, func(t *testing.T) {
				e := harness.New(t, user)
				give, keep := g.make(t, e)
				for _, f := range keep {
					defer f.Close()
				}
				e.Give(give)
				s := e.Watch(name(e), nil, harness.Program(t, "boundary/edges.c"), "given")
				if g.says == "" {
					s.Generation()
					s.Look()
					b := make([]byte, 8)
					if _, err := keep[0].Read(b); err != nil || binary.NativeEndian.Uint64(b) != 5 {
						t.Errorf("the test's own has %v (%v)", b, err)
					}
				} else {
					for _, args := range [][]string{{"check", s.Name}, {"dump", s.Name, e.Join("image")}, {"dump", s.Name, e.Join("image"), "--leave-running"}} {
						r := e.Try(args...)
						if r.Code != 3 || !strings.Contains(r.Out+r.Err, g.says) || !strings.Contains(r.Out+r.Err, g.hint) {
							t.Errorf("want exit code 3, %q and %q: %v", g.says, g.hint, r)
						}
						// Only root sees who of another user's has what.
						if by := fmt.Sprintf("outside the container, by host pid %d (outside.test)", os.Getpid()); strings.Contains(g.what, "pipe") && e.Root() && !strings.Contains(r.Out+r.Err, by) {
							t.Errorf("%q is not told: %v", by, r)
						}
					}
					s.Look()
				}
				s.Finish()
			})
		}
	}
}
