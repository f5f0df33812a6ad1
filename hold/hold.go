// Package hold keeps the packets of TCP connections back, by nftables rules in
// the network namespace of the calling thread: to the other end of a connection
// it is as if the network were slow. No FIN and no RST is sent, nothing that
// arrives is acknowledged, and both ends send again when the rules are gone.
//
// Needs: nf_tables with its inet family and the expression socket
// (CONFIG_NF_TABLES_INET, CONFIG_NFT_SOCKET; socket wildcard: Linux 5.10),
// tables with an owner (5.12, commit 6001a930ce03), and CAP_NET_ADMIN over the
// network namespace.
package hold

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
)

// Conn is a connection by its addresses, as its socket here shows them.
type Conn struct{ Local, Peer netip.AddrPort }

// Mark, as the mark of a socket (SO_MARK), keeps its connection back that is in
// a table of Leave. As the mark of a packet that comes in it lets that through.
const Mark = 0x636b7074

// Hold keeps connections back entirely, until it is closed or who made it dies.
type Hold struct {
	nf *nftables.Conn
	t  *table
}

// New makes a hold of no connections. It fails with failure.ErrUnsupported
// where the kernel, or who runs this, cannot.
func New() (*Hold, error) {
	var nl *netlink.Conn
	nf, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		nl = c
		return nil
	}))
	if err != nil {
		return nil, fmt.Errorf("make a netlink socket for nftables: %w", cannot(err))
	}
	// One name a socket, which no two have at a time.
	h := &Hold{nf, newTable(fmt.Sprintf("ckpt-dump-%d", nl.PID()))}
	err = own(nl, h.t.table)
	if err == nil {
		err = h.t.make(nf, (*table).dropAll)
	}
	if err != nil {
		return nil, errors.Join(cannot(err), h.Close())
	}
	return h, nil
}

// Add holds another connection.
func (h *Hold) Add(c Conn) error {
	if err := h.t.add(h.nf, c); err != nil {
		return fmt.Errorf("hold packets back (nftables): %w", err)
	}
	return nil
}

// Close lets the packets pass.
func (h *Hold) Close() error {
	if err := h.nf.CloseLasting(); err != nil {
		return fmt.Errorf("let packets pass (nftables): %w", err)
	}
	return nil
}

// Leave makes a table that goes on to hold connections when this process has
// ended: those that no socket here belongs to, or one with Mark. What belongs to
// another socket passes, but for a RST, so that a table left by accident does no
// harm. One of that name that is there already stays as it is, and fresh is
// false.
func Leave(name string, conns []Conn) (fresh bool, err error) {
	nf, err := nftables.New()
	if err == nil {
		err = newTable(name).create(nf, conns)
	}
	switch {
	case errors.Is(err, unix.EEXIST):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("hold packets back (nftables): %w", cannot(err))
	}
	return true, nil
}

// Lift removes a table of Leave, if it is there.
func Lift(name string) error {
	nf, err := nftables.New()
	if err == nil {
		nf.DelTable(newTable(name).table)
		err = nf.Flush()
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove the nftables table %s: %w", name, err)
	}
	return nil
}

// Try tells whether connections can be held here, without holding any.
func Try() error {
	h, err := New()
	if err != nil {
		return err
	}
	for _, s := range h.t.held {
		h.t.dropUnheld(h.nf, s)
	}
	return errors.Join(cannot(h.nf.Flush()), h.Close())
}

// Probe is Try for `ckpt check`.
func Probe() kernel.Probe {
	return kernel.Probe{Name: "nftables", For: "keeps TCP connections whose other end is outside (--tcp keep)", Since: "5.12", Need: kernel.Optional, Try: Try}
}

// cannot words the errors of a kernel without, or of a user who may not.
func cannot(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return failure.WithHint(failure.Mark(failure.ErrUnsupported, fmt.Errorf("it takes CAP_NET_ADMIN over the network: %w", err)), "run ckpt as root")
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.ENOENT):
		return failure.Mark(failure.ErrUnsupported, fmt.Errorf("this kernel lacks a part of nftables (nf_tables, nft_socket): %w", err))
	}
	return err
}
