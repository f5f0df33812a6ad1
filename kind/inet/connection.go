package inet

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
)

// sentFin: its sending half was shut down; gotFin: the other end's was.
func sentFin(state int) bool {
	return awaitsAck(state) || state == stateFinWait2
}

// awaitsAck: the end of the stream that it has sent is not acknowledged.
func awaitsAck(state int) bool {
	return state == stateFinWait1 || state == stateClosing || state == stateLastAck
}

func gotFin(state int) bool {
	return state == stateCloseWait || state == stateClosing || state == stateLastAck
}

// checkConnection refuses a connection that cannot be made again, and finds
// those that lead out of the container.
func (s *saver) checkConnection(d *kind.Dump, desc *kind.Desc, i *seen) error {
	fd := int(desc.File.Fd())
	switch {
	case i.state == stateSynRecv:
		return failure.WithHint(failure.Unsupportedf("a TCP connection to %s that is being made (%s)", i.peer, stateNames[i.state]), "try again in a moment, when it is made or has failed")
	case i.proto == unix.IPPROTO_MPTCP:
		return failure.WithHint(failure.Unsupportedf("a Multipath TCP connection to %s", i.peer), "switch Multipath TCP off (GODEBUG=multipathtcp=0 for Go programs), or close the connection before the dump")
	}
	if i.state == stateSynSent {
		i.outside = d.Outside == kind.Close && i.leadsOut()
		return nil
	}
	if err := checkUpper(fd, i); err != nil {
		return err
	}
	me := pairOf(i.local, i.peer)
	if s.ours[me.reverse()] == nil {
		return s.checkAlone(d, desc, i, me)
	}
	if me == me.reverse() {
		return failure.WithHint(failure.Unsupportedf("a TCP socket connected to itself (%s)", i.peer), "close it before the dump")
	}
	return canRepair(d, i)
}

// checkLayer refuses what the kernel does to a stream before it is sent and before
// it is read (TCP_ULP): its state, keys and records in pieces, is shown to nobody.
func (i *seen) checkLayer(name string) error {
	hint := "close the connection before the dump"
	switch name {
	case "":
		return nil
	case "tls":
		name, hint = "TLS", "have the program do that itself (OpenSSL: without the option KTLS), or "+hint
	}
	return failure.WithHint(failure.Unsupportedf("a TCP connection to %s with %s in the kernel (TCP_ULP)", i.peer, name), hint)
}

// checkUpper: what stands on top of TCP in the kernel, and urgent data.
func checkUpper(fd int, i *seen) error {
	b, err := kernel.SocketOption(uintptr(fd), unix.IPPROTO_TCP, unix.TCP_ULP, make([]byte, 16))
	if err == nil { // there are kernels without
		err = i.checkLayer(string(bytes.TrimRight(b, "\x00")))
		if err != nil {
			return err
		}
	}
	urgent, err := shows(fd, unix.POLLPRI)
	if err != nil {
		return err
	}
	if urgent {
		return failure.WithHint(failure.Unsupportedf("urgent data (MSG_OOB) from %s waits in it", i.peer), "try again in a moment, when the program has read it")
	}
	return nil
}

// checkAlone: no process of the container holds the other end.
func (s *saver) checkAlone(d *kind.Dump, desc *kind.Desc, i *seen, me pair) error {
	if i.leadsOut() {
		return s.outside(d, desc, i)
	}
	switch held, err := s.isHeld(d, me.reverse()); {
	case err != nil:
		return err
	case held:
		return s.outside(d, desc, i)
	}
	o, err := find(d, me.reverse()) // it may have come or gone since all were listed
	switch {
	case err != nil:
		return err
	case o == otherHeld:
		return s.outside(d, desc, i)
	case s.knocks(d, me):
		return canRepair(d, i)
	case i.state == stateCloseWait: // the other end has been closed, and all it sent is here
		return canRepair(d, i)
	}
	err = failure.WithHint(failure.Unsupportedf("a TCP connection to %s, whose other end was closed before all was read, or is not accepted yet (%s)", i.peer, stateNames[i.state]),
		"try again in a moment")
	if !slices.ContainsFunc(s.listeners, func(l listener) bool { return overlap(l.local, i.peer) }) {
		return err
	}
	// Who listens there tells when it is accepted; and the list of connections
	// is no picture of one moment, while others come and go.
	return &kind.Busy{Err: err, Done: func() bool { return true }}
}

// canRepair: in a network namespace of its own the container's owner is
// allowed to. Elsewhere it is tried on a socket of ckpt's own.
func canRepair(d *kind.Dump, i *seen) error {
	if d.OwnNet {
		return nil
	}
	if err := tryRepair(); err != nil {
		return fmt.Errorf("TCP connection to %s: %w", i.peer, err)
	}
	return nil
}

func tryRepair() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return fmt.Errorf("make a socket: %w", err)
	}
	defer unix.Close(fd)
	err = repair(fd, repairOn)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return failure.Unsupportedf("this kernel cannot make it again (it has no TCP_REPAIR)")
	}
	return err
}
