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
	byPort := map[uint16][]*sock{}
	for _, s := range w.socks {
		port := s.local.Port()
		if port == 0 || s.isStream() || s.raw() {
			continue
		}
		for _, o := range byPort[port] {
			if s.collides(o) {
				s.crowded, o.crowded = true, true
			}
		}
		byPort[port] = append(byPort[port], s)
	}
}

// collides tells whether two that are bound to one port need SO_REUSEPORT for it.
func (s *sock) collides(o *sock) bool {
	if s.proto != o.proto || !overlap(s.local, o.local) {
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
