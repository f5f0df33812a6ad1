package inet

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/kind"
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
	s.ours, s.dumping = map[pair]*kind.Desc{}, dumping
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
	return nil
}

// meet takes note of one: a socket that is refused has no connection to offer.
func (s *saver) meet(desc *kind.Desc) {
	if !owns(desc) {
		return
	}
	if i, err := look(int(desc.File.Fd())); err == nil && i.tcp() && i.connected() {
		s.ours[pairOf(i.local, i.peer)] = desc
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
	return findAny(netDir(d), p)
}

// netDir is /proc/net of the container's network namespace.
func netDir(d *kind.Dump) string {
	if d.OwnNet {
		return fmt.Sprintf("/proc/%d/net/", d.InitHost)
	}
	return "/proc/thread-self/net/"
}

func findAny(dir string, p pair) (other, error) {
	for _, name := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(dir + name)
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return otherGone, fmt.Errorf("list TCP connections: %w", err)
		}
		if o, ok := findIn(b, p); ok {
			return o, nil
		}
	}
	return otherGone, nil
}

// findIn reads /proc/net/tcp (proc_pid_net(5)): number, local and remote
// address, state, queues, timer, retransmits, uid, timeout, inode, ...
func findIn(b []byte, p pair) (other, bool) {
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) < 10 {
			continue
		}
		local, ok1 := hexAddr(f[1])
		peer, ok2 := hexAddr(f[2])
		if !ok1 || !ok2 || pairOf(local, peer) != p {
			continue
		}
		switch st, _ := strconv.ParseUint(f[3], 16, 8); {
		case st == stateTimeWait || st == stateClose:
			continue
		case f[9] == "0":
			return otherUnheld, true
		}
		return otherHeld, true
	}
	return otherGone, false
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
