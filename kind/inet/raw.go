package inet

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
)

// A raw socket has its protocol for a port, and most often neither it nor a
// ping socket has one of its peer's: getpeername(2) tells nothing then
// (inet_getname()). /proc/net lists the peer all the same.

// Options of raw(7) and icmp(7) (linux/icmp.h, linux/icmpv6.h, linux/in6.h).
const (
	solRaw        = 255
	icmpFilter    = 1 // at solRaw
	icmp6Filter   = 1 // at IPPROTO_ICMPV6, 32 bytes
	ipv6HdrIncl   = 36
	ipRouterAlert = 5
	ipNoDefrag    = 22
)

// rawOptions are the options of raw sockets that have an int as their value.
// Some protocols begin with others than most.
func (s sort) rawOptions() []option {
	if s.family == unix.AF_INET {
		header := 0
		if s.proto == unix.IPPROTO_RAW {
			header = 1
		}
		return []option{{unix.IPPROTO_IP, unix.IP_HDRINCL, header}, {unix.IPPROTO_IP, ipRouterAlert, 0}, {unix.IPPROTO_IP, ipNoDefrag, 0}, {solRaw, icmpFilter, 0}}
	}
	header, checksum := 0, -1
	switch s.proto {
	case unix.IPPROTO_RAW:
		header = 1
	case unix.IPPROTO_ICMPV6:
		checksum = 2
	case unix.IPPROTO_MH:
		checksum = 4
	}
	return []option{{unix.IPPROTO_IPV6, ipv6HdrIncl, header}, {solRaw, unix.IPV6_CHECKSUM, checksum},
		{unix.IPPROTO_IPV6, unix.IPV6_ROUTER_ALERT, 0}}
}

// listName is the file of /proc/net that lists sockets of this sort
// (proc_pid_net(5)).
func (s sort) listName() string {
	name := map[int]string{unix.IPPROTO_UDP: "udp", unix.IPPROTO_UDPLITE: "udplite"}[s.proto]
	switch {
	case s.raw():
		name = "raw"
	case s.ping():
		name = "icmp"
	case s.tcp():
		name = "tcp"
	}
	if s.family == unix.AF_INET6 {
		name += "6"
	}
	return "net/" + name
}

// lookPeer finds the peer that a socket without a port of its peer's has, or
// that is only connecting to it.
func (s *saver) lookPeer(d *kind.Dump, desc *kind.Desc, i *seen) error {
	want := stateEstablished
	if i.state == stateSynSent {
		want = stateSynSent
	}
	if i.tcp() && want != stateSynSent || i.peer.IsValid() {
		return nil
	}
	all, err := s.list(d, i.listName())
	if err != nil {
		return err
	}
	c, ok := all[fmt.Sprint(desc.Stat.Ino)]
	if !ok || c.state != want {
		return nil
	}
	i.state, i.peer = want, c.peer
	if i.family == unix.AF_INET6 { // pairs are without the prefix of mapped addresses
		i.peer = netip.AddrPortFrom(netip.AddrFrom16(c.peer.Addr().As16()), c.peer.Port())
	}
	return nil
}

// list reads a file of /proc/net once a dump, and gives its sockets by inode
// number.
func (s *saver) list(d *kind.Dump, name string) (map[string]listed, error) {
	if all, ok := s.lists[name]; ok {
		return all, nil
	}
	at, err := whoseNet(d)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	b, err := at.Read(name)
	if err != nil {
		return nil, fmt.Errorf("list sockets: %w", err)
	}
	all := map[string]listed{}
	connectionsIn(b, func(c listed) bool {
		all[c.inode] = c
		return true
	})
	s.lists[name] = all
	return all, nil
}

// checkRouting refuses the socket of a multicast routing daemon: what it has
// told the kernel goes with it (ip(7), MRT_INIT).
func checkRouting(d *kind.Dump, i *seen) error {
	name := map[sort]string{
		{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_IGMP}:    "net/ip_mr_vif",
		{unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6}: "net/ip6_mr_vif",
	}[i.sort]
	if name == "" {
		return nil
	}
	at, err := whoseNet(d)
	if err != nil {
		return err
	}
	defer at.Close()
	b, err := at.Read(name)
	switch {
	case errors.Is(err, unix.ENOENT): // the kernel does not route multicast
		return nil
	case err != nil:
		return fmt.Errorf("list interfaces of multicast routing: %w", err)
	}
	if bytes.Count(b, []byte{'\n'}) > 1 { // below the heading
		return failure.WithHint(failure.Unsupportedf("a raw socket on a network where multicast is routed (MRT_INIT), of which it may be the daemon's"),
			"stop the multicast routing daemon before the dump")
	}
	return nil
}

// socketError puts in words why a socket is not to be had.
func (s sort) socketError(err error) error {
	switch {
	case s.raw() && errors.Is(err, unix.EPERM):
		return failure.WithHint(failure.Mark(failure.ErrUnsupported, fmt.Errorf("to make it takes CAP_NET_RAW over its network: %w", err)),
			"restore as root", "or start containers with a network of their own (--net none)")
	case s.ping() && errors.Is(err, unix.EACCES):
		return failure.WithHint(fmt.Errorf("ping sockets are forbidden to your groups: %w", err),
			"allow them with sysctl net.ipv4.ping_group_range (icmp(7))")
	}
	return fmt.Errorf("make it: %w", err)
}
