package inet

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// crowd finds the sockets that share a port with others as their options would
// not let them any more: SO_REUSEADDR and SO_REUSEPORT count when they are
// bound, and for TCP when one listens, and may have been changed since. They
// are bound with SO_REUSEPORT, and get what they had when all are
// (uncrowd).
func (w *world) crowd() {
	for i, s := range w.socks {
		for _, o := range w.socks[:i] {
			if s.collides(o) {
				s.crowded, o.crowded = true, true
			}
		}
	}
}

func (s *sock) collides(o *sock) bool {
	if s.local.Port() == 0 || s.isStream() || o.isStream() || s.raw() || o.raw() || s.proto != o.proto || !overlap(s.local, o.local) {
		return false
	}
	a, b := s.e.GetOpts(), o.e.GetOpts()
	if a.GetReuseaddr() && b.GetReuseaddr() && !s.listens() && !o.listens() {
		return false
	}
	return !a.GetSoReuseport() || !b.GetSoReuseport()
}

func (w *world) uncrowd() error {
	for _, s := range w.socks {
		if !s.crowded || s.f == nil || s.e.GetOpts().GetSoReuseport() {
			continue
		}
		if err := unix.SetsockoptInt(s.fd(), unix.SOL_SOCKET, unix.SO_REUSEPORT, 0); err != nil {
			return s.fail(fmt.Errorf("take SO_REUSEPORT back: %w", err))
		}
	}
	return nil
}
