package unixsock

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/kind/sockdiag"
)

// What sock_diag(7) tells of unix sockets (linux/unix_diag.h).
const (
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

// sockets lists the unix sockets of the container's network namespace.
func sockets(d *kind.Dump) (table, error) {
	nl, err := sockdiag.Open(d)
	if err != nil {
		return nil, err
	}
	defer nl.Close()
	return ask(nl)
}

// ask lists the sockets of the network namespace that the netlink socket was made in.
func ask(nl *os.File) (table, error) {
	all, err := sockdiag.List(nl, request(), "unix_diag (CONFIG_UNIX_DIAG)")
	if err != nil {
		return nil, err
	}
	t := table{}
	for _, m := range all {
		i, err := parse(m)
		if err != nil {
			return nil, fmt.Errorf("list unix sockets (sock_diag): %w", err)
		}
		t[i.ino] = i
	}
	return t, nil
}

// request is struct unix_diag_req.
func request() []byte {
	ne := binary.NativeEndian
	b := []byte{unix.AF_UNIX, 0, 0, 0}
	b = ne.AppendUint32(b, ^uint32(0)) // all states
	b = ne.AppendUint32(b, 0)          // all inodes
	b = ne.AppendUint32(b, showName|showVFS|showPeer|showIcons|showQueue)
	return append(b, make([]byte, 8)...) // no cookie
}

// diagSize is that of struct unix_diag_msg.
const diagSize = 16

func parse(m []byte) (*info, error) {
	if len(m) < diagSize {
		return nil, sockdiag.ErrShort
	}
	i := &info{typ: m[1], state: m[2], ino: binary.NativeEndian.Uint32(m[4:])}
	return i, sockdiag.Attributes(m, diagSize, i.attribute)
}

func (i *info) attribute(typ uint16, v []byte) error {
	le := binary.NativeEndian
	if size := map[uint16]int{attrVFS: 8, attrPeer: 4, attrQueue: 8, attrShutdown: 1}[typ]; len(v) < size {
		return sockdiag.ErrShort
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
