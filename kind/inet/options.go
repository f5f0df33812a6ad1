package inet

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/image"
)

// option is one of ip(7), ipv6(7), tcp(7) or udp(7) that has an int as its
// value and that inet_sk_entry has no field for. initial is what a new socket
// has; one that the sysctls make another is saved, too, which does no harm.
type option struct{ level, name, initial int }

// Numbers that x/sys has no names for (include/uapi/linux/{in,in6,tcp,udp}.h).
const (
	ipRecvErr4884      = 26
	ipLocalPortRange   = 51
	ipProtocol         = 52
	ipv6FlowInfo       = 11
	ipv6MulticastAll   = 29
	ipv6RecvErr4884    = 31
	ipv6FlowInfoSend   = 33
	ipv6MinHopCount    = 73
	tcpTxDelay         = 37
	tcpRTOMax          = 44
	tcpRTOMin          = 45
	tcpDelAckMax       = 46
	tcpMinMSS          = 88 // include/net/tcp.h: the least that TCP_MAXSEG takes
	udpLiteSendCover   = 10
	udpLiteRecvCover   = 11
	udpNoCheck6TX      = 101
	udpNoCheck6RX      = 102
	udpSegment         = 103
	udpGRO             = 104
	addrPreferences    = 72
	initialPreferences = 0x500 // IPV6_PREFER_SRC_PUBTMP_DEFAULT, IPV6_PREFER_SRC_HOME
)

var ipOptions = []option{
	{unix.IPPROTO_IP, unix.IP_TOS, 0}, {unix.IPPROTO_IP, unix.IP_TTL, 64}, {unix.IPPROTO_IP, unix.IP_RECVOPTS, 0},
	{unix.IPPROTO_IP, unix.IP_RETOPTS, 0}, {unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_WANT},
	{unix.IPPROTO_IP, unix.IP_RECVERR, 0}, {unix.IPPROTO_IP, unix.IP_RECVTTL, 0}, {unix.IPPROTO_IP, unix.IP_RECVTOS, 0},
	{unix.IPPROTO_IP, unix.IP_PASSSEC, 0}, {unix.IPPROTO_IP, unix.IP_TRANSPARENT, 0}, {unix.IPPROTO_IP, unix.IP_RECVORIGDSTADDR, 0},
	{unix.IPPROTO_IP, unix.IP_MINTTL, 0}, {unix.IPPROTO_IP, unix.IP_CHECKSUM, 0}, {unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 0},
	{unix.IPPROTO_IP, unix.IP_RECVFRAGSIZE, 0}, {unix.IPPROTO_IP, ipRecvErr4884, 0},
	{unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 1}, {unix.IPPROTO_IP, unix.IP_UNICAST_IF, 0}, {unix.IPPROTO_IP, ipLocalPortRange, 0},
}

// multicast cannot be set in a stream socket, and shows there what the
// connection's first segment had (tcp_v4_syn_recv_sock()).
var multicast = []option{{unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 1}}

var multicast6 = []option{{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 1}, {unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, 0}}

// ip4Options mean something in an IPv4 socket only.
var ip4Options = []option{{unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 1}}

var ip6Options = []option{
	{unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0}, {unix.IPPROTO_IPV6, unix.IPV6_ROUTER_ALERT_ISOLATE, 0},
	{unix.IPPROTO_IPV6, unix.IPV6_2292PKTINFO, 0}, {unix.IPPROTO_IPV6, unix.IPV6_2292HOPOPTS, 0}, {unix.IPPROTO_IPV6, unix.IPV6_2292DSTOPTS, 0},
	{unix.IPPROTO_IPV6, unix.IPV6_2292RTHDR, 0}, {unix.IPPROTO_IPV6, unix.IPV6_2292HOPLIMIT, 0}, {unix.IPPROTO_IPV6, ipv6FlowInfo, 0},
	{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 64},
	{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 1}, {unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_WANT},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 0}, {unix.IPPROTO_IPV6, ipv6MulticastAll, 1}, {unix.IPPROTO_IPV6, ipv6RecvErr4884, 0},
	{unix.IPPROTO_IPV6, ipv6FlowInfoSend, 0}, {unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 0}, {unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 0},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPOPTS, 0}, {unix.IPPROTO_IPV6, unix.IPV6_RECVRTHDR, 0}, {unix.IPPROTO_IPV6, unix.IPV6_RECVDSTOPTS, 0},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVPATHMTU, 0}, {unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 0}, {unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 0},
	{unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 0}, {unix.IPPROTO_IPV6, unix.IPV6_AUTOFLOWLABEL, 1}, {unix.IPPROTO_IPV6, addrPreferences, initialPreferences},
	{unix.IPPROTO_IPV6, ipv6MinHopCount, 0}, {unix.IPPROTO_IPV6, unix.IPV6_ORIGDSTADDR, 0}, {unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT, 0},
	{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_IF, 0}, {unix.IPPROTO_IPV6, unix.IPV6_RECVFRAGSIZE, 0}, {unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 0},
}

var tcpOptions = []option{
	{unix.IPPROTO_TCP, unix.TCP_NODELAY, 0}, {unix.IPPROTO_TCP, unix.TCP_CORK, 0}, {unix.IPPROTO_TCP, unix.TCP_SYNCNT, 6},
	{unix.IPPROTO_TCP, unix.TCP_LINGER2, 60}, {unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 0}, {unix.IPPROTO_TCP, unix.TCP_THIN_LINEAR_TIMEOUTS, 0},
	{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 0}, {unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 0}, {unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 0},
	{unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, 0}, {unix.IPPROTO_TCP, unix.TCP_FASTOPEN_NO_COOKIE, 0},
	{unix.IPPROTO_TCP, unix.TCP_INQ, 0}, {unix.IPPROTO_TCP, tcpTxDelay, 0}, {unix.IPPROTO_TCP, tcpRTOMax, 120000},
	{unix.IPPROTO_TCP, tcpRTOMin, 200000}, {unix.IPPROTO_TCP, tcpDelAckMax, 200000},
}

// unconnectedOptions belong to the connection where there is one, or mean
// nothing any more.
var unconnectedOptions = []option{
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 0}, {unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, 0}, {unix.IPPROTO_TCP, unix.TCP_MAXSEG, 536},
}

// windowClamp of a connection grows with what it has received, and is set when
// that has come again.
var windowClamp = option{unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, 0}

func (o option) is(saved *image.SockOption) bool {
	return int(saved.GetLevel()) == o.level && int(saved.GetName()) == o.name
}

var udpOptions = []option{
	{unix.IPPROTO_UDP, unix.UDP_CORK, 0}, {unix.IPPROTO_UDP, unix.UDP_ENCAP, 0}, {unix.IPPROTO_UDP, udpNoCheck6TX, 0},
	{unix.IPPROTO_UDP, udpNoCheck6RX, 0}, {unix.IPPROTO_UDP, udpSegment, 0}, {unix.IPPROTO_UDP, udpGRO, 0},
}

var udpLiteOptions = []option{{unix.IPPROTO_UDPLITE, udpLiteSendCover, 0}, {unix.IPPROTO_UDPLITE, udpLiteRecvCover, 0}}

// optionsOf are the options a socket can have.
func (s sort) optionsOf(connected bool) [][]option {
	all := [][]option{ipOptions}
	if s.family == unix.AF_INET6 {
		all = append(all, ip6Options)
	} else {
		all = append(all, ip4Options)
	}
	if s.typ != unix.SOCK_STREAM {
		all = append(all, multicast)
		if s.family == unix.AF_INET6 {
			all = append(all, multicast6)
		}
	}
	switch {
	case s.tcp():
		all = append(all, tcpOptions)
		if connected {
			all = append(all, []option{windowClamp})
		} else {
			all = append(all, unconnectedOptions)
		}
	case s.raw():
		all = append(all, s.rawOptions())
	case s.ping():
	case s.proto == unix.IPPROTO_UDPLITE:
		all = append(all, udpOptions, udpLiteOptions)
	default:
		all = append(all, udpOptions)
	}
	return all
}

// has tells an option that this kernel or this socket does not have from an error.
func has(err error) (bool, error) {
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.ENOPROTOOPT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTCONN):
		return false, nil
	}
	return false, err
}

// unset: TCP_MAXSEG shows what was set, and where nothing was what the last
// connection had, or what IP_OPTIONS leave of the least.
func (s *seen) unset(o option, v int) bool {
	return o.level == unix.IPPROTO_TCP && o.name == unix.TCP_MAXSEG && (v == s.mss || v < tcpMinMSS)
}

// dumpOptions reads those that are not as a new socket has them.
func (s *seen) dumpOptions(fd int, connected bool) (out []*image.SockOption, err error) {
	for _, group := range s.optionsOf(connected) {
		for _, o := range group {
			v, err := unix.GetsockoptInt(fd, o.level, o.name)
			switch ok, err := has(err); {
			case err != nil:
				return nil, fmt.Errorf("read socket option %d of level %d: %w", o.name, o.level, err)
			case ok && v != o.initial && !s.unset(o, v):
				out = append(out, &image.SockOption{Level: int32(o.level), Name: int32(o.name), Value: int64(v)})
			}
		}
	}
	return out, nil
}
