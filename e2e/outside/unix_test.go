package outside

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// caller starts the program, which connects to s.
func caller(e *harness.Env, network, to string, own ...string) *harness.Container {
	e.T.Helper()
	c := e.Start(name(e), nil, append([]string{harness.Program(e.T, "caller.c"), "connect", network, to}, own...)...)
	c.Says("ready")
	return c
}

// saying has the program do what a signal tells it to, and say a line.
func saying(c *harness.Container, signal, line string) {
	c.Env.T.Helper()
	c.Kill(signal)
	c.Says(line)
}

// nothingLeft expects that a container is no more than an image.
func nothingLeft(c *harness.Container) {
	c.Env.T.Helper()
	if ps := c.Ps(); ps.State != "dumped" || len(ps.Processes) > 0 {
		c.Env.T.Errorf("it is %s, with processes %v", ps.State, ps.Processes)
	}
}

// TestExternal: a socket that is connected to one outside is connected anew by a
// restore, if the user lets it, to whoever has the name then.
func TestExternal(t *testing.T) {
	for _, network := range []string{"unix", "unixpacket", "unixgram"} {
		for _, kind := range []string{"a file", "abstract"} {
			for _, user := range harness.Users() {
				t.Run(network+"/"+kind+"/as "+user, func(t *testing.T) {
					t.Parallel()
					e := harness.New(t, user)
					at, own, image := e.Join("at"), e.Join("own"), e.Join("image")
					if kind == "abstract" {
						at, own = "@at-"+name(e), "@own-"+name(e)
					}
					external := []string{"--external", "unix:" + at}
					s := serve(t, network, at)
					c := caller(e, network, at, own)
					s.accept()
					saying(c, "USR1", "told 1")
					s.hears("1: "+own+" 1", own)

					says := []string{"pid 2 (caller): fd 3: unix socket: peer " + at + " is outside the container", "--external unix:" + at}
					refused(t, e, []string{"check", c.Name}, says...)
					refused(t, e, []string{"dump", c.Name, image}, says...)
					e.Run(append([]string{"check", c.Name}, external...)...)
					for _, args := range [][]string{{"check", c.Name}, {"dump", c.Name, image}} {
						if r := e.Try(append(args, "--external", "unix:"+at, "--external", "unix:/none")...); r.Code != 2 || !strings.Contains(r.Err, "--external unix:/none: nothing of "+c.Name+" is connected to that") {
							t.Errorf("want exit code 2, and the name that is none: %v", r)
						}
					}
					if s.listener != nil {
						must(t, write(s.conn, "early"))
						says := []string{"5 bytes from " + at + ", outside the container, wait to be read, and nobody can send them again", "try again once the program has read them"}
						refused(t, e, append([]string{"check", c.Name}, external...), says...)
						refused(t, e, append([]string{"dump", c.Name, image}, external...), says...)
						saying(c, "USR2", "heard early")
					}

					c.Dump(e.Join("left"), append(external, "--leave-running")...)
					saying(c, "USR1", "told 2")
					s.hears("2: "+own+" 1", own)

					if s.listener == nil { // that its name is there, too
						_, err := s.conn.WriteToUnix([]byte("waits"), &net.UnixAddr{Name: own, Net: network})
						must(t, err)
						if kind == "abstract" { // and whoever sends it again would need the server's
							refused(t, e, append([]string{"dump", c.Name, image}, external...), "5 bytes from "+at+", outside the container, wait to be read")
							saying(c, "USR2", "heard waits")
						}
					}
					c.Dump(image, external...)
					s.hearsEnd()
					s.end()
					for _, args := range [][]string{{"check", image}, {"restore", image}} {
						refused(t, e, args, "connect to "+at+", outside the container: nobody listens there", "start the program that listens there first")
					}
					nothingLeft(c)
					var flags []string
					if kind == "a file" {
						at = e.Join("moved")
						flags = []string{"--map", e.Join("at") + "=" + at}
					}
					s = serve(t, network, at)
					e.Run(append([]string{"check", image}, flags...)...)
					e.Restore(image, "", flags...)
					s.accept()
					s.knows(c)
					saying(c, "USR1", "told 3")
					s.hears("3: "+own+" 1", own)
					switch {
					case s.listener != nil:
						must(t, write(s.conn, "again"))
						saying(c, "USR2", "heard again")
					case kind == "a file":
						saying(c, "USR2", "heard waits")
					}
					c.Dump(e.Join("second"), "--external", "unix:"+at)
					e.Restore(e.Join("second"), "")
					s.accept()
					saying(c, "USR1", "told 4")
					s.hears("4: "+own+" 1", own)
				})
			}
		}
	}
}

// TestExternalByLink: the name that a program gave to connect(2) may be that of a
// symbolic link, as /dev/log is; where that leads later decides.
func TestExternalByLink(t *testing.T) {
	e := harness.New(t, "")
	at, link, image := e.Join("at"), e.Join("log"), e.Join("image")
	must(t, os.Symlink(at, link))
	s := serve(t, "unixgram", at)
	c := caller(e, "unixgram", link)
	saying(c, "USR1", "told 1")
	s.hears("1:  1", "")
	e.Run("check", c.Name, "--external", "unix:"+link, "--external", "unix:"+at)
	c.Dump(image, "--external", "unix:"+link)
	s.end()
	at = e.Join("another")
	must(t, errors.Join(os.Remove(link), os.Symlink(at, link)))
	s = serve(t, "unixgram", at)
	e.Run("check", image)
	e.Restore(image, "")
	saying(c, "USR1", "told 2")
	s.hears("2:  1", "")
}

// TestExternalWaiting: a connection that nobody outside has accepted.
func TestExternalWaiting(t *testing.T) {
	for _, network := range []string{"unix", "unixpacket"} {
		t.Run(network, func(t *testing.T) {
			e := harness.New(t, "")
			at, image := e.Join("at"), e.Join("image")
			s := serve(t, network, at)
			c := caller(e, network, at)
			saying(c, "USR1", "told 1")
			refused(t, e, []string{"check", c.Name}, "unix socket: it waits to be accepted on "+at+", outside the container", "--external unix:"+at)
			c.Dump(image, "--external", "unix:"+at)
			s.accept()
			s.hears("1:  1", "")
			s.hearsEnd()
			e.Restore(image, "")
			s.accept()
			s.knows(c)
			saying(c, "USR1", "told 2")
			s.hears("2:  1", "")
		})
	}
}

// TestUnixClients: a client outside would have to connect again, and is named.
func TestUnixClients(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			at := e.Join("at")
			c := e.Start(name(e), nil, harness.Program(t, "caller.c"), "listen", "unix", at)
			c.Says("ready")
			client := e.Launch(true, harness.Program(t, "caller.c"), "connect", "unix", at, e.Join("client"))
			harness.Says(t, client, "ready")
			who := fmt.Sprintf("fd 3: unix socket: a client of %s, host pid %d (caller), is outside the container", at, client.PID)
			const hint = "end the client before the dump, and let it connect again after the restore"
			for _, args := range [][]string{{"check", c.Name}, {"dump", c.Name, e.Join("image")}, {"dump", c.Name, e.Join("image"), "--external", "unix:" + at}} {
				refused(t, e, args, who+", and waits to be accepted", hint)
			}
			saying(c, "USR1", "accepted")
			who = strings.Replace(who, "fd 3", "fd 4", 1)
			for _, args := range [][]string{{"check", c.Name}, {"dump", c.Name, e.Join("image")}, {"dump", c.Name, e.Join("image"), "--external", "unix:" + e.Join("client")}} {
				refused(t, e, args, who, hint)
			}
			client.Kill("USR1")
			harness.Says(t, client, "told 1")
		})
	}
}

// TestExternalAdopted: of programs that ckpt did not start.
func TestExternalAdopted(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			at, image := e.Join("at"), e.Join("image")
			s := serve(t, "unix", at)
			l := e.Launch(true, harness.Program(t, "caller.c"), "connect", "unix", at)
			harness.Says(t, l, "ready")
			s.accept()
			pid := strconv.Itoa(l.PID)
			for _, args := range [][]string{{"check", "--pid", pid}, {"dump", "--pid", pid, image}} {
				refused(t, e, args, "unix socket: peer "+at+" is outside the container", "--external unix:"+at)
			}
			e.Run("check", "--pid", pid, "--external", "unix:"+at)
			l.Dump(image, "--external", "unix:"+at)
			s.hearsEnd()
			c := e.Restore(image, name(e))
			s.accept()
			s.knows(c)
			c.Kill("USR1")
			s.hears("1:  1", "")
		})
	}
}

// TestExternalUsage: what is no name of a unix socket.
func TestExternalUsage(t *testing.T) {
	e := harness.New(t, "")
	c := e.Start(name(e), nil, harness.Tool(t, "sleep"), "1000")
	for _, value := range []string{"", "unix:", "unix:at", "unix:@", "/at", "tcp:/at"} {
		for _, args := range [][]string{{"check", c.Name}, {"dump", c.Name, e.Join("image")}} {
			if r := e.Try(slices.Concat(args, []string{"--external", value})...); r.Code != 2 || !strings.Contains(r.Err, "it is not unix:PATH with an absolute path, nor unix:@NAME") {
				t.Errorf("want exit code 2, and the form: %v", r)
			}
		}
	}
	if r := e.Try("check", c.Name, "--external", "unix:/"+strings.Repeat("a", 107)); r.Code != 2 || !strings.Contains(r.Err, "no unix socket has a name of more than 107 bytes") {
		t.Errorf("want exit code 2, and the limit: %v", r)
	}
	if r := e.Try("check", "--external", "unix:/at"); r.Code != 2 || !strings.Contains(r.Err, "--tcp and --external are for a container") {
		t.Errorf("want exit code 2, and what it is for: %v", r)
	}
}
