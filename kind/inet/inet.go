// Package inet saves sockets of the families AF_INET and AF_INET6: tcp(7),
// udp(7), UDP-Lite, raw(7), and ping sockets of icmp(7).
//
// What the kernel shows: getsockname(2), getpeername(2), TCP_INFO (of a
// listener tcpi_unacked is how many wait to be accepted, tcpi_sacked the
// backlog), getsockopt(2), poll(2) for halves that were shut down, TCP_REPAIR
// for what has been sent and not acknowledged, /proc/net for the other ends of
// connections, for peers without a port, and for multicast groups.
//
// What is saved: addresses, ports, options of socket(7), ip(7), ipv6(7),
// tcp(7), udp(7), raw(7) and icmp(7), flags, owner; multicast groups; datagrams
// that were not received yet; listeners with their backlog, and who waits at
// them (queue.go); connections with both ends inside the container, or the other
// end closed, with what is under way in them (stream.go), also those that are
// still being made, and what connections that have ended left to read; of
// connections that lead out of the container what the user says (outside.go,
// kept.go).
//
// What is lost: see Limits. Listeners with connections waiting over which data
// has come, sockets of multicast routing daemons, and TCP with keys (TCP-MD5,
// TCP-AO) are refused.
//
// Needs: for connections TCP_REPAIR (3.5) with its window (4.8, commit
// b1ed4c4fa9a5) and CAP_NET_ADMIN over the network namespace; for those that lead
// out nftables (package hold); for raw sockets CAP_NET_RAW.
package inet

import (
	"fmt"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
)

// Kind is sockets of ip(7) and ipv6(7).
func Kind() kind.File {
	s := &saver{lists: map[string]map[string]listed{}}
	w := &world{}
	return kind.File{
		Name:    "internet socket",
		Saves:   "TCP, UDP, UDP-Lite, raw and ping sockets: addresses, options, multicast groups, listeners, TCP connections in every state with both ends inside, or one outside (dump --tcp keep or close), what waits in them, datagrams not yet read",
		Refuses: "a TCP connection that leads outside, without --tcp; one that waits to be accepted and over which data has come, or has to come first (TCP_DEFER_ACCEPT); one to itself; Multipath TCP, SCTP, DCCP, L2TP and others; TLS in the kernel; urgent data that waits; an error that waits to be read (but ECONNREFUSED of a port of the same host), or something in the error queue (MSG_ERRQUEUE); a corked datagram; sockets on a network where multicast is routed",
		Needs:   "for TCP connections and raw sockets root, or a network of its own (--net none)",
		Unseen:  "what is under way in internet sockets",
		Type:    fdinfo.FdTypes_INETSK,
		Owns:    owns,
		Refuse:  s.refuse,
		Dump:    s.dump,
		Finish:  s.finish,
		Commit:  s.commit,
		End:     s.end,
		Restore: w.restore,
		Check:   w.check,
		Link:    w.link,
		Release: w.release,
		Limits: "of datagrams not yet received, those whose sender's address or port cannot be taken here are dropped, and those without data " +
			"behind others that an earlier dump has seen, as UDP may; packets that a raw or ping socket has not received are dropped, which is told, " +
			"and one that was shut down for writing only is not any more; " +
			"counts of what has been sent (MSG_ZEROCOPY, SOF_TIMESTAMPING_OPT_ID) begin anew, which is told; a connection that has ended does not show its address any more (getsockname(2)); a connection that is being made begins anew to wait for an answer; " +
			"one whose other end has closed and then reset it reads as reset (ECONNRESET) behind what it has received, where it read its end; TCP_QUICKACK, which TCP itself changes, begins anew; " +
			"one that is kept though its other end is outside (--tcp keep) is lost if that does not wait as long; " +
			"a BPF program of a SO_REUSEPORT group, and what else can be set but not read (IPV6_MTU, IPV6_PKTINFO, flow labels, anycast groups, " +
			"IP_MULTICAST_IF by number alone, SO_BUSY_POLL_BUDGET), must be set again; TCP-MD5 keys, where whoever dumps is not told of them and the dump is not refused, too",
	}
}

func owns(d *kind.Desc) bool {
	if !strings.HasPrefix(d.Link, "socket:[") {
		return false
	}
	domain, err := unix.GetsockoptInt(int(d.File.Fd()), unix.SOL_SOCKET, unix.SO_DOMAIN)
	return err == nil && (domain == unix.AF_INET || domain == unix.AF_INET6)
}

// sort is what socket(2) was called with.
type sort struct{ family, typ, proto int }

func sortOf(fd int) (sort, error) {
	var s sort
	for _, o := range []struct {
		name int
		to   *int
	}{{unix.SO_DOMAIN, &s.family}, {unix.SO_TYPE, &s.typ}, {unix.SO_PROTOCOL, &s.proto}} {
		v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, o.name)
		if err != nil {
			return s, fmt.Errorf("read its type and protocol: %w", err)
		}
		*o.to = v
	}
	return s, nil
}

func (s sort) tcp() bool {
	return s.typ != unix.SOCK_RAW && (s.proto == unix.IPPROTO_TCP || s.proto == unix.IPPROTO_MPTCP)
}

func (s sort) udp() bool {
	return s.typ == unix.SOCK_DGRAM && (s.proto == unix.IPPROTO_UDP || s.proto == unix.IPPROTO_UDPLITE)
}

func (s sort) raw() bool { return s.typ == unix.SOCK_RAW }

// ping: it sends and receives echo requests, with its port as their identifier
// (icmp(7)).
func (s sort) ping() bool {
	return s.typ == unix.SOCK_DGRAM && (s.proto == unix.IPPROTO_ICMP || s.proto == unix.IPPROTO_ICMPV6)
}

// name is how a user calls it.
func (s sort) name() string {
	switch {
	case s.raw():
		return fmt.Sprintf("raw socket of protocol %d", s.proto)
	case s.ping():
		return "ping socket"
	case s.tcp():
		return "TCP"
	case s.proto == unix.IPPROTO_UDPLITE:
		return "UDP-Lite"
	}
	return "UDP"
}

// check refuses the protocols that are not carried.
func (s sort) check() error {
	switch {
	case s.typ == unix.SOCK_STREAM && s.tcp(), s.udp(), s.raw(), s.ping():
		return nil
	}
	what := fmt.Sprintf("a socket of internet protocol %d, type %d", s.proto, s.typ)
	if name := protocols[s.proto]; name != "" {
		what = "a socket of " + name
	}
	return failure.WithHint(failure.Unsupportedf("%s", what), "close it before the dump")
}

// protocols that Linux has sockets of, and that are not carried.
var protocols = map[int]string{
	unix.IPPROTO_SCTP: "SCTP", unix.IPPROTO_DCCP: "DCCP", unix.IPPROTO_L2TP: "L2TP",
	unix.IPPROTO_SMC: "SMC (shared memory)",
}
