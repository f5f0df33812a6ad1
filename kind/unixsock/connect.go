package unixsock

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/pidns"
)

// manyWaiting is the backlog while connections are being made; link sets the
// saved one.
const manyWaiting = 4096

func (s *sock) open() error {
	fd, err := unix.Socket(unix.AF_UNIX, s.typ()|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a unix socket: %w", err)
	}
	return s.keep(fd)
}

func (w *world) makeListener(s *sock) error {
	if err := w.openAs(s, s.x.GetPeerCred()); err != nil {
		return err
	}
	if err := w.bind(s); err != nil {
		return err
	}
	return w.listen(s, manyWaiting, s.x.GetPeerCred())
}

// listen records its caller for SO_PEERCRED of who connects later.
func (w *world) listen(s *sock, backlog int, c *image.Ucred) error {
	if s.there != nil {
		return s.there.listen(backlog)
	}
	return place{}.run(c, func() error {
		if err := unix.Listen(s.fd(), backlog); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		return nil
	})
}

// makeAlone makes a stream socket that is not connected.
func (w *world) makeAlone(s *sock) error {
	if err := s.open(); err != nil {
		return err
	}
	return w.bind(s)
}

// pair makes a and b the ends of a socketpair(2).
func (w *world) pair(a, b *sock) error {
	var p [2]int
	var err error
	if c := a.x.GetPeerCred(); w.canBe(c) {
		p, err = w.pairAs(a.typ(), c)
	} else {
		err = place{}.run(c, func() (err error) {
			p, err = unix.Socketpair(unix.AF_UNIX, a.typ()|unix.SOCK_CLOEXEC, 0)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("make a pair of unix sockets: %w", err)
	}
	if err := a.keep(p[0]); err != nil {
		unix.Close(p[1])
		return err
	}
	return b.keep(p[1])
}

// other is the other end of a connection, there or not.
func (s *sock) other() *sock {
	if s.peer != nil {
		return s.peer
	}
	return s.gone
}

// makeConnection makes both ends of a stream. An end that was accepted has
// its listener's name, and gets it by being accepted again.
func (w *world) makeConnection(a *sock) error {
	b := a.other()
	if a.peer != nil && b.peer != a {
		return failure.Damagedf("its peer is connected to another socket")
	}
	server, client := w.roles(a, b)
	if server == nil {
		return w.pair(a, b)
	}
	l, err := w.listenerFor(server, client.x.GetPeerCred())
	if err != nil {
		return err
	}
	if !slices.Contains(w.socks, l) {
		defer l.f.Close()
		defer l.leave()
	}
	if err := w.openAs(client, server.x.GetPeerCred()); err != nil {
		return err
	}
	defer client.leave()
	if err := w.bindAside(client); err != nil {
		return err
	}
	if err := client.connect(l, server.x.GetPeerCred()); err != nil {
		return err
	}
	fd, _, err := unix.Accept4(l.fd(), unix.SOCK_CLOEXEC)
	if err != nil {
		return fmt.Errorf("accept a connection: %w", err)
	}
	return server.keep(fd)
}

// roles tells which end was accepted. server is nil when both have no name,
// as those of socketpair(2). Where both have one and nobody listens under
// either: bind(2) gives a name to one socket only, and the inode of an
// accepted one was made last.
func (w *world) roles(a, b *sock) (server, client *sock) {
	switch {
	case !a.named() && !b.named():
		return nil, nil
	case !a.named():
		return b, a
	case !b.named():
		return a, b
	}
	for _, likely := range []func(*sock) bool{
		func(s *sock) bool { return w.listener(s) != nil },
		func(s *sock) bool { return w.namesakes(s) > 1 },
		func(s *sock) bool { return s.e.GetIno() == max(a.e.GetIno(), b.e.GetIno()) },
	} {
		switch {
		case likely(a) && !likely(b):
			return a, b
		case likely(b) && !likely(a):
			return b, a
		}
	}
	return a, b
}

func (w *world) namesakes(s *sock) (n int) {
	for _, o := range w.socks {
		if o.typ() == s.typ() && bytes.Equal(o.name(), s.name()) {
			n++
		}
	}
	return n
}

// listener is the socket that listens under the name of s.
func (w *world) listener(s *sock) *sock {
	for _, l := range w.socks {
		if l.listens() && l.typ() == s.typ() && bytes.Equal(l.name(), s.name()) {
			return l
		}
	}
	return nil
}

// listenerFor is a listener to accept s from: that of the image, or one for
// the moment where it has been closed since.
func (w *world) listenerFor(s *sock, c *image.Ucred) (*sock, error) {
	if l := w.listener(s); l != nil {
		return l, nil
	}
	l := standIn(s, s.e.GetName())
	if err := w.openAs(l, c); err != nil {
		return nil, err
	}
	err := w.bindAside(l)
	if err == nil {
		err = w.listen(l, 1, c)
	}
	if err != nil {
		l.leave()
		l.f.Close()
	}
	return l, err
}

// connect connects s to l as the user of c. A user who may not open the file
// of the listener now could when it connected: then as ckpt.
func (s *sock) connect(l *sock, c *image.Ucred) error {
	if addr := l.reach(); s.there != nil && addr != nil {
		if err := s.there.connect(addr); err == nil || !errors.Is(err, unix.EACCES) {
			return err
		}
	}
	do := func() error { return kernel.ConnectUnix(s.fd(), l.name()) }
	err := l.home.run(c, do)
	if errors.Is(err, unix.EACCES) && c != nil {
		err = l.home.run(nil, do)
	}
	if err != nil {
		return fmt.Errorf("connect to %s: %w", shown(l.name()), err)
	}
	return nil
}

// makeWaiting connects those that wait to be accepted, in their order.
func (w *world) makeWaiting() error {
	for _, l := range w.socks {
		if !l.listens() {
			continue
		}
		for _, s := range w.waitingFor(l) {
			if err := w.makeWaiter(s, l); err != nil {
				return s.fail(err)
			}
		}
	}
	return nil
}

func (w *world) makeWaiter(s, l *sock) error {
	c := w.holder(s)
	if err := w.openAs(s, c); err != nil {
		return err
	}
	defer s.leave()
	if err := w.bindAside(s); err != nil {
		return err
	}
	return s.connect(l, c)
}

// waitingFor are the sockets connected to l, as saved; an image of criu's
// does not tell their order.
func (w *world) waitingFor(l *sock) []*sock {
	var out []*sock
	for _, ino := range l.x.GetPending() {
		if s := w.byIno[ino]; s != nil && s.waits() && s.peer == l {
			out = append(out, s)
		}
	}
	for _, s := range w.socks {
		if s.waits() && s.peer == l && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// holder is the process that has s first: most likely the one that made it.
func (w *world) holder(s *sock) *image.Ucred {
	for _, t := range w.r.Targets {
		for _, d := range t.Fds {
			if d.GetId() != s.e.GetId() || len(t.Threads) == 0 {
				continue
			}
			c := t.Threads[0].Core.GetThreadCore().GetCreds()
			if c == nil {
				return nil
			}
			return &image.Ucred{Pid: uint32(t.VPID), Uid: c.GetEuid(), Gid: c.GetEgid(), Groups: c.GetGroups()}
		}
	}
	return nil
}

// makeDatagram makes a datagram socket, and its partner where the two can
// only have come from socketpair(2). Others are connected by link, once their
// queues are full: a connected one takes messages from its peer alone.
func (w *world) makeDatagram(s *sock) error {
	o := s.other()
	if o == nil || s.named() && o.named() || s.peer != nil && o.peer != s {
		if err := s.open(); err != nil {
			return err
		}
		return w.bind(s)
	}
	if err := w.pair(s, o); err != nil {
		return err
	}
	s.paired, o.paired = true, true
	if err := w.bind(s); err != nil {
		return err
	}
	if o == s.gone {
		return w.bindAside(o)
	}
	return o.fail(w.bind(o))
}

// connectDatagram sets the peer of a socket that is not one of a pair.
func (w *world) connectDatagram(s *sock) error {
	o := s.other()
	if s.stream() || s.paired || o == nil || s.leadsOut() {
		return nil
	}
	if !o.named() {
		return failure.Damagedf("a datagram socket is connected to one without a name")
	}
	if o == s.gone {
		if err := o.open(); err != nil {
			return err
		}
		if err := w.bindAside(o); err != nil {
			return err
		}
	}
	return s.connect(o, nil)
}

// hostCred is c as ckpt may hand it to the kernel.
func (w *world) hostCred(c *image.Ucred) (*unix.Ucred, error) {
	if w.canBe(c) { // one that has ended is there from its first call on
		if _, err := call(w.r, c, "be there", unix.SYS_GETPID, numbers()); err != nil {
			return nil, err
		}
	}
	h, ok := w.r.HostPID(pidns.VPID(c.GetPid()))
	if !ok {
		return nil, failure.Damagedf("a message has the credentials of pid %d, which the image does not hold", c.GetPid())
	}
	return &unix.Ucred{Pid: int32(h), Uid: c.GetUid(), Gid: c.GetGid()}, nil
}
