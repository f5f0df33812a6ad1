// Package unixsock saves sockets of the family AF_UNIX (unix(7)).
//
// What the kernel shows: sock_diag(7) gives name, peer, those waiting for
// accept(2), backlog and shut down halves of every socket; SIOCUNIXFILE the
// file a name stands for; MSG_PEEK with SO_PEEK_OFF the queue, without taking
// anything out.
//
// What is saved: sockets of all three types, their options, flags and owner;
// the connections among them; listeners with those who wait to be accepted;
// names, abstract and in the file system, also of files deleted since and of
// peers gone; queues with message boundaries, senders' names, descriptors in
// flight (SCM_RIGHTS) and credentials (SCM_CREDENTIALS); halves shut down;
// what SO_PEERCRED and SO_PEERGROUPS tell, also of a process that has ended.
//
// What is lost: see Limits. A connection that leads out of the container is
// refused, or, where the user lets it, made anew (kind.External). Data sent over
// one not yet accepted, which the kernel shows nobody, is refused.
//
// Needs: CONFIG_UNIX_DIAG; SIOCUNIXFILE (Linux 4.10, CAP_NET_ADMIN) to find a
// socket's file after its process has changed directory or root.
package unixsock

import (
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"

	"ckpt/kind"
)

// Kind is unix(7).
func Kind() kind.File {
	s := &saver{}
	w := &world{}
	return kind.File{
		Name:    "unix socket",
		Saves:   "stream, datagram and seqpacket sockets: pairs, connections, names (abstract and in the file system, deleted ones, too), listeners with those who wait to be accepted, what waits to be read with descriptors and credentials, halves that were shut down, options, who the peer is (SO_PEERCRED); a socket that is connected to one outside, by a new connection (dump --external unix:PATH)",
		Refuses: "a peer outside the container, without --external; a client outside; data over a connection that is not accepted yet; out-of-band data or an error that waits to be read; an eBPF filter",
		Needs:   "CONFIG_UNIX_DIAG",
		Unseen:  "messages that wait in unix sockets, peers of these that have ended",
		Type:    fdinfo.FdTypes_UNIXSK,
		Owns:    owns,
		Refuse:  s.refuse,
		Dump:    s.dump,
		Finish:  s.finish,
		Move:    move,
		Restore: w.restore,
		Check:   w.check,
		Link:    w.link,
		Limits: "over a connection that --external makes anew, what comes between dump and restore is lost, and SO_PEERCRED shows who is there then; a datagram socket outside that was connected to one of the container has to connect again; SO_PEERCRED shows pid 0 where the process that connected, listened or made the pair was outside of the container, or inside of a pid namespace made in it and has ended; " +
			"groups (SO_PEERGROUPS) are those of whoever restores where they may not be chosen, and the log says so; " +
			"ids and groups of whoever waits to be accepted are those that the holder of his socket has by now; " +
			"timestamps of queued messages are those of the restore; an empty datagram that was looked at before (MSG_PEEK, an earlier dump) and is not the first is lost",
	}
}

func owns(d *kind.Desc) bool {
	if !strings.HasPrefix(d.Link, "socket:[") {
		return false
	}
	domain, err := unix.GetsockoptInt(int(d.File.Fd()), unix.SOL_SOCKET, unix.SO_DOMAIN)
	return err == nil && domain == unix.AF_UNIX
}
