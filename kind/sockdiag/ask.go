package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// What is asked of the kernel (linux/sock_diag.h).
const (
	byFamily = 20 // SOCK_DIAG_BY_FAMILY
	destroy  = 21 // SOCK_DESTROY, Linux 4.5, CONFIG_INET_DIAG_DESTROY
)

// ErrShort: an answer of the kernel ends too early.
var ErrShort = errors.New("the answer is cut off")

// List asks for all sockets that request (struct unix_diag_req, inet_diag_req_v2
// and the like) describes, and gives a message for each: the struct of the
// family, with attributes behind it. module is the kernel's, named if it is
// missing.
func List(nl *os.File, request []byte, module string) ([][]byte, error) {
	for range 10 { // the kernel says when the list changed underneath
		all, again, err := listOnce(int(nl.Fd()), request)
		if e := unix.Errno(0); errors.As(err, &e) && (e == unix.ENOENT || e == unix.EINVAL) {
			return nil, failure.WithHint(failure.Mark(failure.ErrUnsupported, fmt.Errorf("list sockets (sock_diag): %w", err)), "load the kernel module "+module)
		}
		if err != nil {
			return nil, fmt.Errorf("list sockets (sock_diag): %w", err)
		}
		if !again {
			return all, nil
		}
	}
	return nil, errors.New("list sockets (sock_diag): they change too fast")
}

func listOnce(nl int, request []byte) (all [][]byte, again bool, err error) {
	if err := unix.Sendto(nl, message(byFamily, unix.NLM_F_DUMP, request), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, false, err
	}
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(nl, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		some, done, interrupted, err := parse(buf[:n])
		all, again = append(all, some...), again || interrupted
		if err != nil || done {
			return all, again, err
		}
	}
}

// Destroy ends the one socket of the calling thread's network namespace that
// request (as of List) describes. It takes CAP_NET_ADMIN; ENOENT: there is none.
func Destroy(request []byte) error {
	nl, err := Here()
	if err != nil {
		return err
	}
	defer nl.Close()
	if err := unix.Sendto(int(nl.Fd()), message(destroy, unix.NLM_F_ACK, request), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("SOCK_DESTROY: %w", err)
	}
	buf := make([]byte, 4096)
	n, _, err := unix.Recvfrom(int(nl.Fd()), buf, 0)
	if err == nil {
		var done bool
		if _, done, _, err = parse(buf[:n]); err == nil && !done {
			err = ErrShort
		}
	}
	if err != nil {
		return fmt.Errorf("SOCK_DESTROY: %w", err)
	}
	return nil
}

// message puts struct nlmsghdr before a request.
func message(typ, flags uint16, request []byte) []byte {
	ne := binary.NativeEndian
	b := ne.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(request)))
	b = ne.AppendUint16(b, typ)
	b = ne.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = ne.AppendUint32(b, 1) // sequence number
	b = ne.AppendUint32(b, 0) // port
	return append(b, request...)
}

// parse reads one datagram of the answer. done: it was the last one;
// interrupted: the list changed while it was made.
func parse(b []byte) (all [][]byte, done, interrupted bool, err error) {
	ne := binary.NativeEndian
	for len(b) >= unix.SizeofNlMsghdr {
		l := ne.Uint32(b)
		if l < unix.SizeofNlMsghdr || uint64(l) > uint64(len(b)) {
			return nil, false, false, ErrShort
		}
		m := b[unix.SizeofNlMsghdr:l]
		interrupted = interrupted || ne.Uint16(b[6:])&unix.NLM_F_DUMP_INTR != 0
		switch ne.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return all, true, interrupted, nil
		case unix.NLMSG_ERROR:
			if len(m) < 4 {
				return nil, false, false, ErrShort
			}
			if code := ne.Uint32(m); code != 0 {
				return nil, false, false, unix.Errno(-int32(code))
			}
			return all, true, interrupted, nil // an acknowledgement
		case byFamily:
			all = append(all, append([]byte(nil), m...))
		}
		b = b[min(uint64(l+3)&^3, uint64(len(b))):]
	}
	return all, false, interrupted, nil
}

// Attributes gives each attribute (struct nlattr) of a message behind the
// first size bytes to f.
func Attributes(m []byte, size int, f func(typ uint16, value []byte) error) error {
	ne := binary.NativeEndian
	if len(m) < size {
		return ErrShort
	}
	for a := m[size:]; len(a) >= unix.SizeofNlAttr; {
		l := int(ne.Uint16(a))
		if l < unix.SizeofNlAttr || l > len(a) {
			return ErrShort
		}
		if err := f(ne.Uint16(a[2:]), a[unix.SizeofNlAttr:l]); err != nil {
			return err
		}
		a = a[min((l+3)&^3, len(a)):]
	}
	return nil
}
