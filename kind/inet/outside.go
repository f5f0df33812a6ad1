package inet

import (
	"errors"
	"fmt"
	"net/netip"

	sk_opts "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-opts"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/hold"
	"ckpt/kind"
)

// A connection that leads out of the container is refused, kept or closed, as
// the user says. To keep it, its packets are held back from the moment it is
// looked at until a restore has made it again: its other end, which knows
// nothing of all this, sends again what it has not been told has arrived.

// outgoing are the connections of a dump that lead out and are kept.
type outgoing struct {
	hold   *hold.Hold // nil: none as yet
	conns  []hold.Conn
	ending bool // the container is about to be ended
	tried  bool // whether they can be kept, see able
	why    error
}

// outside decides about one. It notes in i that it is one, if it is not refused.
func (s *saver) outside(d *kind.Dump, desc *kind.Desc, i *seen) error {
	switch d.Outside {
	case kind.Close:
		i.outside = true
		return nil
	case kind.Keep:
		err := s.away.able(d)
		if err == nil {
			err = s.unsigned(d, desc, i, "close it before the dump, or save it as closed: --tcp close")
		}
		if err != nil {
			return fmt.Errorf("TCP connection to %s, which is outside the container: %w", i.peer, err)
		}
		i.outside = true
		return nil
	}
	const keep, closed = "keep it, and let its other end wait for the restore: --tcp keep (root)", "or save it as closed: --tcp close"
	if i.state == stateEstablished {
		return failure.WithHint(failure.Unsupportedf("established TCP connection to %s, which is outside the container", i.peer), keep, closed)
	}
	return failure.WithHint(failure.Unsupportedf("a TCP connection to %s, outside the container, that is being closed (%s)", i.peer, stateNames[i.state]),
		"try again in a moment, when it is closed", keep, closed)
}

// able is canKeep, asked once.
func (o *outgoing) able(d *kind.Dump) error {
	if !o.tried {
		o.tried, o.why = true, canKeep(d)
	}
	return o.why
}

// canKeep tries what it takes on a socket and a table of ckpt's own.
func canKeep(d *kind.Dump) error {
	closed := "save it as closed: --tcp close"
	if d.OwnNet {
		return failure.WithHint(failure.Unsupportedf("the container's own network, over which it leads, is not there after a restore"), closed)
	}
	err := keepable()
	if errors.Is(err, unix.EPERM) {
		closed = "or " + closed
	}
	return failure.WithHint(err, closed)
}

// keepable tries what it takes for a connection that leads out to go on.
func keepable() error {
	err := tryRepair()
	if err == nil {
		err = hold.Try()
	}
	if errors.Is(err, unix.EPERM) {
		return failure.WithHint(failure.Mark(failure.ErrUnsupported, fmt.Errorf("to keep it takes CAP_NET_ADMIN over the network: %w", unix.EPERM)), "run ckpt as root")
	}
	return err
}

// leadsOut tells of a connection that is just being made whether it does: to
// whom on this machine is not known before it is there.
func (i *seen) leadsOut() bool {
	return i.peer.IsValid() && !i.peer.Addr().IsLoopback() && i.peer.Addr() != i.local.Addr()
}

// part takes leave of a connection that leads out, and gives what is to be saved
// of it.
func (s *saver) part(d *kind.Dump, desc *kind.Desc, i *seen) (*seen, error) {
	if d.Outside == kind.Close {
		return i.abandoned(), nil
	}
	if err := s.away.add(d, i); err != nil {
		return nil, err
	}
	now, err := look(int(desc.File.Fd())) // from here on nothing changes
	if err != nil {
		return nil, err
	}
	now.outside = now.connected()
	return now, nil
}

// add holds the packets of a connection back.
func (o *outgoing) add(d *kind.Dump, i *seen) (err error) {
	if o.hold == nil {
		if o.hold, err = hold.New(); err != nil {
			return err
		}
		h := o.hold
		d.Over("packets of connections that lead outside", h.Close)
	}
	p := pairOf(i.local, i.peer)
	c := hold.Conn{Local: p.local, Peer: p.peer}
	if err := o.hold.Add(c); err != nil {
		return err
	}
	o.conns = append(o.conns, c)
	return nil
}

// abandoned is what is saved of i when it is taken for closed by its other end:
// what it has received, and behind it the end, or where that had not come a
// reset. One that was being made was not accepted.
func (i *seen) abandoned() *seen {
	a := *i
	a.local, a.peer = netip.AddrPortFrom(i.local.Addr(), 0), netip.AddrPort{}
	a.state, a.outside = stateClose, false
	if i.state == stateSynSent {
		a.unanswered = true
		return &a
	}
	a.shutdown, a.left, a.reset, a.cut = sk_opts.SkShutdown_BOTH, true, !gotFin(i.state), true
	return &a
}

// commit has the packets held back when ckpt and the container have ended.
func (s *saver) commit(d *kind.Dump) error {
	o := &s.away
	if len(o.conns) == 0 {
		return nil
	}
	if d.Leave != nil {
		if err := d.Leave(d.Table); err != nil {
			return err
		}
	}
	d.Over("the nftables table "+d.Table, func() error {
		if o.ending {
			return nil
		}
		return hold.Lift(d.Table)
	})
	_, err := hold.Leave(d.Table, o.conns)
	return err
}

// end leaves connections that are about to be closed in repair mode: then they
// vanish without a word, and no TIME_WAIT holds their ports against the restore.
func (s *saver) end(*kind.Dump) error {
	s.away.ending = true
	var errs []error
	for _, t := range s.streams {
		if !t.i.connected() || t.desc.FD < 0 {
			continue
		}
		if t.i.outside {
			errs = append(errs, setMark(t.fd(), hold.Mark))
		}
		errs = append(errs, repair(t.fd(), repairOn))
	}
	return errors.Join(errs...)
}

func setMark(fd, mark int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark); err != nil {
		return fmt.Errorf("set SO_MARK: %w", err)
	}
	return nil
}
