package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind/sockdiag"
	"ckpt/procfs"
)

// patience is how long a connection that nobody holds any more is waited for:
// over loopback its ports can be used again after a second
// (net.ipv4.tcp_tw_reuse, ip(7)).
const patience = 2 * time.Second

// evict frees the ports of a connection that nobody holds: what is left of the
// saved container's. Preconditions: the thread is in the network namespace.
func evict(p pair) error {
	if err := sockdiag.Destroy(destroyRequest(p)); err != nil {
		return fmt.Errorf("end an old connection: %w", err)
	}
	return nil
}

// destroyRequest is struct inet_diag_req_v2.
func destroyRequest(p pair) []byte {
	ne := binary.NativeEndian
	family := byte(unix.AF_INET)
	if p.local.Addr().Is6() {
		family = unix.AF_INET6
	}
	b := []byte{family, unix.IPPROTO_TCP, 0, 0}
	b = ne.AppendUint32(b, ^uint32(0)) // any state
	b = binary.BigEndian.AppendUint16(b, p.local.Port())
	b = binary.BigEndian.AppendUint16(b, p.peer.Port())
	for _, a := range []netip.Addr{p.local.Addr(), p.peer.Addr()} {
		var whole [16]byte
		copy(whole[:], a.AsSlice())
		b = append(b, whole[:]...)
	}
	b = ne.AppendUint32(b, 0)             // any interface
	return ne.AppendUint64(b, ^uint64(0)) // INET_DIAG_NOCOOKIE
}

// insist connects anew until what nobody holds is out of the way.
func insist(at *procfs.Proc, p pair, connect func() error) error {
	err := connect()
	for deadline := time.Now().Add(patience); errors.Is(err, unix.EADDRNOTAVAIL) && time.Now().Before(deadline); err = connect() {
		o, ferr := findAny(at, p)
		if ferr != nil || o == otherHeld {
			return errors.Join(err, ferr)
		}
		if evict(p) != nil {
			time.Sleep(50 * time.Millisecond)
		}
	}
	return err
}

// self is this thread, in the new container's network namespace, where
// /proc/thread-self is nobody; while only checking the host's will do.
func (w *world) self() (*procfs.Proc, error) {
	if w.r.HostProc == nil {
		return procfs.Open(unix.Gettid())
	}
	return procfs.OpenAt(w.r.HostProc, "thread-self")
}

// evictClosing frees a local address from connections that have ended and are
// only remembered (TIME_WAIT).
func (w *world) evictClosing(local netip.AddrPort) error {
	at, err := w.self()
	if err != nil {
		return err
	}
	defer at.Close()
	all, err := closing(at, local)
	for _, p := range all {
		if err := evict(p); err != nil && !errors.Is(err, unix.ENOENT) {
			return remembered(local, err)
		}
	}
	return err
}

func remembered(local netip.AddrPort, err error) error {
	return failure.WithHint(
		fmt.Errorf("tcp port %d is held by connections that were closed less than a minute ago (TIME_WAIT): %w", local.Port(), err),
		"try again in a minute, or restore as root", "or start containers with a network of their own (--net none)")
}

// closing lists the connections in TIME_WAIT that hold a local address.
func closing(at *procfs.Proc, local netip.AddrPort) (out []pair, err error) {
	err = eachConnection(at, func(c listed) bool {
		if c.state == stateTimeWait && overlap(c.local, local) {
			out = append(out, c.pair)
		}
		return true
	})
	return out, err
}

// taken tells whether anything holds it that cannot be evicted.
func (w *world) taken(local netip.AddrPort) (yes bool, err error) {
	at, err := w.self()
	if err != nil {
		return false, err
	}
	defer at.Close()
	err = eachConnection(at, func(c listed) bool {
		yes = c.state != stateTimeWait && overlap(c.local, local) && !w.leftOver(c)
		return !yes
	})
	return yes, err
}

// overlap: bind(2) does not give both.
func overlap(a, b netip.AddrPort) bool {
	x, y := a.Addr().Unmap(), b.Addr().Unmap()
	return a.Port() == b.Port() && (x == y || x.IsUnspecified() || y.IsUnspecified())
}
