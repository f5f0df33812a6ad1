package inet

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	sk_inet "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-inet"
	sk_opts "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-opts"
	tcp_stream "github.com/checkpoint-restore/go-criu/v7/crit/images/tcp-stream"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/sockopt"
)

// world is one restore. Sockets may share a port, so that their order
// matters: the first one that is asked for makes them all.
type world struct {
	loaded bool
	tried  bool // whether connections that lead out can go on, see ableToKeep
	unable error
	linked bool
	err    error
	r      *kind.Restore
	socks  []*sock // by id
	byID   map[uint32]*sock
}

// sock is one socket to be made.
type sock struct {
	sort
	e           *sk_inet.InetSkEntry
	x           *image.FileExtra // nil: an image of criu's
	local, peer netip.AddrPort
	f           *os.File // nil: not made yet
	// st is a connection, or what one has left behind; nil: neither. in and
	// out are the contents of its queues.
	st      *tcp_stream.TcpStreamEntry
	in, out []byte
	err     error
	waiting [][]byte // datagrams received, and not by the program
	// knocking are the clients of connections that wait to be accepted, in
	// their order; knocks: it is one.
	knocking []*sock
	knocks   bool
	standIn  bool     // for an end that is gone: has no entry in files.img
	crowded  bool     // see crowd
	again    *os.File // see keep
}

func (s *sock) fd() int       { return int(s.f.Fd()) }
func (s *sock) state() int    { return int(s.e.GetState()) }
func (s *sock) listens() bool { return s.tcp() && s.state() == stateListen }
func (s *sock) hasPeer() bool {
	return s.e.GetDstPort() != 0 || !s.tcp() && s.state() == stateEstablished
}
func (s *sock) isStream() bool {
	return s.tcp() && s.state() != stateListen && s.state() != stateClose && !s.connecting()
}

func (w *world) restore(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	if !w.loaded {
		w.loaded, w.r = true, r
		if w.err = w.load(); w.err == nil {
			w.make()
		}
	}
	if w.err != nil {
		return nil, w.err
	}
	s := w.byID[e.GetId()]
	return s.f, s.err
}

func (w *world) load() error {
	w.byID = map[uint32]*sock{}
	for _, id := range slices.Sorted(maps.Keys(w.r.Entries)) {
		if w.r.Entries[id].GetType() != fdinfo.FdTypes_INETSK {
			continue
		}
		e := w.r.Entries[id].GetIsk()
		if e == nil || e.GetOpts() == nil {
			return failure.Damagedf("internet socket %d without its entry", id)
		}
		s := &sock{e: e, x: w.r.Extras[id], sort: sort{int(e.GetFamily()), int(e.GetType()), int(e.GetProto())}}
		var err error
		if err = s.check(); err != nil {
			return err
		}
		if s.local, err = addrOf(s.family, e.GetSrcAddr(), e.GetSrcPort()); err != nil {
			return err
		}
		if s.hasPeer() {
			if s.peer, err = addrOf(s.family, e.GetDstAddr(), e.GetDstPort()); err != nil {
				return err
			}
		}
		if err := w.loadStream(s); err != nil {
			return err
		}
		w.socks = append(w.socks, s)
		w.byID[id] = s
	}
	w.crowd()
	if err := w.loadDatagrams(); err != nil {
		return err
	}
	if err := w.loadQueues(); err != nil {
		return err
	}
	return w.pairUp()
}

// make delivers what datagram sockets had received first, as long as no port is
// taken. Listeners come before what else is bound to their port, for that takes
// less. It goes on after an error, so that all that stand in the way are told.
func (w *world) make() {
	if w.err = w.holdKept(); w.err != nil {
		return
	}
	failed := false
	for _, step := range []struct {
		of func(*sock) bool
		do func(*sock) error
	}{
		{func(s *sock) bool { return len(s.waiting) > 0 }, w.deliver},
		{(*sock).listens, w.makeListener},
		{func(s *sock) bool { return len(s.knocking) > 0 }, w.letKnock},
		{func(s *sock) bool { return s.tcp() && !s.listens() && !s.isStream() && !s.connecting() }, w.makeClosed},
		{func(s *sock) bool { return !s.tcp() }, w.makeDatagram},
		{func(s *sock) bool { return s.isStream() && !s.knocks }, w.makeStream},
		{(*sock).connecting, w.makeConnecting},
	} {
		for _, s := range w.socks {
			if !step.of(s) || s.err != nil {
				continue
			}
			if err := step.do(s); err != nil {
				failed = true
				s.err = s.fail(err)
				s.f.Close()
				s.f = nil
			}
		}
	}
	if !failed {
		w.err = w.uncrowd()
		return
	}
	for _, s := range w.socks {
		if s.standIn {
			w.err = errors.Join(w.err, s.err)
			s.f.Close()
		}
	}
}

// fail names the socket in front of an error.
func (s *sock) fail(err error) error { return fmt.Errorf("%s: %w", s.shown(), err) }

func (s *sock) shown() string {
	switch {
	case s.isStream():
		return fmt.Sprintf("%s connection %s to %s", s.name(), s.local, s.peer)
	case s.raw():
		return s.name() + " " + s.local.Addr().String()
	case s.local.Port() == 0:
		return s.name()
	}
	return s.name() + " " + s.local.String()
}

// open makes the socket with all its options: those who connect later inherit
// them, some decide what bind(2) may do.
func (w *world) open(s *sock) error {
	if s.f == nil { // else deliver has made it
		if err := w.create(s); err != nil {
			return err
		}
	}
	if err := kind.SetInode(s.f, s.x.GetInode()); err != nil {
		return err
	}
	return w.setOptions(s)
}

// create makes the socket itself.
func (w *world) create(s *sock) error {
	make := func(s *sock) (int, error) { return unix.Socket(s.family, s.typ|unix.SOCK_CLOEXEC, s.proto) }
	if s.ping() {
		make = w.newPing
	}
	fd, err := make(s)
	if err != nil {
		return s.socketError(err)
	}
	s.f, err = kind.NewFile(fd, s.e.GetFlags(), "internet socket")
	return err
}

func (w *world) setOptions(s *sock) error {
	var fields []*image.SockOption
	add := func(level, name int, v *bool) {
		if v != nil {
			o := &image.SockOption{Level: int32(level), Name: int32(name)}
			if *v {
				o.Value = 1
			}
			fields = append(fields, o)
		}
	}
	if !s.isStream() { // of a connection it means nothing, and bind sets it
		add(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, s.e.V6Only)
	}
	if o := s.e.GetIpOpts(); o != nil {
		add(unix.IPPROTO_IP, unix.IP_FREEBIND, o.Freebind)
		add(unix.IPPROTO_IP, unix.IP_PKTINFO, o.Pktinfo)
	}
	if err := sockopt.RestoreMore(s.f.Fd(), fields); err != nil {
		return err
	}
	if err := sockopt.Restore(s.f.Fd(), s.e.GetOpts()); err != nil {
		return err
	}
	own := ints(s.x.GetSockOptions())
	if s.st != nil {
		own = slices.DeleteFunc(own, windowClamp.is)
	}
	if err := sockopt.RestoreMore(s.f.Fd(), own); err != nil {
		return err
	}
	if err := sockopt.Priority(s.f.Fd(), s.e.GetOpts()); err != nil {
		return err
	}
	if err := restoreBytes(w.r, s.fd(), s.x.GetSockOptions()); err != nil {
		return err
	}
	for _, m := range s.x.GetMulticast() {
		if err := join(s.fd(), m); err != nil {
			return err
		}
	}
	return nil
}

// bind binds a socket that was. TCP binds past connections that are still
// closing (TIME_WAIT), those of the saved container, if they were made with
// SO_REUSEADDR; others are put an end to.
func (w *world) bind(s *sock) error {
	if s.local.Port() == 0 || s.raw() && s.local.Addr().IsUnspecified() {
		return nil
	}
	if s.tcp() && !s.isStream() && !s.e.GetOpts().GetReuseaddr() { // repair mode binds past everything
		if err := unix.SetsockoptInt(s.fd(), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return fmt.Errorf("set SO_REUSEADDR: %w", err)
		}
	}
	if s.crowded {
		if err := unix.SetsockoptInt(s.fd(), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return fmt.Errorf("set SO_REUSEPORT: %w", err)
		}
	}
	zone, err := w.zone(s)
	if err != nil {
		return err
	}
	err = unix.Bind(s.fd(), sockaddr(s.local, zone))
	if errors.Is(err, unix.EADDRINUSE) && s.tcp() {
		if err := w.evictClosing(s.local); err != nil {
			return err
		}
		err = unix.Bind(s.fd(), sockaddr(s.local, zone))
	}
	if err != nil {
		return s.addressError(err)
	}
	return s.unfree()
}

// unfree switches IP_FREEBIND off, if only bind(2) has taken it (boundFreely).
func (s *sock) unfree() error {
	if o := s.e.GetIpOpts(); o == nil || o.Freebind == nil || o.GetFreebind() {
		return nil
	}
	return sockopt.RestoreMore(s.f.Fd(), []*image.SockOption{{Level: unix.IPPROTO_IP, Name: unix.IP_FREEBIND}})
}

func (w *world) zone(s *sock) (uint32, error) {
	if s.e.GetIfname() == "" {
		return 0, nil
	}
	return sockopt.InterfaceIndex(s.fd(), s.e.GetIfname())
}

// addressError puts in words why an address is not to be had.
func (s *sock) addressError(err error) error {
	a, name := s.local, "udp"
	if s.tcp() {
		name = "tcp"
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EADDRINUSE) && s.ping():
		return failure.WithHint(fmt.Errorf("another program has ping identifier %d here: %w", a.Port(), err),
			"end that program, or start containers with a network of their own (--net none)")
	case errors.Is(err, unix.EADDRINUSE):
		return failure.WithHint(fmt.Errorf("another program has %s port %d here: %w", name, a.Port(), err),
			fmt.Sprintf("find it with: ss -lpn 'sport = :%d'; end it, or start containers with a network of their own (--net none)", a.Port()))
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return failure.WithHint(fmt.Errorf("this machine does not have the address %s: %w", a.Addr(), err),
			fmt.Sprintf("give it the address (ip address add %s dev INTERFACE), or have the program listen on all addresses", a.Addr()))
	case errors.Is(err, unix.EACCES):
		return failure.WithHint(fmt.Errorf("port %d is for root: %w", a.Port(), err), "restore as root, or lower net.ipv4.ip_unprivileged_port_start (sysctl)")
	}
	return fmt.Errorf("bind it: %w", err)
}

// putBack sets SO_REUSEADDR to what it was after bind, and after repair mode.
func putBack(s *sock) error {
	v := 0
	if s.e.GetOpts().GetReuseaddr() {
		v = 1
	}
	if err := unix.SetsockoptInt(s.fd(), unix.SOL_SOCKET, unix.SO_REUSEADDR, v); err != nil {
		return fmt.Errorf("set SO_REUSEADDR: %w", err)
	}
	return nil
}

func (w *world) makeListener(s *sock) error {
	if err := w.open(s); err != nil {
		return err
	}
	if err := w.bind(s); err != nil {
		return err
	}
	if err := unix.Listen(s.fd(), int(s.e.GetBacklog())); err != nil {
		return s.addressError(err)
	}
	return w.finishOne(s)
}

// makeClosed makes a TCP socket without a connection.
func (w *world) makeClosed(s *sock) error {
	if err := w.open(s); err != nil {
		return err
	}
	if err := w.bind(s); err != nil {
		return err
	}
	switch {
	case s.st != nil:
		if err := w.leaveBehind(s); err != nil {
			return err
		}
	case s.x.GetUnanswered():
		if err := s.beRefused(); err != nil {
			return err
		}
	}
	return w.finishOne(s)
}

func (w *world) makeDatagram(s *sock) error {
	if err := w.open(s); err != nil {
		return err
	}
	if err := w.bind(s); err != nil {
		return err
	}
	if s.hasPeer() {
		zone, err := w.zone(s)
		if err != nil {
			return err
		}
		if err := unix.Connect(s.fd(), sockaddr(s.peer, zone)); err != nil {
			return fmt.Errorf("connect it to %s: %w", s.peer, err)
		}
	}
	return w.finishOne(s)
}

func (w *world) finishOne(s *sock) error {
	if s.tcp() {
		if err := putBack(s); err != nil {
			return err
		}
	}
	how, ok := map[sk_opts.SkShutdown]int{sk_opts.SkShutdown_READ: unix.SHUT_RD, sk_opts.SkShutdown_WRITE: unix.SHUT_WR, sk_opts.SkShutdown_BOTH: unix.SHUT_RDWR}[s.e.GetShutdown()]
	if ok {
		// A socket without a peer is shut down, too, though ENOTCONN is the answer (inet_shutdown()).
		if err := unix.Shutdown(s.fd(), how); err != nil && !errors.Is(err, unix.ENOTCONN) {
			return fmt.Errorf("shut it down: %w", err)
		}
	}
	return w.r.RestoreOwner(s.f, s.e.GetFown())
}
