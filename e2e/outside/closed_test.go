package outside

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"ckpt/e2e/harness"
)

// TestClosed: --tcp close saves a connection as one that the other end has
// closed.
func TestClosed(t *testing.T) {
	for _, user := range harness.Users() {
		for _, tt := range []struct {
			name string
			end  bool // the other end has said all
			want []string
		}{
			{"in use", false, []string{"ConnectionResetError left over", "gives b''", "gives OSError 107", "gives BrokenPipeError 32"}},
			{"half closed", true, []string{"end 1"}},
		} {
			t.Run("as "+user+" "+tt.name, func(t *testing.T) {
				e := harness.New(t, user)
				c, p, _ := meet(t, thisHost(), "connect", program(e))
				p.say("stall\n")
				c.Says("stalled")
				p.say("left over")
				if tt.end {
					must(t, p.CloseWrite())
				}
				left := e.Join("left")
				c.Dump(left, "--tcp", "close", "--leave-running")
				copied := e.Restore(left, "copy")
				copied.Kill("USR1")
				for _, line := range tt.want {
					copied.Says(line)
				}
				// The original has not noticed anything.
				p.r.Reset(p)
				c.Dump(e.Join("image"), "--tcp", "close")
				if _, err := p.r.ReadByte(); err == nil {
					t.Error("the container has ended, and its connection has not")
				}
				noTables(t, c.Name)
				e.Restore(e.Join("image"), "")
				c.Kill("USR1")
				for _, line := range append(tt.want, "over") {
					c.Says(line)
				}
			})
		}
	}
}

// TestClosedWaiting: a connection that waits to be accepted stands in the way of
// --tcp keep; it is closed with the others.
func TestClosedWaiting(t *testing.T) {
	for _, user := range harness.Users() {
		t.Run("as "+user, func(t *testing.T) {
			e := harness.New(t, user)
			c, p, _ := meet(t, thisHost(), "listen", program(e))
			waits, err := net.Dial("tcp", p.RemoteAddr().String())
			must(t, err)
			second := newPeer(t, waits)
			second.say("hello\n")
			refused(t, e, []string{"dump", c.Name, e.Join("image"), "--tcp", "keep"}, "which is outside the container, waits to be accepted", "--tcp close")
			p.ask("one", "1: ONE")
			c.Dump(e.Join("image"), "--tcp", "close")
			if _, err := second.r.ReadByte(); err == nil {
				t.Error("the container has ended, and the connection that waited has not")
			}
			e.Restore(e.Join("image"), "")
			c.Says("ConnectionResetError ")
		})
	}
}

// TestClosedConnecting: a connection that is being made is not accepted.
func TestClosedConnecting(t *testing.T) {
	at := anotherHost(t, false)
	link, err := netlink.LinkByName("ckhere" + strconv.Itoa(os.Getpid()))
	must(t, err)
	nobody := at.there.Next() // has a hardware address, and does not answer
	must(t, netlink.NeighAdd(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: nobody.AsSlice(), State: netlink.NUD_PERMANENT, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}))
	e := harness.New(t, "")
	c := program(e)("connect", nobody.String(), "7")
	harness.Eventually(t, "it has begun to connect", func() error { return connecting(netip.AddrPortFrom(nobody, 7)) })
	c.Dump(e.Join("image"), "--tcp", "close")
	e.Restore(e.Join("image"), "")
	harness.Eventually(t, "it is refused", func() error {
		if !strings.Contains(c.Log(), "ConnectionRefusedError") {
			return errors.New(c.LogTail())
		}
		return nil
	})
}

// connecting looks for a connection to that address in SYN_SENT (2).
func connecting(to netip.AddrPort) error {
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return err
	}
	a := to.Addr().As4()
	want := fmt.Sprintf(" %02X%02X%02X%02X:%04X 02 ", a[3], a[2], a[1], a[0], to.Port())
	if !strings.Contains(string(b), want) {
		return errors.New("no connection to " + to.String())
	}
	return nil
}
