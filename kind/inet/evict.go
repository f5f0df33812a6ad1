package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/procfs"
)

// What sock_diag(7) knows (linux/sock_diag.h).
const (
	sockDestroy   = 21 // SOCK_DESTROY, Linux 4.5, CONFIG_INET_DIAG_DESTROY, CAP_NET_ADMIN
	requestLength = 16 + 56
)

// patience is how long a connection that nobody holds any more is waited for:
// over loopback its ports can be used again after a second
// (net.ipv4.tcp_tw_reuse, ip(7)).
const patience = 2 * time.Second

// evict frees the ports of a connection that nobody holds: what is left of the
// saved container's. Preconditions: the thread is in the network namespace.
func evict(p pair) error {
	nl, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return fmt.Errorf("make a netlink socket: %w", err)
	}
	defer unix.Close(nl)
	if err := unix.Sendto(nl, destroyRequest(p), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("end an old connection (SOCK_DESTROY): %w", err)
	}
	buf := make([]byte, 4096)
	n, _, err := unix.Recvfrom(nl, buf, 0)
	if err != nil {
		return fmt.Errorf("end an old connection (SOCK_DESTROY): %w", err)
	}
	if n < 20 {
		return fmt.Errorf("end an old connection (SOCK_DESTROY): an answer of %d bytes", n)
	}
	if code := -int32(binary.NativeEndian.Uint32(buf[16:])); code != 0 {
		return fmt.Errorf("end an old connection (SOCK_DESTROY): %w", unix.Errno(code))
	}
	return nil
}

// destroyRequest is struct nlmsghdr and struct inet_diag_req_v2.
func destroyRequest(p pair) []byte {
	ne := binary.NativeEndian
	b := ne.AppendUint32(make([]byte, 0, requestLength), requestLength)
	b = ne.AppendUint16(b, sockDestroy)
	b = ne.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b = append(b, make([]byte, 8)...) // sequence number, port
	family := byte(unix.AF_INET)
	if p.local.Addr().Is6() {
		family = unix.AF_INET6
	}
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
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

// taken tells whether anything else holds it.
func (w *world) taken(local netip.AddrPort) (yes bool, err error) {
	at, err := w.self()
	if err != nil {
		return false, err
	}
	defer at.Close()
	err = eachConnection(at, func(c listed) bool {
		yes = c.state != stateTimeWait && overlap(c.local, local)
		return !yes
	})
	return yes, err
}

// overlap: bind(2) does not give both.
func overlap(a, b netip.AddrPort) bool {
	x, y := a.Addr().Unmap(), b.Addr().Unmap()
	return a.Port() == b.Port() && (x == y || x.IsUnspecified() || y.IsUnspecified())
}
