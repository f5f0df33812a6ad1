package outside

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"

	"ckpt/e2e/harness"
)

// peer is the other end of a connection of e2e/program/outside.py.
type peer struct {
	t *testing.T
	*net.TCPConn
	r *bufio.Reader
}

// patience is for what comes at once, or when TCP has sent it again.
const patience = 60 * time.Second

func newPeer(t *testing.T, c net.Conn) *peer {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(5*time.Minute)))
	return &peer{t, c.(*net.TCPConn), bufio.NewReader(c)}
}

func (p *peer) say(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p, text); err != nil {
		p.t.Fatalf("say %q: %v", text, err)
	}
}

// hear expects a line.
func (p *peer) hear(want string) {
	p.t.Helper()
	must(p.t, p.SetReadDeadline(time.Now().Add(patience)))
	got, err := p.r.ReadString('\n')
	if err != nil || got != want+"\n" {
		p.t.Fatalf("heard %q, want %q (%v)", got, want, err)
	}
}

// heard tells whether anything can be heard.
func (p *peer) heard() bool {
	p.t.Helper()
	must(p.t, p.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err := p.r.Peek(1)
	return err == nil
}

func (p *peer) ask(line, want string) {
	p.t.Helper()
	p.say(line + "\n")
	p.hear(want)
}

// hearEnd expects the end of what the program sends.
func (p *peer) hearEnd() {
	p.t.Helper()
	must(p.t, p.SetReadDeadline(time.Now().Add(patience)))
	if b, err := p.r.ReadByte(); !errors.Is(err, io.EOF) {
		p.t.Fatalf("heard %q (%v), want the end", b, err)
	}
}

// pattern is that of the program.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(65 + (i*7+i/251)%26)
	}
	return b
}

// subject is what the two sorts of processes that a test can save have in common.
type subject interface {
	Log() string
	Alive() error
}

// meet begins the program by start, which accepts the test's connection or makes
// one to it, and gives the other end.
func meet[S subject](t *testing.T, at place, how string, start func(args ...string) S) (S, *peer, *watch) {
	t.Helper()
	var s S
	var conn net.Conn
	var w *watch
	if how == "listen" {
		port := harness.Port(t)
		w = at.listenTo(t, uint16(port))
		s = start(how, at.here.String(), strconv.Itoa(port))
		harness.Says(t, s, "ready")
		at.do(t, func() (err error) {
			conn, err = net.Dial("tcp", netip.AddrPortFrom(at.here, uint16(port)).String())
			return err
		})
		return s, newPeer(t, conn), w
	}
	var l net.Listener
	at.do(t, func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(at.there, 0).String())
		return err
	})
	defer l.Close()
	s = start(how, at.there.String(), strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	conn, err := l.Accept()
	must(t, err)
	harness.Says(t, s, "ready")
	w = at.listenTo(t, conn.RemoteAddr().(*net.TCPAddr).AddrPort().Port())
	return s, newPeer(t, conn), w
}

// program is e2e/program/outside.py in a container, whose name no other has that
// a test may run at the same time.
func program(e *harness.Env, flags ...string) func(args ...string) *harness.Container {
	return func(args ...string) *harness.Container {
		e.T.Helper()
		return e.Start(name(e), flags, append([]string{harness.Tool(e.T, "python3", "/usr/bin"), harness.Program(e.T, "outside.py")}, args...)...)
	}
}

func name(e *harness.Env) string { return strings.TrimPrefix(filepath.Base(e.Dir), "ckpt-") }

// tables are the nftables tables of ckpt's for containers of that name.
func tables(t testing.TB, name string) (out []string) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range all {
		if strings.HasPrefix(table.Name, "ckpt-"+name+"-") {
			out = append(out, table.Name)
		}
	}
	return out
}

// noTables sees that none is left.
func noTables(t testing.TB, name string) {
	t.Helper()
	if left := tables(t, name); len(left) > 0 {
		t.Errorf("nftables tables are left: %v", left)
	}
}
