package inet

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// A connection that is being made (SYN_SENT) is nothing but a request, which is
// made again: what listens there answers it, or somebody one day.

func (s *sock) connecting() bool { return s.tcp() && s.state() == stateSynSent }

func (w *world) makeConnecting(s *sock) error {
	if err := w.open(s); err != nil {
		return err
	}
	if err := w.bind(s); err != nil {
		return err
	}
	zone, err := w.zone(s)
	if err != nil {
		return err
	}
	if err := s.connectNow(sockaddr(s.peer, zone)); err != nil { // as it would be told soon
		w.r.Log.Warn("a connection that was being made has failed", "socket", s.shown(), "to", s.peer.String(), "why", err)
	}
	return w.finishOne(s)
}

// connectNow begins to connect s, and waits for nobody.
func (s *sock) connectNow(to unix.Sockaddr) error {
	if err := unix.SetNonblock(s.fd(), true); err != nil {
		return fmt.Errorf("set O_NONBLOCK: %w", err)
	}
	err := unix.Connect(s.fd(), to)
	if errors.Is(err, unix.EINPROGRESS) {
		err = nil
	}
	if serr := unix.SetNonblock(s.fd(), s.e.GetFlags()&unix.O_NONBLOCK != 0); serr != nil {
		return fmt.Errorf("set O_NONBLOCK back: %w", serr)
	}
	return err
}
