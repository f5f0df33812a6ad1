package inet

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/sockopt"
)

// Extension headers to send (ipv6(7), linux/in6.h).
const (
	ipv6HopOpts       = 54
	ipv6RtHdrDstOpts  = 55
	ipv6RtHdr         = 57
	ipv6DstOpts       = 59
	mostOptionBytes   = 2048
	congestionNameMax = 16
)

// byteOptions are those whose value is no int: bytes in, the same bytes out.
// One that reads as nothing is not set, and as zeros only neither, but for
// IP_OPTIONS, in which they are options.
func (s sort) byteOptions() [][2]int {
	all := [][2]int{{unix.IPPROTO_IP, unix.IP_OPTIONS}}
	if s.family == unix.AF_INET6 {
		for _, n := range []int{ipv6HopOpts, ipv6RtHdrDstOpts, ipv6RtHdr, ipv6DstOpts} {
			all = append(all, [2]int{unix.IPPROTO_IPV6, n})
		}
	}
	if s.typ != unix.SOCK_STREAM {
		all = append(all, [2]int{unix.IPPROTO_IP, unix.IP_MULTICAST_IF})
	}
	if s.tcp() {
		all = append(all, [2]int{unix.IPPROTO_TCP, unix.TCP_FASTOPEN_KEY})
	}
	if s.raw() && s.proto == unix.IPPROTO_ICMPV6 {
		all = append(all, [2]int{unix.IPPROTO_ICMPV6, icmp6Filter})
	}
	return all
}

func (s sort) dumpBytes(fd int) (out []*image.SockOption, err error) {
	for _, o := range s.byteOptions() {
		b, err := kernel.SocketOption(uintptr(fd), o[0], o[1], make([]byte, mostOptionBytes))
		switch ok, err := has(err); {
		case err != nil:
			return nil, fmt.Errorf("read socket option %d of level %d: %w", o[1], o[0], err)
		case ok && (len(bytes.Trim(b, "\x00")) > 0 || len(b) > 0 && o == [2]int{unix.IPPROTO_IP, unix.IP_OPTIONS}):
			out = append(out, &image.SockOption{Level: int32(o[0]), Name: int32(o[1]), Data: b})
		}
	}
	if !s.tcp() {
		return out, nil
	}
	its, err := congestion(fd)
	if err != nil || its == "" {
		return out, err
	}
	usual, err := usualCongestion()
	if err == nil && its != usual {
		out = append(out, &image.SockOption{Level: unix.IPPROTO_TCP, Name: unix.TCP_CONGESTION, Data: []byte(its)})
	}
	return out, err
}

// congestion is the name of what decides how fast it sends; "": none.
func congestion(fd int) (string, error) {
	b, err := kernel.SocketOption(uintptr(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, make([]byte, congestionNameMax))
	if ok, err := has(err); !ok {
		return "", err
	}
	name, _, _ := bytes.Cut(b, []byte{0})
	return string(name), nil
}

// usualCongestion is what a new socket gets here.
func usualCongestion() (string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return "", fmt.Errorf("make a socket to compare with: %w", err)
	}
	defer unix.Close(fd)
	return congestion(fd)
}

// restoreBytes sets what dumpBytes read. Another way to decide how fast to send is
// no reason to fail.
func restoreBytes(r *kind.Restore, fd int, opts []*image.SockOption) error {
	for _, o := range opts {
		if len(o.GetData()) == 0 {
			continue
		}
		err := sockopt.SetBytes(uintptr(fd), o)
		if err != nil && o.GetLevel() == unix.IPPROTO_TCP && o.GetName() == unix.TCP_CONGESTION {
			r.Log.Warn("a TCP socket gets the usual congestion control", "had", string(o.GetData()), "why", err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ints are the options among opts that have an int as their value.
func ints(opts []*image.SockOption) (out []*image.SockOption) {
	for _, o := range opts {
		if len(o.GetData()) == 0 {
			out = append(out, o)
		}
	}
	return out
}
