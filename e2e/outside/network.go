// Package outside saves programs with TCP connections whose other end is not in
// the container: in another network, as another machine would be, or on this.
// The tests themselves are that other end.
package outside

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ckpt/kernel"
)

// place is where the other end is.
type place struct {
	here, there netip.Addr
	wire        string   // the interface that the packets come by there
	ns          *os.File // its network; nil: that of the test
}

// thisHost is a place on this machine.
func thisHost() place {
	a := netip.MustParseAddr("127.0.0.1")
	return place{here: a, there: a, wire: "lo"}
}

// anotherHost is a network namespace with a cable to this one, which goes with
// the test.
func anotherHost(t *testing.T, six bool) place {
	t.Helper()
	asRoot(t, "lay a cable between two networks")
	n := byte(os.Getpid() % 251)
	p := place{here: netip.AddrFrom4([4]byte{198, 18, n, 1}), there: netip.AddrFrom4([4]byte{198, 18, n, 2}), wire: fmt.Sprintf("ckthere%d", os.Getpid())}
	if six {
		p.here, p.there = netip.AddrFrom16([16]byte{0: 0xfd, 1: n, 15: 1}), netip.AddrFrom16([16]byte{0: 0xfd, 1: n, 15: 2})
	}
	must(t, kernel.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		var err error
		p.ns, err = os.Open("/proc/thread-self/ns/net")
		return err
	}))
	t.Cleanup(func() { p.ns.Close() })
	mine := fmt.Sprintf("ckhere%d", os.Getpid())
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: mine}, PeerName: p.wire, PeerNamespace: netlink.NsFd(p.ns.Fd())}
	must(t, netlink.LinkAdd(cable))
	// The kernel takes it away some time after its namespace, and another test
	// of the same name may come first.
	t.Cleanup(func() { netlink.LinkDel(cable) })
	must(t, plug(mine, p.here))
	p.do(t, func() error { return plug(p.wire, p.there) })
	return p
}

// plug gives an interface an address and switches it on.
func plug(name string, a netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, address(a)); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func address(a netip.Addr) *netlink.Addr {
	bits := 24
	if a.Is6() {
		bits = 64
	}
	return &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}, Flags: unix.IFA_F_NODAD}
}

// asRoot ends a test of an ordinary user, who may not do that.
func asRoot(t *testing.T, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may " + what)
	}
}

// do runs f there.
func (p place) do(t *testing.T, f func() error) {
	t.Helper()
	must(t, kernel.OnThread(func() error {
		if p.ns != nil {
			if err := unix.Setns(int(p.ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
		}
		return f()
	}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// watch counts what comes by the wire from an address of this side.
type watch struct {
	from netip.AddrPort
	mu   sync.Mutex
	// all packets, and those of them with FIN or RST
	all, ends int
	fd        int
	done      chan struct{}
}

// listenTo begins to watch a port of this side; 0: any.
func (p place) listenTo(t *testing.T, port uint16) *watch {
	t.Helper()
	asRoot(t, "see what comes by the wire")
	w := &watch{from: netip.AddrPortFrom(p.here, port), done: make(chan struct{})}
	p.do(t, func() (err error) {
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		i, err := net.InterfaceByName(p.wire)
		if err != nil {
			return err
		}
		// It wakes up to see that the test is over.
		if err := unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100000}); err != nil {
			return err
		}
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
	})
	over := make(chan struct{})
	go w.read(over)
	t.Cleanup(func() {
		close(over)
		<-w.done
		unix.Close(w.fd)
	})
	return w
}

func (w *watch) read(over chan struct{}) {
	defer close(w.done)
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(w.fd, buf, 0)
		select {
		case <-over:
			return
		default:
		}
		if err == nil {
			w.see(buf[:n])
		} else if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func (w *watch) see(b []byte) {
	var from netip.Addr
	var segment []byte
	switch {
	case len(b) >= 40 && b[0]>>4 == 4 && b[9] == unix.IPPROTO_TCP:
		from, _ = netip.AddrFromSlice(b[12:16])
		segment = b[int(b[0]&15)*4:]
	case len(b) >= 60 && b[0]>>4 == 6 && b[6] == unix.IPPROTO_TCP:
		from, _ = netip.AddrFromSlice(b[8:24])
		segment = b[40:]
	default:
		return
	}
	if port := binary.BigEndian.Uint16(segment); from != w.from.Addr() || w.from.Port() != 0 && w.from.Port() != port {
		return
	}
	const fin, rst = 1, 4
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all++
	if segment[13]&(fin|rst) != 0 {
		w.ends++
	}
}

func (w *watch) seen() (all, ends int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all, w.ends
}
