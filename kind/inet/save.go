package inet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	sk_inet "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-inet"
	sk_opts "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-opts"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/sockopt"
)

// States of TCP (net/tcp_states.h). A datagram socket is established where it
// has a peer, else closed.
const (
	stateEstablished = 1
	stateSynSent     = 2
	stateSynRecv     = 3
	stateFinWait1    = 4
	stateFinWait2    = 5
	stateTimeWait    = 6
	stateClose       = 7
	stateCloseWait   = 8
	stateLastAck     = 9
	stateListen      = 10
	stateClosing     = 11
)

var stateNames = map[int]string{
	stateEstablished: "ESTABLISHED", stateSynSent: "SYN_SENT", stateSynRecv: "SYN_RECV", stateFinWait1: "FIN_WAIT1", stateFinWait2: "FIN_WAIT2",
	stateTimeWait: "TIME_WAIT", stateClose: "CLOSE", stateCloseWait: "CLOSE_WAIT", stateLastAck: "LAST_ACK", stateListen: "LISTEN", stateClosing: "CLOSING",
}

// saver is one dump.
type saver struct {
	ours      map[pair]*kind.Desc // the container's connections; nil: not collected yet
	dumping   bool                // they were collected after the processes had stopped
	listeners []listener          // at which connections wait to be accepted
	streams   []*stream
	groups    []group // multicast groups received; nil: not read yet
	halves    map[half]map[uint32]sk_opts.SkShutdown
	signed    map[uint32]bool              // sockets whose segments are signed, by inode; nil: not listed yet
	lists     map[string]map[string]listed // see list
	held      map[pair]bool                // see isHeld; nil: not listed yet
	away      outgoing
}

// seen is what the kernel shows of a socket.
type seen struct {
	sort
	local, peer         netip.AddrPort // peer is not valid where there is none
	zone                uint32         // interface of a link-local address, 0: none
	state               int
	waiting, backlog    int // of a listener
	shutdown            sk_opts.SkShutdown
	tcpOpts, sndW, rcvW uint8 // TCPI_OPT_ bits and window scales
	mss                 int   // bytes in a segment that it sends, as it has come to be
	left, reset         bool  // closed, with something left to read, an error among it
	outside             bool  // a connection that leads out of the container
	cut, unanswered     bool  // see abandoned
	unmade, answered    bool  // closed: it has never been connected; its other end has said no
}

func (s *seen) connected() bool { return s.state != stateListen && s.state != stateClose }

// look reads what getsockname(2) and the like tell. It changes nothing.
func look(fd int) (*seen, error) {
	var err error
	s := &seen{state: stateClose}
	if s.sort, err = sortOf(fd); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, fmt.Errorf("read its address (getsockname): %w", err)
	}
	s.local, s.zone = netipOf(sa)
	if s.tcp() {
		if err := s.lookTCP(fd); err != nil {
			return nil, err
		}
	}
	sa, err = unix.Getpeername(fd)
	switch {
	case err == nil:
		s.peer, _ = netipOf(sa)
		if !s.tcp() {
			s.state = stateEstablished
		}
	case !errors.Is(err, unix.ENOTCONN):
		return nil, fmt.Errorf("read its peer (getpeername): %w", err)
	}
	return s, s.lookShutdown(fd)
}

// lookShutdown: poll(2) tells POLLRDHUP once nothing more will be read, and
// POLLHUP when nothing can be written either (of TCP also when it is closed).
// The state tells whether TCP can send.
func (s *seen) lookShutdown(fd int) error {
	shows, err := kernel.Poll(uintptr(fd), unix.POLLRDHUP)
	if err != nil {
		return fmt.Errorf("poll it: %w", err)
	}
	if s.state != stateListen && shows&unix.POLLRDHUP != 0 {
		s.shutdown |= sk_opts.SkShutdown_READ
		if shows&unix.POLLHUP != 0 {
			s.shutdown |= sk_opts.SkShutdown_WRITE
		}
	}
	if !s.tcp() {
		return nil
	}
	if sentFin(s.state) {
		s.shutdown |= sk_opts.SkShutdown_WRITE
	}
	if s.state == stateClose && s.shutdown == sk_opts.SkShutdown_BOTH {
		n, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
		if err != nil {
			return fmt.Errorf("read how much it has received (SIOCINQ): %w", err)
		}
		s.reset = shows&unix.POLLERR != 0
		if s.unanswered = s.reset && s.unmade; s.unanswered {
			s.reset = false
		}
		s.left = n > 0 || s.reset
	}
	return nil
}

func (s *saver) refuse(d *kind.Dump, desc *kind.Desc) error {
	if err := s.collect(d, false); err != nil {
		return err
	}
	i, err := look(int(desc.File.Fd()))
	if err != nil {
		return err
	}
	if err := s.check(d, desc, i); err != nil || d.Out != nil { // which Dump tells then
		return err
	}
	return tellLost(d, desc, i)
}

// check refuses what cannot be carried.
func (s *saver) check(d *kind.Dump, desc *kind.Desc, i *seen) error {
	if err := sockopt.Check(d, desc); err != nil {
		return err
	}
	if i.tcp() {
		return s.checkTCP(d, desc, i)
	}
	if err := checkRouting(d, i); err != nil {
		return err
	}
	told, err := i.toldNobody(int(desc.File.Fd()))
	if err == nil && !told {
		err = sockopt.CheckError(d, desc)
	}
	if err != nil {
		return err
	}
	return checkCork(desc)
}

func (s *saver) checkTCP(d *kind.Dump, desc *kind.Desc, i *seen) (err error) {
	switch {
	case i.state == stateListen && i.waiting > 0:
		_, err = s.queue(d, listener{desc, i.local, i.waiting})
	case i.connected():
		err = s.checkConnection(d, desc, i)
		if err == nil && i.state != stateSynSent {
			err = sockopt.CheckError(d, desc)
		}
	case i.unanswered && !i.answered: // why is not shown: time, or what a router said
		err = sockopt.CheckError(d, desc)
	}
	if err != nil || i.outside { // which has been asked, unless it is closed
		return err
	}
	return s.unsigned(d, desc, i, "close it before the dump")
}

// checkCork: what waits for the rest of a datagram (UDP_CORK, MSG_MORE)
// counts as not sent.
func checkCork(desc *kind.Desc) error {
	n, err := unix.IoctlGetInt(int(desc.File.Fd()), unix.SIOCOUTQ)
	if errors.Is(err, unix.ENOTTY) { // a ping socket, which has nothing to put together
		return nil
	}
	if err != nil {
		return fmt.Errorf("read how much it has to send (SIOCOUTQ): %w", err)
	}
	if n > 0 {
		return failure.WithHint(failure.Unsupportedf("a datagram not yet sent waits in it (UDP_CORK or MSG_MORE)"), "try again in a moment, when it is sent")
	}
	return nil
}

func (s *saver) dump(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	if err := s.collect(d, true); err != nil {
		return nil, err
	}
	fd := int(desc.File.Fd())
	i, err := look(fd)
	if err != nil {
		return nil, err
	}
	if err := s.lookPeer(d, desc, i); err != nil {
		return nil, err
	}
	if i.udp() {
		more, err := s.shutdownOf(d, desc, i)
		if err != nil {
			return nil, err
		}
		i.shutdown |= more
	}
	s.meet(desc) // one that came through Dump.AddFile
	if err := s.check(d, desc, i); err != nil {
		return nil, err
	}
	if err := tellLost(d, desc, i); err != nil {
		return nil, err
	}
	if i.outside {
		if i, err = s.part(d, desc, i); err != nil {
			return nil, err
		}
	}
	owner, err := d.Owner(desc)
	if err != nil {
		return nil, err
	}
	opts, err := sockopt.Dump(desc.File.Fd())
	if err != nil {
		return nil, err
	}
	e := &sk_inet.InetSkEntry{
		Id: proto.Uint32(desc.ID), Ino: proto.Uint32(uint32(desc.Stat.Ino)), Flags: proto.Uint32(desc.StatusFlags()),
		Family: proto.Uint32(uint32(i.family)), Type: proto.Uint32(uint32(i.typ)), Proto: proto.Uint32(uint32(i.proto)),
		State: proto.Uint32(uint32(i.state)), Backlog: proto.Uint32(uint32(i.backlog)),
		SrcPort: proto.Uint32(uint32(i.local.Port())), SrcAddr: words(i.local.Addr()), DstPort: proto.Uint32(uint32(i.peer.Port())),
		Fown: owner, Opts: opts,
	}
	if e.DstAddr = words(i.peer.Addr()); e.DstAddr == nil {
		e.DstAddr = make([]uint32, len(e.SrcAddr)) // as CRIU has it
	}
	if i.shutdown != sk_opts.SkShutdown_NONE {
		e.Shutdown = i.shutdown.Enum()
	}
	if i.zone != 0 {
		name, err := sockopt.InterfaceName(fd, i.zone)
		if err != nil {
			return nil, err
		}
		e.Ifname = proto.String(name)
	}
	if err := dumpFields(fd, i, e); err != nil {
		return nil, err
	}
	if err := s.extra(d, desc, i); err != nil {
		return nil, err
	}
	if i.connected() && i.tcp() && i.state != stateSynSent || i.left {
		kept, err := desc.Keep()
		if err != nil {
			return nil, err
		}
		s.streams = append(s.streams, &stream{desc: kept, i: i})
	}
	return &fdinfo.FileEntry{Isk: e}, nil
}

// dumpFields reads the options that the entry has fields for.
func dumpFields(fd int, i *seen, e *sk_inet.InetSkEntry) error {
	get := func(level, name int) (*bool, error) {
		v, err := unix.GetsockoptInt(fd, level, name)
		switch ok, err := has(err); {
		case err != nil:
			return nil, fmt.Errorf("read socket option %d of level %d: %w", name, level, err)
		case !ok:
			return nil, nil
		}
		return proto.Bool(v != 0), nil
	}
	e.IpOpts = &sk_inet.IpOptsEntry{}
	var err error
	if e.IpOpts.Freebind, err = get(unix.IPPROTO_IP, unix.IP_FREEBIND); err != nil {
		return err
	}
	if e.IpOpts.Pktinfo, err = get(unix.IPPROTO_IP, unix.IP_PKTINFO); err != nil {
		return err
	}
	if i.family == unix.AF_INET6 {
		e.V6Only, err = get(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	}
	return err
}

// extra saves what the entry has no field for. Whose the socket is decides
// who may join its SO_REUSEPORT group.
func (s *saver) extra(d *kind.Dump, desc *kind.Desc, i *seen) error {
	x := &image.FileExtra{Id: desc.ID}
	more, err := sockopt.More(desc.File.Fd())
	if err != nil {
		return err
	}
	x.WasReset, x.Unanswered = i.reset, i.unanswered
	if i.udp() {
		if x.Unanswered, err = i.toldNobody(int(desc.File.Fd())); err != nil {
			return err
		}
	}
	if i.outside {
		x.Table = d.Table
	}
	own, err := i.dumpOptions(int(desc.File.Fd()), i.connected() || i.left)
	if err != nil {
		return err
	}
	raw, err := i.dumpBytes(int(desc.File.Fd()))
	if err != nil {
		return err
	}
	if i.connected() {
		// The kernel writes it whenever something arrives; as if set it would
		// decide who of a SO_REUSEPORT group gets what.
		more = slices.DeleteFunc(more, option{unix.SOL_SOCKET, unix.SO_INCOMING_CPU, -1}.is)
	}
	x.SockOptions = slices.Concat(own, more, raw)
	if free, err := boundFreely(d, i); err != nil {
		return err
	} else if free != nil {
		x.SockOptions = append(x.SockOptions, free)
	}
	if i.state == stateListen && i.waiting > 0 {
		if err := s.saveQueue(d, desc, i, x); err != nil {
			return err
		}
	}
	if i.udp() {
		if err := saveDatagrams(d, desc, x); err != nil {
			return err
		}
	}
	if i.ping() {
		if x.PingGroups, err = pingRange(d); err != nil {
			return err
		}
	}
	if !i.tcp() {
		if x.Multicast, err = s.joined(d, int(desc.File.Fd()), i.sort); err != nil {
			return err
		}
	}
	if x.Inode, err = d.Inode(&desc.Stat); err != nil {
		return err
	}
	return d.Out.Add(image.FilesExtra, "", x)
}
