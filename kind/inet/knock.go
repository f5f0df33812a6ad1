package inet

import (
	"errors"
	"fmt"
	"net/netip"

	sk_inet "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-inet"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
)

// loadQueues finds the clients of the connections that wait at listeners. One
// that has closed its end has a stand-in, which does so again.
func (w *world) loadQueues() error {
	for _, l := range w.socks {
		for _, k := range l.x.GetKnocks() {
			if !l.listens() {
				return failure.Damagedf("%s: connections wait at it", l.shown())
			}
			c := w.byID[k.GetClient()]
			if k.GetClient() == 0 {
				var err error
				if c, err = l.goneClient(k); err != nil {
					return err
				}
				w.socks = append(w.socks, c)
			}
			if c == nil || !c.isStream() || c.knocks {
				return failure.Damagedf("%s: no connection of file %d waits at it", l.shown(), k.GetClient())
			}
			c.knocks = true
			l.knocking = append(l.knocking, c)
		}
	}
	return nil
}

func (s *sock) goneClient(k *image.Knock) (*sock, error) {
	from, ok := netip.AddrFromSlice(k.GetFrom())
	to, ok2 := netip.AddrFromSlice(k.GetTo())
	if !ok || !ok2 || k.GetPort() == 0 || k.GetPort() > 0xffff {
		return nil, failure.Damagedf("%s: who waits at it has no address", s.shown())
	}
	c := sort{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP}
	if from.Is6() {
		c.family = unix.AF_INET6
	}
	return &sock{sort: c, local: netip.AddrPortFrom(from, uint16(k.GetPort())), peer: netip.AddrPortFrom(to, s.local.Port()), standIn: true,
		e: &sk_inet.InetSkEntry{State: proto.Uint32(stateFinWait2)}}, nil
}

// letKnock connects all who wait at l, in their order.
func (w *world) letKnock(l *sock) error {
	for _, c := range l.knocking {
		if err := w.knock(c); err != nil {
			return c.fail(err)
		}
		if c.standIn {
			if err := c.f.Close(); err != nil {
				return c.fail(err)
			}
		}
	}
	return nil
}

// knock connects as any client does. Its port is bound in repair mode, past all
// that may be left of the saved container's.
func (w *world) knock(c *sock) error {
	if c.standIn {
		if err := w.create(c); err != nil {
			return err
		}
	} else if err := w.open(c); err != nil {
		return err
	}
	if err := repair(c.fd(), repairOn); err != nil {
		return err
	}
	if err := w.bind(c); err != nil {
		return err
	}
	if err := leave(c.fd()); err != nil {
		return err
	}
	zone, err := w.zone(c)
	if err != nil {
		return err
	}
	at, err := w.self()
	if err != nil {
		return err
	}
	defer at.Close()
	err = insist(at, pairOf(c.local, c.peer), func() error { return unix.Connect(c.fd(), sockaddr(c.peer, zone)) })
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect it: %w", err)
	}
	p := []unix.PollFd{{Fd: int32(c.fd()), Events: unix.POLLOUT}}
	if _, err := unix.Poll(p, int(patience.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait until it is connected: %w", err)
	}
	now := &seen{}
	if err := now.lookTCP(c.fd()); err != nil {
		return err
	}
	if now.state != stateEstablished {
		return fmt.Errorf("connect it: it is %s", stateNames[now.state])
	}
	return nil
}
