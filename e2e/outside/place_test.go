package outside

import (
	"errors"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// TestExternalOtherNetwork: a file is found from any network, a container's own, too.
func TestExternalOtherNetwork(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			at, image := e.Join("at"), e.Join("image")
			s := serve(t, "unix", at)
			c := e.Start(name(e), []string{"--net", "none"}, harness.Program(t, "caller.c"), "connect", "unix", at)
			c.Says("ready")
			for _, args := range [][]string{{"check", c.Name}, {"dump", c.Name, image}} {
				refused(t, e, args, "it waits to be accepted on "+at, "--external unix:"+at)
			}
			s.accept()
			for _, args := range [][]string{{"check", c.Name}, {"dump", c.Name, image}} {
				refused(t, e, args, "peer "+at+" is outside the container", "--external unix:"+at)
			}
			e.Run("check", c.Name, "--external", "unix:"+at)
			c.Dump(image, "--external", "unix:"+at)
			e.Run("check", image)
			e.Restore(image, "")
			s.accept()
			saying(c, "USR1", "told 1")
			s.hears("1:  1", "")
		})
	}
}

// TestExternalInner: of a process in namespaces made inside, a user namespace among
// them (e2e/program/inner.c).
func TestExternalInner(t *testing.T) {
	for _, network := range []string{"unix", "unixgram"} {
		for _, user := range harness.Users() {
			t.Run(network+"/as "+user, func(t *testing.T) {
				e := harness.New(t, user)
				at, image := e.Join("at"), e.Join("image")
				s := serve(t, network, at)
				c := e.Start(name(e), nil, harness.Program(t, "inner.c"), "tpio", harness.Program(t, "caller.c"), "connect", network, at)
				c.Says("ready")
				s.accept()
				c.Dump(image, "--external", "unix:"+at)
				s.hearsEnd()
				e.Restore(image, "")
				s.accept()
				saying(c, "USR1", "told 1")
				s.hears("1:  1", "")
			})
		}
	}
}

// TestExternalElse: who has the name at the restore is not who can be connected to.
func TestExternalElse(t *testing.T) {
	for _, c := range []struct {
		what, network string
		meet          func(t *testing.T, at string)
		says, hint    string
		unseen        bool // by a check of the image
	}{
		{what: "another type", network: "unix", meet: func(t *testing.T, at string) { serve(t, "unixgram", at) },
			says: "who listens there has a socket of another type", hint: "start the program that listens there first"},
		{what: "another type of datagrams", network: "unixgram", meet: func(t *testing.T, at string) { serve(t, "unix", at) },
			says: "who listens there has a socket of another type", hint: "start the program that listens there first"},
		{what: "full", network: "unix", meet: fill,
			says: "who listens there takes no more connections", hint: "try again when that program has accepted some", unseen: true},
		{what: "taken", network: "unixgram", meet: tie,
			says: "takes messages of another one only", hint: "restart the program that has it"},
	} {
		t.Run(c.what, func(t *testing.T) {
			e := harness.New(t, "")
			at, image := e.Join("at"), e.Join("image")
			s := serve(t, c.network, at)
			p := caller(e, c.network, at)
			s.accept()
			p.Dump(image, "--external", "unix:"+at)
			s.end()
			must(t, os.Remove(at))
			c.meet(t, at)
			if c.unseen {
				e.Run("check", image)
			} else {
				refused(t, e, []string{"check", image}, c.says, c.hint)
			}
			refused(t, e, []string{"restore", image}, c.says, c.hint)
			nothingLeft(p)
		})
	}
}

// fill makes a listener there whose queue is full.
func fill(t *testing.T, at string) {
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(l) })
	must(t, errors.Join(unix.Bind(l, &unix.SockaddrUnix{Name: at}), unix.Listen(l, 0)))
	waits, err := net.Dial("unix", at)
	must(t, err)
	t.Cleanup(func() { waits.Close() })
}

// tie makes a datagram socket there that is connected to another.
func tie(t *testing.T, at string) {
	other := at + "-other"
	serve(t, "unixgram", other)
	c, err := net.DialUnix("unixgram", &net.UnixAddr{Name: at, Net: "unixgram"}, &net.UnixAddr{Name: other, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { c.Close() })
}
