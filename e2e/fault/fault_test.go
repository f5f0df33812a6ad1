// Package fault checks the two promises for everything that goes wrong: a
// dump that fails or is killed leaves the container running as it was, a
// restore that fails leaves nothing behind, and an image is whole or absent.
package fault

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// counts waits until each of who has taken three more steps, and reads what
// was told so far: nothing may have been lost.
func counts(c *harness.Container, j *harness.Journal, who ...string) {
	c.Env.T.Helper()
	harness.GoesOn(c.Env.T, c, j, who...)
}

// read takes in what was told up to a dump.
func read(t *testing.T, c *harness.Container, j *harness.Journal) {
	t.Helper()
	if err := j.Read(c.Log()); err != nil {
		t.Fatal(err)
	}
}

// untraced checks that no dump holds on to the container.
func untraced(c *harness.Container) {
	t := c.Env.T
	t.Helper()
	for _, p := range c.Ps().Processes {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), "\nTracerPid:\t0\n") {
			t.Errorf("pid %d (%s) is still traced", p.VPID, p.Comm)
		}
	}
}

// absent checks that there is no image and no part of one.
func absent(e *harness.Env, dir string) {
	e.T.Helper()
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		e.T.Errorf("%s is there (%v)", dir, err)
	}
	if p := e.Partial(); len(p) > 0 {
		e.T.Errorf("part of an image left behind: %v", p)
	}
}

func TestRefused(t *testing.T) {
	e := harness.New(t, "")
	c := e.Start("refused", nil, harness.Program(t, "refused.c"))
	var j harness.Journal
	counts(c, &j, "parent", "uring", "uffd")
	for _, args := range [][]string{{"dump", c.Name, e.Join("image")}, {"dump", c.Name, e.Join("image"), "--leave-running"}, {"check", c.Name}} {
		r := e.Try(args...)
		told := r.Out + r.Err
		if r.Code != 3 || !strings.Contains(told, "io_uring") || !strings.Contains(told, "userfaultfd") {
			t.Errorf("both things that cannot be saved should be told, with exit code 3: %v", r)
		}
		absent(e, e.Join("image"))
		untraced(c)
		counts(c, &j, "parent", "uring", "uffd")
	}
}

// TestRefusedSockets: each socket of a family or protocol that is not carried
// is refused by its name, all of them at once.
func TestRefusedSockets(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			var args, want []string
			for _, s := range []struct {
				name               string
				family, typ, proto int
				root               bool
				words              string
			}{
				{"vsock", unix.AF_VSOCK, unix.SOCK_STREAM, 0, false, "a socket of AF_VSOCK (virtual machine)"},
				{"alg", unix.AF_ALG, unix.SOCK_SEQPACKET, 0, false, "a socket of AF_ALG (kernel cryptography)"},
				{"xdp", unix.AF_XDP, unix.SOCK_RAW, 0, true, "a socket of AF_XDP"},
				{"can", unix.AF_CAN, unix.SOCK_RAW, unix.CAN_RAW, false, "a socket of AF_CAN (vehicle bus)"},
				{"tipc", unix.AF_TIPC, unix.SOCK_RDM, 0, false, "a socket of AF_TIPC (cluster)"},
				{"rds", unix.AF_RDS, unix.SOCK_SEQPACKET, 0, false, "a socket of AF_RDS (datagrams over InfiniBand)"},
				{"smc", unix.AF_SMC, unix.SOCK_STREAM, 0, false, "a socket of AF_SMC (shared memory)"},
				{"kcm", unix.AF_KCM, unix.SOCK_DGRAM, 0, false, "a socket of AF_KCM (messages over TCP)"},
				{"key", unix.AF_KEY, unix.SOCK_RAW, 2, true, "a socket of AF_KEY (IPsec)"}, // PF_KEY_V2
				{"sctp", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP, false, "internet socket: a socket of SCTP"},
				{"l2tp", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_L2TP, false, "internet socket: a socket of L2TP"},
				{"netfilter", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER, false, "a netlink socket of NETLINK_NETFILTER"},
				{"connector", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_CONNECTOR, false, "a netlink socket of NETLINK_CONNECTOR"},
			} {
				if s.root && !e.Root() || !has(t, s.family, s.typ, s.proto) {
					continue
				}
				args = append(args, s.name)
				want = append(want, fmt.Sprintf("fd %d: %s", len(args)+2, s.words))
			}
			c := e.Start("refused", nil, append([]string{harness.Program(t, "refused.c")}, args...)...)
			var j harness.Journal
			counts(c, &j, "parent")
			for _, args := range [][]string{{"dump", c.Name, e.Join("image")}, {"check", c.Name}} {
				r := e.Try(args...)
				if told := r.Out + r.Err; r.Code != 3 || !strings.Contains(told, "close it before the dump") {
					t.Errorf("exit code 3 and a way out are missing: %v", r)
				} else {
					for _, w := range want {
						if !strings.Contains(told, w) {
							t.Errorf("%q is not told: %v", w, r)
						}
					}
				}
				absent(e, e.Join("image"))
				untraced(c)
				counts(c, &j, "parent")
			}
		})
	}
}

// TestRefusedOwnNet: sockets on a network of the container's own that are not
// carried. An ordinary user may have a listener whose segments are signed.
func TestRefusedOwnNet(t *testing.T) {
	for _, c := range []struct {
		what, says string
		root       bool
		check      string // what a check has not looked at; "": it says the same
	}{
		{"signer", "its segments are signed (TCP_MD5SIG)", false, ""},
		{"closed ring", "the ring of a packet socket that no process holds as a descriptor", true, ""},
		{"half ring", "a part of its ring that is mapped at ", true, "rings of packet sockets"},
		{"router", "a raw socket on a network where multicast is routed (MRT_INIT)", true, ""},
	} {
		for _, user := range harness.Users() {
			if c.root && !harness.AsRoot(user) {
				continue
			}
			t.Run(c.what+"/as "+user, func(t *testing.T) {
				e := harness.New(t, user)
				k := e.Start("refused", []string{"--net", "none"}, harness.Program(t, "refused.c"), c.what)
				var j harness.Journal
				counts(k, &j, "parent")
				r := e.Try("dump", k.Name, e.Join("image"))
				if r.Code != 3 || !strings.Contains(r.Err, c.says) || !strings.Contains(r.Err, "ckpt: hint: ") {
					t.Errorf("want exit code 3, %q and a hint: %v", c.says, r)
				}
				code, says := 3, c.says
				if c.check != "" {
					code, says = 0, c.check
				}
				if r := e.Try("check", k.Name); r.Code != code || !strings.Contains(r.Out, says) {
					t.Errorf("check: want exit code %d and %q: %v", code, says, r)
				}
				absent(e, e.Join("image"))
				untraced(k)
				counts(k, &j, "parent")
			})
		}
	}
}

// TestRefusedKeyrings: keys are hidden even from who has them. As root alone,
// for each user may have but 200 of them.
func TestRefusedKeyrings(t *testing.T) {
	if os.Geteuid() != 0 {
		return
	}
	for what, words := range map[string]string{
		"thread keyring":        "pid 3 (refused): keyrings: it has a keyring of its own (KEY_SPEC_THREAD_KEYRING)",
		"process keyring":       "pid 3 (refused): keyrings: it has a keyring of its own (KEY_SPEC_PROCESS_KEYRING)",
		"session keyring":       "pid 3 (refused): keyrings: it has a session keyring of its own (KEYCTL_JOIN_SESSION_KEYRING)",
		"first session keyring": "pid 2 (refused): keyrings: it has a session keyring of its own (KEYCTL_JOIN_SESSION_KEYRING)",
	} {
		t.Run(what, func(t *testing.T) {
			e := harness.New(t, "")
			c := e.Start("refused", nil, harness.Program(t, "refused.c"), what)
			var j harness.Journal
			who := []string{"parent", "child"}
			if strings.Contains(words, "pid 2") {
				who = who[:1]
			}
			counts(c, &j, who...)
			r := e.Try("dump", c.Name, e.Join("image"))
			if r.Code != 3 || !strings.Contains(r.Err, words) || !strings.Contains(r.Err, "hint: have it keep its keys") {
				t.Errorf("%q should be told, with exit code 3 and a way out: %v", words, r)
			}
			absent(e, e.Join("image"))
			untraced(c)
			counts(c, &j, who...)
		})
	}
}

// TestEmptyKeyrings: nothing is lost with keyrings in which no key is, as login(1)
// makes one for a session.
func TestEmptyKeyrings(t *testing.T) {
	if os.Geteuid() != 0 {
		return
	}
	e := harness.New(t, "")
	c := e.Start("empty", nil, harness.Program(t, "refused.c"), "empty keyrings")
	var j harness.Journal
	counts(c, &j, "parent")
	image := e.Join("image")
	c.Dump(image)
	e.Restore(image, "")
	counts(c, &j, "parent")
}

// TestRefusedZombie: the exit status of a zombie that was not dumpable is
// shown to root alone by newer kernels, and is no 0 for that.
func TestRefusedZombie(t *testing.T) {
	users := map[string]bool{"": os.Geteuid() != 0}
	if os.Geteuid() == 0 {
		users["nobody"] = true
	}
	for user, ordinary := range users {
		e := harness.New(t, user)
		c := e.Start("zombie", nil, harness.Program(t, "refused.c"), "zombie")
		var j harness.Journal
		counts(c, &j, "parent")
		image := e.Join("image")
		hidden := false
		for _, p := range c.Ps().Processes {
			if p.State == "Z" {
				_, err := e.Command(t.Context(), "readlink", fmt.Sprintf("/proc/%d/ns/user", p.PID)).Output()
				hidden = err != nil
			}
		}
		t.Logf("as %q: hidden: %v", user, hidden)
		if hidden && !ordinary {
			t.Error("it is hidden from root")
		}
		if !hidden {
			c.Dump(image)
			continue
		}
		for _, args := range [][]string{{"dump", c.Name, image}, {"check", c.Name}} {
			r := e.Try(args...)
			if told := r.Out + r.Err; r.Code != 3 || !strings.Contains(told, "pid 3 (refused): a zombie that was not dumpable") || !strings.Contains(told, "or dump as root") {
				t.Errorf("it should be told, with exit code 3: %v", r)
			}
		}
		absent(e, image)
		untraced(c)
		counts(c, &j, "parent")
	}
}

// has tells whether this kernel was built with a family of sockets, and with
// a protocol of it.
func has(t *testing.T, family, typ, proto int) bool {
	t.Helper()
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, proto)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return false
	}
	if err != nil {
		t.Fatalf("family %d, protocol %d: %v", family, proto, err)
	}
	unix.Close(fd)
	return true
}

func TestRefusedTraced(t *testing.T) {
	e := harness.New(t, "")
	c := e.Start("traced", nil, harness.Program(t, "traced.c"))
	harness.Eventually(t, "it traces its child", func() error {
		if !strings.Contains(c.Log(), "ready\n") {
			return errors.Join(errors.New("not ready"), c.Alive())
		}
		return nil
	})
	for _, args := range [][]string{{"dump", c.Name, e.Join("image")}, {"check", c.Name}} {
		r := e.Try(args...)
		if told := r.Out + r.Err; r.Code != 3 || !strings.Contains(told, "pid 3 (traced): it is being traced by pid 2 (traced)") {
			t.Errorf("both processes should be told, with exit code 3: %v", r)
		}
		absent(e, e.Join("image"))
	}
}

// Root keeps such a process, see creds.c.
func TestRefusedUndumpable(t *testing.T) {
	user := ""
	if os.Geteuid() == 0 {
		user = "nobody"
	}
	e := harness.New(t, user)
	c := e.Start("hidden", nil, harness.Program(t, "undumpable.c"))
	harness.Eventually(t, "it hides", func() error {
		if !strings.Contains(c.Log(), "ready\n") {
			return errors.Join(errors.New("not ready"), c.Alive())
		}
		return nil
	})
	for _, args := range [][]string{{"dump", c.Name, e.Join("image")}, {"check", c.Name}} {
		r := e.Try(args...)
		if told := r.Out + r.Err; r.Code != 3 || !strings.Contains(told, "pid 2 (undumpable): it has hidden its memory") {
			t.Errorf("it should be refused with exit code 3: %v", r)
		}
		absent(e, e.Join("image"))
	}
	if err := c.Alive(); err != nil {
		t.Error(err)
	}
}
