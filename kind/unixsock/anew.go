package unixsock

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/sockdiag"
	"ckpt/kind/sockopt"
)

// leadsOut: it is to be connected anew to a socket outside of the container.
func (s *sock) leadsOut() bool { return s.peer != nil && s.peer.outside }

// check tells whether what a socket is tied to is there.
func (w *world) check(r *kind.Restore, e *fdinfo.FileEntry) error {
	if !w.loaded {
		w.loaded, w.r = true, r
		w.err = w.load()
	}
	if w.err != nil {
		return w.err
	}
	s := w.byID[e.GetId()]
	if !r.Manifest.GetNetNone() {
		if err := sockopt.CheckDevice(s.e.GetOpts()); err != nil {
			return err
		}
	}
	if s.leadsOut() {
		return s.peer.present()
	}
	return nil
}

// present tells whether somebody has the name of a socket outside, who must not
// notice. A file is tried with a datagram socket: who listens there does not
// hear of one that is not of his type. An abstract name is one of each type.
func (s *sock) present() error {
	if s.abstract() {
		return s.listed()
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a unix socket: %w", err)
	}
	defer unix.Close(fd)
	err = kernel.ConnectUnix(fd, s.name())
	switch other := errors.Is(err, unix.EPROTOTYPE); {
	case other && s.stream(), err == nil && !s.stream():
		return nil
	case err == nil:
		err = unix.EPROTOTYPE
	}
	return s.notReached(err)
}

func (s *sock) listed() error {
	nl, err := sockdiag.Here()
	if err != nil {
		return err
	}
	defer nl.Close()
	t, err := ask(nl)
	if err != nil {
		return err
	}
	for _, i := range t {
		if int(i.typ) == s.typ() && bytes.Equal(i.name, s.name()) && (i.state == stateListen || !s.stream()) {
			return nil
		}
	}
	return s.notReached(unix.ECONNREFUSED)
}

// makeOutside makes a stream that is to be connected to a socket outside. Link
// does that, when hardly anything can fail any more: the other end sees it.
func (w *world) makeOutside(s *sock) error {
	if err := w.openAs(s, w.holder(s)); err != nil {
		return err
	}
	return w.bindAside(s)
}

// connectOutside connects s to a socket outside, and does not wait for one that
// takes no more connections.
func (w *world) connectOutside(s *sock) error {
	if !s.leadsOut() {
		return nil
	}
	var c *image.Ucred
	if s.stream() {
		c = w.holder(s)
	}
	s.peer.home = place{root: w.root}
	if s.peer.abstract() {
		s.peer.home = place{}
	}
	flags, err := unix.FcntlInt(s.f.Fd(), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(s.f.Fd(), unix.F_SETFL, flags|unix.O_NONBLOCK)
	}
	if err != nil {
		return fmt.Errorf("set O_NONBLOCK: %w", err)
	}
	if err := s.connect(s.peer, c); err != nil {
		return s.peer.notReached(err)
	}
	if _, err = unix.FcntlInt(s.f.Fd(), unix.F_SETFL, flags); err != nil {
		return fmt.Errorf("set its flags again: %w", err)
	}
	return nil
}

// notReached tells why a socket outside cannot be connected to. err is that of
// connect(2).
func (s *sock) notReached(err error) error {
	name, hint := shown(s.name()), "start the program that listens there first"
	if !s.abstract() {
		hint += ", or say where it is now: --map " + failure.Quote(name+"=/NEW/PATH")
	}
	why := ""
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		why = "nobody listens there"
	case errors.Is(err, unix.EPROTOTYPE):
		why = "who listens there has a socket of another type"
	case errors.Is(err, unix.EAGAIN):
		why, hint = "who listens there takes no more connections", "try again when that program has accepted some"
	case errors.Is(err, unix.EPERM):
		why, hint = "the socket there takes messages of another one only, to which it is connected", "restart the program that has it"
	case errors.Is(err, unix.EACCES):
		why, hint = "it may not be written to", "restore as a user who may"
	default:
		return fmt.Errorf("connect to %s, outside the container: %w", name, err)
	}
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		err = errno // the rest has been said
	}
	return failure.WithHint(fmt.Errorf("connect to %s, outside the container: %s (%w)", name, why, err), hint)
}
