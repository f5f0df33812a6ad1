package kernel

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Names of unix sockets as the kernel holds them: the bytes of sun_path
// (unix(7)), for a path with the NUL behind it, for an abstract name with the
// NUL in front of it. x/sys would lose NULs and confuse a path "@x".

// rawUnix is struct sockaddr_un.
type rawUnix struct {
	family uint16
	path   [108]byte
}

func newRawUnix(name []byte) (*rawUnix, uintptr, error) {
	a := &rawUnix{family: unix.AF_UNIX}
	if len(name) == 0 || len(name) > len(a.path) {
		return nil, 0, fmt.Errorf("socket name of %d bytes: %w", len(name), unix.EINVAL)
	}
	copy(a.path[:], name)
	return a, unsafe.Offsetof(a.path) + uintptr(len(name)), nil
}

func (a *rawUnix) name(n uint32) []byte {
	off := uint32(unsafe.Offsetof(a.path))
	if n <= off {
		return nil
	}
	return append([]byte(nil), a.path[:min(n-off, uint32(len(a.path)))]...)
}

// BindUnix gives fd a name.
func BindUnix(fd int, name []byte) error { return unixCall(unix.SYS_BIND, fd, name) }

// ConnectUnix connects fd to the socket of that name.
func ConnectUnix(fd int, name []byte) error { return unixCall(unix.SYS_CONNECT, fd, name) }

func unixCall(nr uintptr, fd int, name []byte) error {
	a, n, err := newRawUnix(name)
	if err != nil {
		return err
	}
	for {
		_, _, e := unix.Syscall(nr, uintptr(fd), uintptr(unsafe.Pointer(a)), n)
		if e == 0 {
			return nil
		}
		if e != unix.EINTR {
			return e
		}
	}
}

// UnixPeerName is the name of the socket that fd is connected to; nil: it has none.
func UnixPeerName(fd int) ([]byte, error) {
	var a rawUnix
	n := uint32(unsafe.Sizeof(a))
	if _, _, e := unix.Syscall(unix.SYS_GETPEERNAME, uintptr(fd), uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&n))); e != 0 {
		return nil, e
	}
	return a.name(n), nil
}

// Message is what RecvUnix received.
type Message struct {
	Data, Control []byte // slices of the buffers given
	Name          []byte // of the sender; nil: it has none
	Flags         int    // MSG_TRUNC, MSG_CTRUNC
}

// RecvUnix is recvmsg(2) on a unix socket.
func RecvUnix(fd int, data, control []byte, flags int) (Message, error) {
	var a rawUnix
	iov := unix.Iovec{Base: unsafe.SliceData(data)}
	iov.SetLen(len(data))
	h := unix.Msghdr{Name: (*byte)(unsafe.Pointer(&a)), Namelen: uint32(unsafe.Sizeof(a)), Iov: &iov, Iovlen: 1}
	if len(control) > 0 {
		h.Control = &control[0]
		h.SetControllen(len(control))
	}
	for {
		n, _, e := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)), uintptr(flags))
		switch {
		case e == unix.EINTR:
			continue
		case e != 0:
			return Message{}, e
		}
		m := Message{Data: data[:min(int(n), len(data))], Control: control[:h.Controllen], Flags: int(h.Flags)}
		if h.Name != nil {
			m.Name = a.name(h.Namelen)
		}
		return m, nil
	}
}

// SendUnix is sendmsg(2) to the socket of that name; nil: to the peer.
func SendUnix(fd int, name, data, control []byte, flags int) (int, error) {
	iov := unix.Iovec{Base: unsafe.SliceData(data)}
	iov.SetLen(len(data))
	h := unix.Msghdr{Iov: &iov, Iovlen: 1}
	if name != nil {
		a, n, err := newRawUnix(name)
		if err != nil {
			return 0, err
		}
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(a)), uint32(n)
	}
	if len(control) > 0 {
		h.Control = &control[0]
		h.SetControllen(len(control))
	}
	for {
		n, _, e := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)), uintptr(flags))
		if e == 0 {
			return int(n), nil
		}
		if e != unix.EINTR {
			return 0, e
		}
	}
}
