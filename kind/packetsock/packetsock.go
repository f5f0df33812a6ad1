// Package packetsock saves sockets of packet(7).
//
// What the kernel shows: sock_diag(7) the protocol, the interface, memberships,
// rings and whether it is in a fanout group; getsockopt(2) the options;
// mmap(2) of a ring its contents.
//
// What is saved: all of these, with packets that wait in a ring; flags, owner.
// A ring is read through a mapping of ckpt's own, and those of the processes
// are made again by kind/memory. Where in a ring the kernel goes on is shown by
// nothing but its contents, see ring.go.
//
// What is lost: see Limits. Refused are fanout groups that a program spreads,
// which the kernel gives to nobody; sockets of an interface that is gone;
// rings of which it cannot be told where the kernel goes on, or to lead it as
// far again would take too long (block.go).
//
// Needs: packet_diag (Linux 3.7, CONFIG_PACKET_DIAG); CAP_NET_RAW over the
// network namespace, and a loopback interface that is up where there is a ring.
package packetsock

import (
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"

	"ckpt/kind"
)

// Kind is packet(7).
func Kind() kind.File {
	return kind.File{
		Name:    "packet socket",
		Saves:   "protocol, interface, memberships, fanout groups, rings with what stands in them, options",
		Refuses: "a fanout group that a BPF program spreads; a ring of which it cannot be told where the kernel goes on; a part of a ring that is mapped",
		Needs:   "root, or a network of its own (--net none)",
		Unseen:  "rings of packet sockets",
		Type:    fdinfo.FdTypes_PACKETSK,
		Owns:    owns,
		Refuse:  refuse,
		Dump:    dump,
		Restore: restore,
		Check:   check,
		Limits: "packets not yet received are dropped, which is told, but for those in a ring; PACKET_STATISTICS begins at 0; what waits in the error queue (MSG_ERRQUEUE) is dropped; " +
			"a fanout group may have 256 sockets, and which of them is next is open",
	}
}

func owns(d *kind.Desc) bool {
	if !strings.HasPrefix(d.Link, "socket:[") {
		return false
	}
	domain, err := unix.GetsockoptInt(int(d.File.Fd()), unix.SOL_SOCKET, unix.SO_DOMAIN)
	return err == nil && domain == unix.AF_PACKET
}
