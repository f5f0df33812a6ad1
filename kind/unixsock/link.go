package unixsock

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/sockopt"
)

// link runs once for all sockets. The order matters: queues are filled while
// both halves are open, nothing is filtered and nobody but the sender is
// connected; then what was shut down or gone is shut again; the options come
// last.
func (w *world) link(r *kind.Restore, _ *fdinfo.FileEntry, _ *os.File) error {
	if w.linked {
		return nil
	}
	w.linked = true
	defer w.done()
	for _, s := range w.socks {
		if _, err := r.File(s.e.GetId()); err != nil { // the driver's from here on
			return err
		}
	}
	for _, step := range []func(*sock) error{w.fill, w.connectDatagram, w.connectOutside, w.shut, w.finishOne} {
		for _, s := range w.socks {
			if err := step(s); err != nil {
				return s.fail(err)
			}
		}
	}
	return nil
}

// shut shuts the halves that were. Closing the stand-in for a peer that is
// gone shuts both, as it did when the peer itself was closed; with something
// unread it leaves ECONNRESET behind.
func (w *world) shut(s *sock) error {
	if s.gone != nil && s.gone.f != nil {
		if s.x.GetWasReset() {
			if _, err := kernel.SendUnix(s.fd(), nil, []byte{0}, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err != nil {
				return fmt.Errorf("leave something unread: %w", err)
			}
		}
		if err := s.gone.f.Close(); err != nil {
			return err
		}
		s.gone.f = nil
	}
	how, ok := map[int32]int{1: unix.SHUT_RD, 2: unix.SHUT_WR, 3: unix.SHUT_RDWR}[int32(s.e.GetShutdown())]
	if !ok {
		return nil
	}
	if err := unix.Shutdown(s.fd(), how); err != nil {
		return fmt.Errorf("shut it down: %w", err)
	}
	return nil
}

func (w *world) finishOne(s *sock) error {
	if s.listens() {
		if err := w.listen(s, int(s.e.GetBacklog()), s.x.GetPeerCred()); err != nil {
			return err
		}
	}
	if s.e.GetOpts() != nil {
		if err := sockopt.Restore(s.f.Fd(), s.e.GetOpts()); err != nil {
			return err
		}
	}
	if err := sockopt.RestoreMore(s.f.Fd(), s.x.GetSockOptions()); err != nil {
		return err
	}
	if !s.leadsOut() { // who is there now is there
		if err := w.tellGroups(s); err != nil {
			return err
		}
	}
	return w.r.RestoreOwner(s.f, s.e.GetFown())
}

// fill puts the saved messages into the queue of s.
func (w *world) fill(s *sock) error {
	if len(s.packets) == 0 {
		return nil
	}
	f := filler{w: w, to: s, own: map[string]*sock{}}
	defer f.close()
	for _, p := range s.packets {
		from, err := f.sender(p)
		if err == nil {
			err = f.send(from, p)
		}
		if errors.Is(err, unix.EPERM) && p.cred.GetPid() != 0 {
			err = failure.WithHint(failure.Unsupportedf("a message with the credentials of pid %d waits in it, which only root may send again", p.cred.GetPid()), "restore as root")
		}
		if err != nil {
			return fmt.Errorf("fill its queue: %w", err)
		}
	}
	return nil
}

// filler sends to one socket, from those that sent before or stand-ins.
type filler struct {
	w   *world
	to  *sock
	own map[string]*sock // stand-ins by name
}

func (f *filler) close() {
	for _, s := range f.own {
		s.f.Close()
	}
}

// sender is who sends p: the other end where there is a connection, else the
// socket whose name p has.
func (f *filler) sender(p *packet) (*sock, error) {
	s := f.to
	if s.stream() || s.paired {
		if s.waits() || s.other() == nil {
			return nil, failure.Damagedf("messages wait in a socket that is not connected")
		}
		return roomy(s.other())
	}
	if !s.named() {
		return nil, failure.Damagedf("messages wait in a datagram socket that nobody can send to")
	}
	if len(p.name) > 0 {
		for _, o := range f.w.socks {
			if o.typ() == s.typ() && bytes.Equal(o.name(), p.name) {
				return roomy(o)
			}
		}
	}
	if o := f.own[string(p.name)]; o != nil {
		return o, nil
	}
	o := standIn(s, p.name)
	if err := o.open(); err != nil {
		return nil, err
	}
	f.own[string(p.name)] = o
	if err := f.w.bindAside(o); err != nil {
		return nil, err
	}
	return roomy(o)
}

// roomy lets s send as much as was sent before: the limit may have been
// higher then. The saved one is set again at the end.
func roomy(s *sock) (*sock, error) {
	const room = 1 << 28
	err := unix.SetsockoptInt(s.fd(), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, room)
	if errors.Is(err, unix.EPERM) {
		err = unix.SetsockoptInt(s.fd(), unix.SOL_SOCKET, unix.SO_SNDBUF, room)
	}
	if err != nil {
		return nil, fmt.Errorf("make room for what it sends: %w", err)
	}
	return s, nil
}

func (f *filler) send(from *sock, p *packet) error {
	if f.w.canSend(p.cred) {
		if f.to.stream() || f.to.paired {
			return f.sendAs(from, p, nil)
		}
		if to := f.to.reach(); to != nil {
			return f.sendAs(from, p, to)
		}
	}
	control, err := f.control(p)
	if err != nil {
		return err
	}
	if f.to.stream() || f.to.paired {
		return sendAll(from, nil, p.data, control)
	}
	return f.to.home.run(nil, func() error { return sendAll(from, f.to.name(), p.data, control) })
}

// sendAll: a stream may take a piece at a time; control data goes with the first.
func sendAll(from *sock, to, data, control []byte) error {
	for first := true; first || len(data) > 0; first = false {
		n, err := kernel.SendUnix(from.fd(), to, data, control, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if errors.Is(err, unix.EAGAIN) {
			return noRoom(len(data), err)
		}
		if err != nil {
			return fmt.Errorf("send %d bytes: %w", len(data), err)
		}
		if from.typ() != unix.SOCK_STREAM {
			return nil
		}
		data, control = data[n:], nil
	}
	return nil
}

func (f *filler) control(p *packet) ([]byte, error) {
	var out []byte
	if len(p.rights) > 0 {
		var fds []int
		for _, id := range p.rights {
			file, err := f.w.r.File(id)
			if err != nil {
				return nil, fmt.Errorf("a descriptor in flight: %w", err)
			}
			fds = append(fds, int(file.Fd()))
		}
		out = append(out, unix.UnixRights(fds...)...)
	}
	if p.cred.GetPid() != 0 { // newer criu writes an empty one where there is none
		c, err := f.w.hostCred(p.cred)
		if err != nil {
			return nil, err
		}
		out = append(out, unix.UnixCredentials(c)...)
	}
	return out, nil
}
