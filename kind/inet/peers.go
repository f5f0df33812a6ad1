package inet

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/procfs"
)

// pair tells a connection's end; that of the other end is the reverse.
type pair struct{ local, peer netip.AddrPort }

// pairOf unmaps addresses: an IPv6 socket may have an IPv4 one as its peer.
func pairOf(local, peer netip.AddrPort) pair {
	return pair{netip.AddrPortFrom(local.Addr().Unmap(), local.Port()), netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())}
}

func (p pair) reverse() pair { return pair{p.peer, p.local} }

// collect finds the container's connections, once while checking and once
// more when the processes have stopped.
func (s *saver) collect(d *kind.Dump, dumping bool) error {
	if s.ours != nil && (s.dumping || !dumping) {
		return nil
	}
	s.ours, s.listeners, s.held, s.dumping = map[pair]*kind.Desc{}, nil, nil, dumping
	for _, p := range d.Procs {
		for _, c := range p.Fds {
			s.meet(c.Desc)
		}
	}
	if !dumping {
		return nil
	}
	for p, desc := range s.ours {
		if other := s.ours[p.reverse()]; other != nil {
			if err := acknowledge(int(desc.File.Fd()), int(other.File.Fd())); err != nil {
				return kind.At(desc, err)
			}
		}
	}
	return s.settle()
}

// closingPatience is more than the kernel puts an acknowledgement off
// (TCP_DELACK_MAX, 200 ms).
const closingPatience = 300 * time.Millisecond

// settle waits until no connection is about to change its state by itself: one
// that has sent the end of its stream (FIN) does when that is acknowledged. Who
// has not the room for it does not.
func (s *saver) settle() error {
	deadline := time.Now().Add(closingPatience)
	for _, desc := range s.ours {
		for now := (&seen{}); ; time.Sleep(time.Millisecond) {
			if err := now.lookTCP(int(desc.File.Fd())); err != nil {
				return kind.At(desc, err)
			}
			if !awaitsAck(now.state) || time.Now().After(deadline) {
				break
			}
		}
	}
	return nil
}

// meet takes note of one: a socket that is refused has no connection to offer.
func (s *saver) meet(desc *kind.Desc) {
	if !owns(desc) {
		return
	}
	i, err := look(int(desc.File.Fd()))
	switch {
	case err != nil:
	case i.tcp() && i.connected() && i.state != stateSynSent:
		s.ours[pairOf(i.local, i.peer)] = desc
	case i.state == stateListen && i.waiting > 0:
		l := listener{desc, i.local, i.waiting}
		if at := slices.IndexFunc(s.listeners, func(o listener) bool { return o.desc == desc }); at >= 0 {
			s.listeners[at] = l
		} else {
			s.listeners = append(s.listeners, l)
		}
	}
}

// acknowledge has fd send the acknowledgement that it may have put off
// (delayed ACK) of what the other end has sent: most connections are idle
// then. The program's own TCP_QUICKACK stays as it is.
func acknowledge(fd, other int) error {
	n, _, err := toSend(other)
	if err != nil || n == 0 {
		return err
	}
	was, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	}
	if err == nil && was == 0 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
	}
	if err != nil {
		return fmt.Errorf("have it acknowledge what it has (TCP_QUICKACK): %w", err)
	}
	return nil
}

// toSend are the bytes not acknowledged and, of these, not sent.
func toSend(fd int) (all, unsent int, err error) {
	if all, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ); err != nil {
		return 0, 0, fmt.Errorf("read how much it has to send (SIOCOUTQ): %w", err)
	}
	if unsent, err = unix.IoctlGetInt(fd, siocOutqNSD); err != nil {
		return 0, 0, fmt.Errorf("read how much it has not sent (SIOCOUTQNSD): %w", err)
	}
	return all, unsent, nil
}

// other is what the kernel lists of the other end of a connection.
type other int

const (
	otherGone   other = iota // there is none
	otherUnheld              // no descriptor holds it: closed, or not accepted yet
	otherHeld
)

// find looks for the end p in the list of the container's network namespace.
func find(d *kind.Dump, p pair) (other, error) {
	at, err := whoseNet(d)
	if err != nil {
		return otherGone, err
	}
	defer at.Close()
	return findAny(at, p)
}

// isHeld tells whether p was an end that a descriptor holds when all were
// listed, which takes its time and is done once.
func (s *saver) isHeld(d *kind.Dump, p pair) (bool, error) {
	if s.held == nil {
		at, err := whoseNet(d)
		if err != nil {
			return false, err
		}
		defer at.Close()
		held := map[pair]bool{}
		if err := eachConnection(at, func(c listed) bool {
			if c.state != stateTimeWait && c.state != stateClose && c.inode != "0" {
				held[c.pair] = true
			}
			return true
		}); err != nil {
			return false, err
		}
		s.held = held
	}
	return s.held[p], nil
}

// whoseNet is a task in the container's network namespace.
func whoseNet(d *kind.Dump) (*procfs.Proc, error) {
	if d.OwnNet {
		return procfs.Open(int(d.Home))
	}
	return procfs.Open(unix.Gettid())
}

func findAny(at *procfs.Proc, p pair) (o other, err error) {
	err = eachConnection(at, func(c listed) bool {
		switch {
		case c.pair != p || c.state == stateTimeWait || c.state == stateClose:
			return true
		case c.inode == "0":
			o = otherUnheld
		default:
			o = otherHeld
		}
		return false
	})
	return o, err
}

// listed is a line of /proc/net/tcp or the like.
type listed struct {
	pair
	state    int
	received uint32 // not read yet, in bytes
	inode    string // 0: no descriptor holds it
}

// eachConnection gives the TCP sockets of a task's network namespace to f,
// until it wants no more.
func eachConnection(at *procfs.Proc, f func(listed) bool) error {
	for _, name := range []string{"net/tcp", "net/tcp6"} {
		b, err := at.Read(name)
		if errors.Is(err, unix.ENOENT) && name == "net/tcp6" {
			continue // no IPv6
		}
		if err != nil {
			return fmt.Errorf("list TCP connections: %w", err)
		}
		if !connectionsIn(b, f) {
			return nil
		}
	}
	return nil
}

// connectionsIn reads /proc/net/tcp (proc_pid_net(5)): number, local and remote
// address, state, queues, timer, retransmits, uid, timeout, inode, ...
func connectionsIn(b []byte, f func(listed) bool) (all bool) {
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		w := strings.Fields(sc.Text())
		if len(w) < 10 {
			continue
		}
		local, ok1 := hexAddr(w[1])
		peer, ok2 := hexAddr(w[2])
		state, err := strconv.ParseUint(w[3], 16, 8)
		if ok1 && ok2 && err == nil && !f(listed{pairOf(local, peer), int(state), received(w[4]), w[9]}) {
			return false
		}
	}
	return true
}

// hexAddr reads "0100007F:1F90": words of 32 bits as they stand in memory.
func hexAddr(s string) (netip.AddrPort, bool) {
	addr, port, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil || len(addr)%8 != 0 {
		return netip.AddrPort{}, false
	}
	var b []byte
	for ; addr != ""; addr = addr[8:] {
		w, err := strconv.ParseUint(addr[:8], 16, 32)
		if err != nil {
			return netip.AddrPort{}, false
		}
		b = binary.NativeEndian.AppendUint32(b, uint32(w))
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a, uint16(n)), ok
}
