package inet

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/hold"
	"ckpt/kind"
)

// A connection that leads out of the container is made with a mark, by which the
// table that the dump has left, or one like it on another machine, holds its
// packets back: a restore that fails leaves no trace at the other end. The mark
// is taken away when nothing can fail any more.

// kept tells a connection that leads out.
func (s *sock) kept() bool { return s.isStream() && s.x.GetTable() != "" }

func (w *world) keptOnes() (out []*sock) {
	for _, s := range w.socks {
		if s.kept() {
			out = append(out, s)
		}
	}
	return out
}

// holdKept sees to it that packets are held back before there is a socket.
func (w *world) holdKept() error {
	byTable := map[string][]hold.Conn{}
	for _, s := range w.keptOnes() {
		p := pairOf(s.local, s.peer)
		byTable[s.x.GetTable()] = append(byTable[s.x.GetTable()], hold.Conn{Local: p.local, Peer: p.peer})
	}
	for table, conns := range byTable {
		fresh, err := hold.Leave(table, conns)
		if err != nil {
			return err
		}
		if fresh { // no dump on this machine has left it
			w.r.Undo("the nftables table "+table, func() error { return hold.Lift(table) })
		}
	}
	if len(byTable) == 0 {
		return nil
	}
	return w.evictKept()
}

// evictKept ends what is left of a restore that was killed: its sockets go on to
// say that they have been closed, which nobody hears, and hold their ports.
func (w *world) evictKept() error {
	at, err := w.self()
	if err != nil {
		return err
	}
	defer at.Close()
	var left []pair
	err = eachConnection(at, func(c listed) bool {
		if c.state != stateTimeWait && w.leftOver(c) {
			left = append(left, c.pair)
		}
		return true
	})
	for _, p := range left {
		if eerr := evict(p); eerr != nil && !errors.Is(eerr, unix.ENOENT) {
			err = errors.Join(err, eerr)
		}
	}
	return err
}

// leftOver: see evictKept.
func (w *world) leftOver(c listed) bool {
	return c.inode == "0" && slices.ContainsFunc(w.socks, func(s *sock) bool { return s.kept() && pairOf(s.local, s.peer) == c.pair })
}

// keep sees to it that a restore that fails closes s without a word.
func (w *world) keep(s *sock) error {
	if err := setMark(s.fd(), hold.Mark); err != nil {
		return err
	}
	fd, err := unix.FcntlInt(s.f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("duplicate it: %w", err)
	}
	s.again = os.NewFile(uintptr(fd), s.f.Name())
	w.r.Undo(s.shown(), func() error {
		if s.again == nil { // it has been let go
			return nil
		}
		return errors.Join(repair(fd, repairOn), s.again.Close())
	})
	return nil
}

// release lets the connections go on, with the table still there: it holds
// nothing any more.
func (w *world) release(*kind.Restore) (then func() error, err error) {
	var kept []*sock
	var errs []error
	for _, s := range w.keptOnes() {
		if s.f == nil { // no process has it
			continue
		}
		if err := s.goOn(); err != nil {
			errs = append(errs, s.fail(err))
		}
		kept = append(kept, s)
	}
	return func() error {
		var errs []error
		tables := map[string]bool{}
		for _, s := range kept { // has the other end say how far it is
			errs = append(errs, probe(s))
			tables[s.x.GetTable()] = true
		}
		for table := range tables {
			errs = append(errs, hold.Lift(table))
		}
		return errors.Join(errs...)
	}, errors.Join(errs...)
}

func (s *sock) goOn() error {
	err := setMark(s.fd(), int(s.e.GetOpts().GetSoMark()))
	if s.again != nil {
		err = errors.Join(err, s.again.Close())
		s.again = nil
	}
	return err
}
