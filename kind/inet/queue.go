package inet

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
)

// Connections that wait to be accepted have an end that nobody holds. What has
// arrived there nobody can read but by accepting it, and then it could not be
// put back. So those are kept over which nothing has been sent: their clients
// connect again. For others it is the program's turn first.

// listener is one of the container's with connections waiting.
type listener struct {
	desc    *kind.Desc
	local   netip.AddrPort
	waiting int
}

// knock is a connection that waits, as its client sees it.
type knock struct {
	pair
	client *kind.Desc // nil: it has closed its end
	at     time.Time  // when the client was answered, to a jiffy or two
}

// blur is within what two times of answers may be in the wrong order.
const blur = 10 * time.Millisecond

// Offset in struct tcp_info (linux/tcp.h).
const infoLastAck = 56 // tcpi_last_ack_recv, in ms

// queue gives the connections that wait at l, in the order of their answers,
// which is that in which they are accepted; where these follow too closely upon
// each other, in the order of the clients' descriptors. Those from outside are
// left out where they are to be closed.
func (s *saver) queue(d *kind.Dump, l listener) ([]knock, error) {
	var out []knock
	var waits error
	dropped := 0
	at, err := whoseNet(d)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	err = eachConnection(at, func(c listed) bool {
		if c.inode != "0" || c.state != stateEstablished && c.state != stateCloseWait || !overlap(c.local, l.local) {
			return true
		}
		k := knock{pair: c.reverse(), client: s.ours[c.reverse()]}
		if d.Outside == kind.Close {
			var drop bool
			if drop, waits = k.outside(d, c); waits != nil {
				return false
			}
			if drop {
				dropped++
				return true
			}
		}
		if waits = k.check(d, c); waits != nil {
			return false
		}
		out = append(out, k)
		return true
	})
	switch {
	case err != nil:
		return nil, err
	case waits != nil:
		return nil, s.busy(d, l, waits)
	case len(out)+dropped != l.waiting || slices.ContainsFunc(s.listeners, func(o listener) bool { return o.desc != l.desc && overlap(o.local, l.local) }):
		return nil, s.busy(d, l, failure.Unsupportedf("connections wait to be accepted on %s: %d", l.local, l.waiting))
	}
	order(out)
	return out, nil
}

// order sorts by time. Those whose clients are gone have none, and come last.
func order(q []knock) {
	slices.SortStableFunc(q, func(a, b knock) int {
		if a.client == nil || b.client == nil {
			return cmp.Compare(boolean(a.client == nil), boolean(b.client == nil))
		}
		return a.at.Compare(b.at)
	})
	for from := 0; from < len(q); {
		to := from + 1
		for to < len(q) && q[to].client != nil && q[to].at.Sub(q[to-1].at) < blur {
			to++
		}
		if q[from].client != nil {
			slices.SortFunc(q[from:to], func(a, b knock) int { return cmp.Compare(a.client.ID, b.client.ID) })
		}
		from = to
	}
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

// outside tells whether it comes from outside the container; c is the end that
// waits.
func (k *knock) outside(d *kind.Dump, c listed) (bool, error) {
	if k.client != nil {
		return false, nil
	}
	o, err := find(d, k.pair)
	return o == otherHeld || c.state == stateEstablished || !k.local.Addr().IsLoopback() && k.local.Addr() != k.peer.Addr(), err
}

// check refuses a connection that cannot be made again, of which c is the end
// that waits. The end of a stream counts as a byte that has arrived.
func (k *knock) check(d *kind.Dump, c listed) error {
	yes, err := k.outside(d, c)
	if err != nil {
		return err
	}
	if yes {
		return failure.WithHint(failure.Unsupportedf("a connection from %s, which is outside the container, waits to be accepted on %s", k.local, k.peer),
			"or have it closed: --tcp close")
	}
	arrived := c.received
	if c.state == stateCloseWait && arrived > 0 {
		arrived--
	}
	if arrived > 0 {
		return failure.Unsupportedf("a connection from %s waits to be accepted on %s, over which data has come", k.local, k.peer)
	}
	if k.client == nil {
		return nil
	}
	fd := int(k.client.File.Fd())
	n, _, err := toSend(fd)
	if err != nil {
		return err
	}
	now := &seen{}
	if err := now.lookTCP(fd); err != nil {
		return err
	}
	if awaitsAck(now.state) {
		n--
	}
	if n > 0 {
		return failure.Unsupportedf("a connection from %s waits to be accepted on %s, over which data is under way", k.local, k.peer)
	}
	b, err := kernel.SocketOption(uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO, make([]byte, infoSize))
	if err != nil || len(b) < infoSize {
		return fmt.Errorf("read TCP_INFO: %w", err)
	}
	k.at = time.Now().Add(-time.Duration(binary.NativeEndian.Uint32(b[infoLastAck:])) * time.Millisecond)
	return nil
}

// busy lets the program accept what waits.
func (s *saver) busy(d *kind.Dump, l listener, err error) error {
	err = failure.WithHint(err, "try again in a moment, when the program has accepted it")
	return &kind.Busy{Err: err, Holders: d.Holders(l.desc), Done: func() bool {
		now := &seen{}
		return now.lookTCP(int(l.desc.File.Fd())) != nil || now.waiting == 0
	}}
}

// knocks tells whether p is the client of a connection that waits and is kept.
func (s *saver) knocks(d *kind.Dump, p pair) bool {
	for _, l := range s.listeners {
		if !overlap(l.local, p.peer) {
			continue
		}
		q, err := s.queue(d, l)
		if err == nil && slices.ContainsFunc(q, func(k knock) bool { return k.pair == p }) {
			return true
		}
	}
	return false
}

// saveQueue notes who waits at a listener, in order.
func (s *saver) saveQueue(d *kind.Dump, desc *kind.Desc, i *seen, x *image.FileExtra) error {
	q, err := s.queue(d, listener{desc, i.local, i.waiting})
	if err != nil {
		return err
	}
	for _, k := range q {
		w := &image.Knock{From: k.local.Addr().AsSlice(), Port: uint32(k.local.Port()), To: k.peer.Addr().AsSlice()}
		if k.client != nil {
			w.Client = k.client.ID
		}
		x.Knocks = append(x.Knocks, w)
	}
	return nil
}

// received reads the second of the two lengths of a line of /proc/net/tcp
// ("00000000:0000000A").
func received(w string) uint32 {
	var n uint32
	if _, hex, ok := strings.Cut(w, ":"); ok {
		_, _ = fmt.Sscanf(hex, "%x", &n)
	}
	return n
}
