package unixsock

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// What sock_diag(7) tells of unix sockets (linux/unix_diag.h).
const (
	diagByFamily = 20 // SOCK_DIAG_BY_FAMILY

	showName  = 0x01
	showVFS   = 0x02
	showPeer  = 0x04
	showIcons = 0x08
	showQueue = 0x10

	attrName     = 0
	attrVFS      = 1
	attrPeer     = 2
	attrIcons    = 3
	attrQueue    = 4
	attrShutdown = 6
)

// States of unix sockets (net/tcp_states.h).
const (
	stateConnected = 1
	stateClosed    = 7
	stateListen    = 10
)

// info is one socket.
type info struct {
	typ, state uint8
	ino        uint32
	name       []byte // bytes of sun_path; a path has its NUL
	vfsIno     uint32 // lower half of the inode number of the socket file
	// hasPeer: it is connected. peer is the other's inode, 0 when that is not
	// accepted yet or closed.
	hasPeer bool
	peer    uint32
	pending []uint32 // of a listener: inodes of those waiting; 0: closed again
	// inq is the number of bytes to read (of a datagram socket: of the first
	// one), of a listener the number waiting; outq the memory of what the
	// other side has not read, of a listener the backlog.
	inq, outq uint32
	shutdown  uint8 // 1: reads, 2: writes
}

// table is every unix socket of a network namespace, by inode.
type table map[uint32]*info

// stream: connection by listen(2) and accept(2) or by socketpair(2) only.
func (i *info) stream() bool { return i.typ == unix.SOCK_STREAM || i.typ == unix.SOCK_SEQPACKET }

// path is the name as a path, "" for an abstract one or none.
func (i *info) path() string { return pathOf(i.name) }

func pathOf(name []byte) string {
	if len(name) == 0 || name[0] == 0 {
		return ""
	}
	for n, c := range name {
		if c == 0 {
			return string(name[:n])
		}
	}
	return string(name)
}

// shown is a name for messages: an abstract one begins with "@", as in ss(8).
func shown(name []byte) string {
	switch {
	case len(name) == 0:
		return "(unnamed)"
	case name[0] == 0:
		return fmt.Sprintf("@%s", name[1:])
	}
	return pathOf(name)
}

// ask lists the sockets of the network namespace that the netlink socket was made in.
func ask(nl int) (table, error) {
	for range 10 { // the kernel says when the list changed underneath
		t, again, err := askOnce(nl)
		if err != nil || !again {
			return t, err
		}
	}
	return nil, errors.New("list unix sockets (sock_diag): they change too fast")
}

func askOnce(nl int) (t table, again bool, err error) {
	if err := unix.Sendto(nl, request(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, false, fmt.Errorf("list unix sockets (sock_diag): %w", err)
	}
	t = table{}
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(nl, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, false, fmt.Errorf("list unix sockets (sock_diag): %w", err)
		}
		done, interrupted, err := parse(buf[:n], t)
		again = again || interrupted
		if err != nil || done {
			return t, again, err
		}
	}
}

func request() []byte {
	le := binary.NativeEndian
	b := make([]byte, 0, 40)
	b = le.AppendUint32(b, 40) // nlmsghdr
	b = le.AppendUint16(b, diagByFamily)
	b = le.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint32(b, 0)
	b = append(b, unix.AF_UNIX, 0, 0, 0) // unix_diag_req
	b = le.AppendUint32(b, ^uint32(0))   // all states
	b = le.AppendUint32(b, 0)
	b = le.AppendUint32(b, showName|showVFS|showPeer|showIcons|showQueue)
	return append(b, make([]byte, 8)...)
}

var errShort = errors.New("list unix sockets (sock_diag): the answer is cut off")

// parse reads the messages of one answer into t. done: it was the last one;
// interrupted: the list changed while it was made.
func parse(b []byte, t table) (done, interrupted bool, err error) {
	le := binary.NativeEndian
	for len(b) >= 16 {
		l := le.Uint32(b)
		if l < 16 || uint64(l) > uint64(len(b)) {
			return false, false, errShort
		}
		m := b[16:l]
		interrupted = interrupted || le.Uint16(b[6:])&unix.NLM_F_DUMP_INTR != 0
		switch le.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return true, interrupted, nil
		case unix.NLMSG_ERROR:
			if len(m) < 4 {
				return false, false, errShort
			}
			return false, false, answerError(unix.Errno(-int32(le.Uint32(m))))
		case diagByFamily:
			i, err := parseOne(m)
			if err != nil {
				return false, false, err
			}
			t[i.ino] = i
		}
		b = b[min(uint64(l+3)&^3, uint64(len(b))):]
	}
	return false, interrupted, nil
}

func answerError(e unix.Errno) error {
	err := fmt.Errorf("list unix sockets (sock_diag): %w", e)
	if e == unix.ENOENT || e == unix.EINVAL {
		return failure.WithHint(failure.Mark(failure.ErrUnsupported, err), "load the kernel module unix_diag (CONFIG_UNIX_DIAG)")
	}
	return err
}

func parseOne(m []byte) (*info, error) {
	le := binary.NativeEndian
	if len(m) < 16 {
		return nil, errShort
	}
	i := &info{typ: m[1], state: m[2], ino: le.Uint32(m[4:])}
	for a := m[16:]; len(a) >= 4; {
		l := int(le.Uint16(a))
		if l < 4 || l > len(a) {
			return nil, errShort
		}
		if err := i.attribute(le.Uint16(a[2:]), a[4:l]); err != nil {
			return nil, err
		}
		a = a[min((l+3)&^3, len(a)):]
	}
	return i, nil
}

func (i *info) attribute(typ uint16, v []byte) error {
	le := binary.NativeEndian
	if size := map[uint16]int{attrVFS: 8, attrPeer: 4, attrQueue: 8, attrShutdown: 1}[typ]; len(v) < size {
		return errShort
	}
	switch typ {
	case attrName:
		i.name = append([]byte(nil), v...)
	case attrVFS:
		i.vfsIno = le.Uint32(v)
	case attrPeer:
		i.hasPeer, i.peer = true, le.Uint32(v)
	case attrIcons:
		for ; len(v) >= 4; v = v[4:] {
			i.pending = append(i.pending, le.Uint32(v))
		}
	case attrQueue:
		i.inq, i.outq = le.Uint32(v), le.Uint32(v[4:])
	case attrShutdown:
		i.shutdown = v[0]
	}
	return nil
}
