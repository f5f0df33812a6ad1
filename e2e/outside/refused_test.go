package outside

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// refused runs ckpt, and looks for words in what it says.
func refused(t *testing.T, e *harness.Env, args []string, words ...string) {
	t.Helper()
	r := e.Try(args...)
	if r.Code == 0 {
		t.Errorf("it should be refused: %v", r)
	}
	for _, w := range words {
		if !strings.Contains(r.Out+r.Err, w) {
			t.Errorf("%q is not told: %v", w, r)
		}
	}
}

func remove(t *testing.T, dir string) {
	t.Helper()
	must(t, os.RemoveAll(dir))
}

// TestRefused: without --tcp it stands in the way, and it is told what to do.
func TestRefused(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			c, p, _ := meet(t, thisHost(), "listen", program(e))
			words := []string{"pid 2 (python3): fd 4: established TCP connection to 127.0.0.1:", "which is outside the container", "--tcp keep (root)", "--tcp close"}
			refused(t, e, []string{"dump", c.Name, e.Join("image")}, words...)
			refused(t, e, []string{"check", c.Name}, words...)
			refused(t, e, []string{"dump", c.Name, e.Join("image"), "--tcp", "leave"}, "it is keep or close")
			e.Run("check", c.Name, "--tcp", "close")
			if e.Root() {
				e.Run("check", c.Name, "--tcp", "keep")
			} else {
				words := []string{"CAP_NET_ADMIN", "run ckpt as root", "--tcp close"}
				refused(t, e, []string{"check", c.Name, "--tcp", "keep"}, words...)
				refused(t, e, []string{"dump", c.Name, e.Join("image"), "--tcp", "keep"}, words...)
			}
			p.ask("one", "1: ONE")
			noTables(t, c.Name)
		})
	}
}

// TestOwnNetwork: a cable into a container's own network is not there after a
// restore.
func TestOwnNetwork(t *testing.T) {
	e := harness.New(t, "")
	c := e.Start(name(e), []string{"--net", "none"}, harness.Tool(t, "sleep"), "1000")
	ns, err := os.Open("/proc/" + strconv.Itoa(c.Ps().Processes[0].PID) + "/ns/net")
	must(t, err)
	defer ns.Close()
	at := anotherHost(t, false)
	inside := place{here: at.there, there: at.here, ns: ns}
	link, err := netlink.LinkByName("ckhere" + strconv.Itoa(os.Getpid()))
	must(t, err)
	must(t, netlink.LinkSetNsFd(link, int(ns.Fd())))
	inside.do(t, func() error { return plug(link.Attrs().Name, at.here) })
	var l net.Listener
	at.do(t, func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(at.there.String(), "0"))
		return err
	})
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	cmd := e.Command(t.Context(), harness.Ckpt(), "exec", c.Name, "--", harness.Tool(t, "python3", "/usr/bin"), harness.Program(t, "outside.py"), "connect", at.there.String(), port)
	must(t, cmd.Start())
	conn, err := l.Accept()
	must(t, err)
	p := newPeer(t, conn)
	p.ask("one", "1: ONE")
	refused(t, e, []string{"check", c.Name, "--tcp", "keep"}, "the container's own network, over which it leads, is not there after a restore", "--tcp close")
	e.Run("check", c.Name, "--tcp", "close")
	c.Remove()
	cmd.Wait()
}

// TestElsewhere: a restore where the address is not, and what follows when it is
// there again.
func TestElsewhere(t *testing.T) {
	at := anotherHost(t, false)
	e := harness.New(t, "")
	c, p, w := meet(t, at, "connect", program(e))
	image := e.Join("image")
	c.Dump(image, "--tcp", "keep")
	left := tables(t, c.Name)
	if len(left) != 1 {
		t.Fatalf("tables: %v", left)
	}
	link, err := netlink.LinkByName("ckhere" + strconv.Itoa(os.Getpid()))
	must(t, err)
	must(t, netlink.AddrDel(link, address(at.here)))
	for _, args := range [][]string{{"check", image}, {"restore", image}} {
		refused(t, e, args, "this machine does not have the address "+at.here.String(), "ip address add "+at.here.String())
	}
	must(t, netlink.AddrAdd(link, address(at.here)))
	e.Run("check", image)
	if now := tables(t, c.Name); len(now) != 1 || now[0] != left[0] {
		t.Errorf("tables after a restore that failed: %v, were %v", now, left)
	}
	e.Restore(image, "")
	p.ask("one", "1: ONE")
	// A second one cannot have the same connection, and leaves the first alone.
	e.Own("copy")
	refused(t, e, []string{"restore", image, "--name", "copy"}, "there still is a connection between these ports here")
	p.ask("two", "2: TWO")
	if _, ends := w.seen(); ends > 0 {
		t.Errorf("%d packets with FIN or RST have come", ends)
	}
	noTables(t, c.Name)
}

// TestNoWay: a restore where no route leads to the other end, and what follows
// when one does again.
func TestNoWay(t *testing.T) {
	for what, typ := range map[string]int{"unreachable": unix.RTN_UNREACHABLE, "prohibit": unix.RTN_PROHIBIT, "blackhole": unix.RTN_BLACKHOLE} {
		t.Run(what, func(t *testing.T) {
			at := anotherHost(t, false)
			e := harness.New(t, "")
			c, p, w := meet(t, at, "connect", program(e))
			image := e.Join("image")
			c.Dump(image, "--tcp", "keep")
			wall := &netlink.Route{Dst: &net.IPNet{IP: at.there.AsSlice(), Mask: net.CIDRMask(32, 32)}, Type: typ}
			must(t, netlink.RouteAdd(wall))
			removed := sync.OnceValue(func() error { return netlink.RouteDel(wall) })
			t.Cleanup(func() { removed() })
			for _, args := range [][]string{{"check", image}, {"restore", image}} {
				refused(t, e, args, "there is no way to "+at.there.String()+" from here", "connect this machine to the network of the other end (ip route)")
			}
			nothingLeft(c)
			must(t, removed())
			e.Run("check", image)
			e.Restore(image, "")
			p.ask("one", "1: ONE")
			if _, ends := w.seen(); ends > 0 {
				t.Errorf("%d packets with FIN or RST have come", ends)
			}
			noTables(t, c.Name)
		})
	}
}

// TestKeptAsUser: what --tcp keep takes, a restore takes, too.
func TestKeptAsUser(t *testing.T) {
	e := harness.New(t, "")
	c, _, _ := meet(t, thisHost(), "listen", program(e))
	image := e.Join("image")
	c.Dump(image, "--tcp", "keep")
	must(t, e.Command(t.Context(), harness.Tool(t, "chown"), "-R", "nobody", image).Run())
	user := harness.New(t, "nobody")
	for _, args := range [][]string{{"check", image}, {"restore", image, "--name", name(user)}} {
		refused(t, user, args, "internet socket: TCP connection", "to keep it takes CAP_NET_ADMIN over the network", "run ckpt as root")
	}
	must(t, e.Command(t.Context(), harness.Tool(t, "chown"), "-R", "root", image).Run())
	e.Restore(image, "")
}

// TestNoInterface: a socket that is bound to a network interface comes back where
// there is one of that name.
func TestNoInterface(t *testing.T) {
	asRoot(t, "make interfaces")
	const gone = "a socket bound to a network interface that is gone (SO_BINDTODEVICE)"
	for how, gone := range map[string]string{"udp": gone, "tcp": gone, "unix": gone, "netlink": gone, "packet": "a packet socket of a network interface that is gone"} {
		t.Run(how, func(t *testing.T) {
			e := harness.New(t, "")
			dev := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("ckdev%d", os.Getpid())}, PeerName: fmt.Sprintf("ckend%d", os.Getpid())}
			must(t, netlink.LinkAdd(dev))
			t.Cleanup(func() { netlink.LinkDel(dev) })
			c := e.Start(name(e), nil, harness.Program(t, "bound.c"), how, dev.Name)
			c.Says("ready")
			image := e.Join("image")
			c.Dump(image)
			must(t, netlink.LinkDel(dev))
			for _, args := range [][]string{{"check", image}, {"restore", image}} {
				refused(t, e, args, "pid 2 (bound): fd 3: ", "find network interface "+dev.Name+": no such device", "make it first (ip link add "+dev.Name+" ...)")
			}
			nothingLeft(c)
			dev.Index = 0
			must(t, netlink.LinkAdd(dev))
			e.Run("check", image)
			e.Restore(image, "")
			c.Kill("USR1")
			c.Says("bound to " + dev.Name)
			must(t, netlink.LinkDel(dev))
			for _, args := range [][]string{{"check", c.Name}, {"dump", c.Name, e.Join("second")}} {
				refused(t, e, args, gone, "close it before the dump")
			}
		})
	}
}

// TestOwnInterface: of a network that is the container's own, a restore makes the
// loopback interface.
func TestOwnInterface(t *testing.T) {
	asRoot(t, "make interfaces in the network of a container")
	for _, how := range []string{"udp", "tcp", "unix", "netlink"} {
		t.Run(how, func(t *testing.T) {
			e := harness.New(t, "")
			c := e.Start(name(e), []string{"--net", "none"}, harness.Tool(t, "sleep"), "1000")
			ns, err := os.Open("/proc/" + strconv.Itoa(c.Ps().Processes[0].PID) + "/ns/net")
			must(t, err)
			defer ns.Close()
			must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "inside", Namespace: netlink.NsFd(ns.Fd())}, PeerName: "end", PeerNamespace: netlink.NsFd(ns.Fd())}))
			for dev, code := range map[string]int{"lo": 0, "inside": 3} {
				cmd := e.Command(t.Context(), harness.Ckpt(), "exec", c.Name, "--", harness.Program(t, "bound.c"), how, dev)
				said, err := cmd.StdoutPipe()
				must(t, err)
				must(t, cmd.Start())
				_, err = said.Read(make([]byte, 6)) // ready
				must(t, err)
				r := e.Try("check", c.Name)
				if told := strings.Contains(r.Out, "a socket bound to network interface "+dev+" (SO_BINDTODEVICE) of the container's own network"); told != (code == 3) {
					t.Errorf("%s: %v", dev, r)
				}
				must(t, cmd.Process.Kill())
				cmd.Wait()
			}
		})
	}
}

// TestPortTaken: a check of an image tells of a netlink port that another has.
func TestPortTaken(t *testing.T) {
	e := harness.New(t, "")
	c := e.Start(name(e), nil, harness.Program(t, "bound.c"), "port", "lo")
	c.Says("ready")
	image := e.Join("image")
	c.Dump(image, "--leave-running")
	refused(t, e, []string{"check", image}, "pid 2 (bound): fd 3: netlink socket: another program has netlink port ", "start containers with a network of their own (--net none)")
	c.Remove()
	e.Run("check", image)
}

// TestForgotten: the rules go with the container.
func TestForgotten(t *testing.T) {
	e := harness.New(t, "")
	c, _, _ := meet(t, thisHost(), "listen", program(e))
	c.Dump(e.Join("image"), "--tcp", "keep")
	if len(tables(t, c.Name)) != 1 {
		t.Errorf("tables: %v", tables(t, c.Name))
	}
	e.Run("rm", c.Name)
	noTables(t, c.Name)
}
