package inet

import (
	"errors"
	"fmt"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	sk_inet "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-inet"
	sk_opts "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-opts"
	tcp_stream "github.com/checkpoint-restore/go-criu/v7/crit/images/tcp-stream"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/sockopt"
)

// loadStream reads the connection that belongs to s.
func (w *world) loadStream(s *sock) error {
	if !s.tcp() || s.listens() {
		return nil
	}
	err := image.Each(w.r.In, image.TCPStream, image.TCPStream.ID(uint64(s.e.GetIno())), func(e *tcp_stream.TcpStreamEntry, data func(int) ([]byte, error)) (err error) {
		if e.GetUnsqLen() > e.GetOutqLen() {
			return failure.Damagedf("%s: %d bytes to send, of which %d are not sent", s.shown(), e.GetOutqLen(), e.GetUnsqLen())
		}
		s.st = e
		if s.in, err = data(int(e.GetInqLen())); err != nil {
			return err
		}
		s.out, err = data(int(e.GetOutqLen()))
		return err
	})
	if err == nil && s.isStream() && s.st == nil {
		err = failure.Damagedf("%s: %s is missing", s.shown(), image.TCPStream.Name(image.TCPStream.ID(uint64(s.e.GetIno()))))
	}
	return err
}

// pairUp finds both ends of every connection. Where the other end was closed
// before the dump, a stand-in takes its place until it closes again.
func (w *world) pairUp() error {
	byPair := map[pair]*sock{}
	for _, s := range w.socks {
		if s.isStream() && !s.knocks && !s.kept() {
			byPair[pairOf(s.local, s.peer)] = s
		}
	}
	for _, s := range w.socks {
		switch {
		case !s.isStream() || s.knocks || s.kept() || byPair[pairOf(s.local, s.peer).reverse()] != nil:
		case s.state() == stateCloseWait:
			w.socks = append(w.socks, standIn(s))
		default:
			return failure.WithHint(failure.Unsupportedf("%s: its other end is not in the image", s.shown()), "make the image with --tcp keep or --tcp close")
		}
	}
	return nil
}

// standIn is the end that s has lost: it had sent all and been told so. When
// it is closed, what is left of it (TIME_WAIT) must not hold the port of a
// listener against the next restore.
func standIn(s *sock) *sock {
	c := sort{s.family, s.typ, s.proto}
	return &sock{sort: c, local: s.peer, peer: s.local, standIn: true,
		e: &sk_inet.InetSkEntry{State: proto.Uint32(stateFinWait2), Ifname: s.e.Ifname, Opts: &sk_opts.SkOptsEntry{Reuseaddr: proto.Bool(true)}, DstPort: proto.Uint32(uint32(s.local.Port()))},
		st: &tcp_stream.TcpStreamEntry{OutqSeq: s.st.InqSeq, InqSeq: proto.Uint32(s.st.GetOutqSeq() - s.st.GetOutqLen()),
			OptMask: s.st.OptMask, SndWscale: s.st.RcvWscale, RcvWscale: s.st.SndWscale, MssClamp: s.st.MssClamp}}
}

// makeStream makes an end of a connection as it was before any half was shut
// down, and leaves it in repair mode: nothing is sent before the other end,
// too, is there.
func (w *world) makeStream(s *sock) error {
	if err := w.open(s); err != nil {
		return err
	}
	if s.kept() {
		if err := w.keep(s); err != nil {
			return err
		}
	}
	if err := repair(s.fd(), repairOn); err != nil {
		return err
	}
	inEnd, outEnd := s.st.GetInqSeq(), s.st.GetOutqSeq()
	if gotFin(s.state()) { // a FIN has a number, too
		inEnd--
	}
	if sentFin(s.state()) {
		outEnd--
	}
	if err := setQueueSeq(s.fd(), recvQueue, inEnd-s.st.GetInqLen()); err != nil {
		return err
	}
	if err := setQueueSeq(s.fd(), sendQueue, outEnd-s.st.GetOutqLen()); err != nil {
		return err
	}
	if err := w.bind(s); err != nil {
		return err
	}
	if err := w.connect(s); err != nil {
		return err
	}
	if err := setNegotiated(s.fd(), s.st); err != nil {
		return err
	}
	if err := w.refill(s); err != nil {
		return err
	}
	if gotFin(s.state()) && s.st.RcvWup != nil {
		s.st.RcvWup, s.st.RcvWnd = proto.Uint32(min32(s.st.GetRcvWup(), inEnd)), proto.Uint32(s.st.GetRcvWnd()+1)
	}
	if err := setWindow(s.fd(), s.st); err != nil {
		return err
	}
	return nil
}

// min32 is the earlier of two sequence numbers.
func min32(a, b uint32) uint32 {
	if int32(a-b) < 0 {
		return a
	}
	return b
}

// connect needs no answer in repair mode. EADDRNOTAVAIL: there is such a
// connection already.
func (w *world) connect(s *sock) error {
	zone, err := w.zone(s)
	if err != nil {
		return err
	}
	// The segment size is settled when it connects, by what it is limited to
	// then (tcp_connect_init()); TCP_REPAIR_OPTIONS comes too late for that.
	const most = 32767 // MAX_TCP_WINDOW
	if err := setSegment(s.fd(), min(int(s.st.GetMssClamp()), most)); err != nil {
		return err
	}
	at, err := w.self()
	if err != nil {
		return err
	}
	defer at.Close()
	err = insist(at, pairOf(s.local, s.peer), func() error { return unix.Connect(s.fd(), sockaddr(s.peer, zone)) })
	if err == nil {
		return setSegment(s.fd(), 0)
	}
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return failure.WithHint(fmt.Errorf("there still is a connection between these ports here: %w", err),
			"try again in a minute, when the old one is forgotten", "or start containers with a network of their own (--net none)")
	}
	return s.noWay(err)
}

// noWay words the errors of connect(2) to where no route leads.
func (s *sock) noWay(err error) error {
	for _, e := range []unix.Errno{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EINVAL, unix.EACCES} { // as a route says: none, unreachable, blackhole, prohibit
		if errors.Is(err, e) {
			return failure.WithHint(fmt.Errorf("there is no way to %s from here: %w", s.peer.Addr(), err), "connect this machine to the network of the other end (ip route)")
		}
	}
	if err != nil {
		return fmt.Errorf("connect it: %w", err)
	}
	return nil
}

func setSegment(fd, n int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, n); err != nil {
		return fmt.Errorf("set TCP_MAXSEG to %d: %w", n, err)
	}
	return nil
}

// refill fills both queues with what had arrived and what was sent and not
// acknowledged. What was not sent yet follows in link.
func (w *world) refill(s *sock) error {
	if err := roomy(s.fd()); err != nil {
		return err
	}
	for _, q := range []struct {
		queue int
		data  []byte
	}{{recvQueue, s.in}, {sendQueue, s.out[:len(s.out)-int(s.st.GetUnsqLen())]}} {
		if err := unix.SetsockoptInt(s.fd(), unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, q.queue); err != nil {
			return fmt.Errorf("choose queue %d (TCP_REPAIR_QUEUE): %w", q.queue, err)
		}
		if err := pour(s.fd(), q.data); err != nil {
			return err
		}
	}
	return nil
}

// roomy lets the queues take as much as they held: the limits may have been
// higher then. The saved ones are set again at the end.
func roomy(fd int) error {
	const room = 1 << 28
	for _, o := range [][2]int{{unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}, {unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}} {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[0], room)
		if errors.Is(err, unix.EPERM) {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[1], room)
		}
		if err != nil {
			return fmt.Errorf("make room in its queues: %w", err)
		}
	}
	return nil
}

// inRepair is how many steps of link are for connections made in repair mode.
const inRepair = 4

// link runs once, when all sockets are there: the connections come to life.
func (w *world) link(r *kind.Restore, _ *fdinfo.FileEntry, _ *os.File) error {
	if w.linked {
		return nil
	}
	w.linked = true
	defer w.dropStandIns()
	for _, s := range w.socks {
		if s.standIn {
			continue
		}
		if _, err := r.File(s.e.GetId()); err != nil { // the driver's from here on
			return err
		}
	}
	for n, step := range []func(*sock) error{narrow, wake, sendRest, probe, putBack, endOther, shutStream, w.finishStream} {
		for _, s := range w.socks {
			if !s.isStream() || s.knocks && (n < inRepair || s.standIn) {
				continue
			}
			if err := step(s); err != nil {
				return s.fail(err)
			}
		}
	}
	for _, s := range w.socks {
		if err := w.tellNobody(s); err != nil {
			return s.fail(err)
		}
	}
	return nil
}

// narrow lets s take no more than it did: else all that waits at the other end
// would arrive, and the connection might even come to its end.
func narrow(s *sock) error {
	return sockopt.Restore(s.f.Fd(), &sk_opts.SkOptsEntry{SoRcvbuf: s.e.GetOpts().SoRcvbuf})
}

func wake(s *sock) error { return leave(s.fd()) }

// sendRest sends what had not been sent yet, as far as the window allows; the
// kernel keeps the rest.
func sendRest(s *sock) error { return pour(s.fd(), s.out[len(s.out)-int(s.st.GetUnsqLen()):]) }

// probe has the other end say how far it is: leaving repair mode sends a
// window probe, also where the mode is off already.
func probe(s *sock) error { return repair(s.fd(), repairOff) }

// shutStream sends the FIN that had been sent. Where the other end had it, it
// arrives again; where data stood in front of it, it waits again.
func shutStream(s *sock) error {
	if sentFin(s.state()) {
		if err := unix.Shutdown(s.fd(), unix.SHUT_WR); err != nil {
			return fmt.Errorf("shut down its sending half: %w", err)
		}
	}
	if !gotFin(s.state()) && s.e.GetShutdown()&sk_opts.SkShutdown_READ != 0 {
		if err := unix.Shutdown(s.fd(), unix.SHUT_RD); err != nil {
			return fmt.Errorf("shut down its receiving half: %w", err)
		}
	}
	return nil
}

func (w *world) finishStream(s *sock) error {
	if s.standIn {
		return nil
	}
	if err := s.putBuffers(); err != nil {
		return err
	}
	if s.st.GetCork() {
		// Sends what it has kept back: 200 ms are all that it may (tcp(7)), which
		// are seconds where no round trip has been measured yet.
		if err := unix.SetsockoptInt(s.fd(), unix.IPPROTO_TCP, unix.TCP_CORK, 0); err != nil {
			return fmt.Errorf("send what it has kept back (TCP_CORK): %w", err)
		}
	}
	for _, b := range []struct {
		name int
		on   bool
	}{{unix.TCP_NODELAY, s.st.GetNodelay()}, {unix.TCP_CORK, s.st.GetCork()}} {
		if !b.on {
			continue
		}
		if err := unix.SetsockoptInt(s.fd(), unix.IPPROTO_TCP, b.name, 1); err != nil {
			return fmt.Errorf("set TCP option %d: %w", b.name, err)
		}
	}
	for _, o := range s.x.GetSockOptions() {
		if windowClamp.is(o) {
			if err := sockopt.RestoreMore(s.f.Fd(), []*image.SockOption{o}); err != nil {
				return err
			}
		}
	}
	return w.r.RestoreOwner(s.f, s.e.GetFown())
}

// putBuffers undoes roomy.
func (s *sock) putBuffers() error {
	o := s.e.GetOpts()
	return sockopt.Restore(s.f.Fd(), &sk_opts.SkOptsEntry{SoSndbuf: o.SoSndbuf, SoRcvbuf: o.SoRcvbuf, SoBufLock: o.SoBufLock})
}

// dropStandIns closes the ends that were closed before.
func (w *world) dropStandIns() {
	for _, s := range w.socks {
		if s.standIn {
			s.f.Close()
		}
	}
}
