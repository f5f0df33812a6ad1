package packetsock

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/kind/sockdiag"
)

// What sock_diag(7) tells of packet sockets (linux/packet_diag.h).
const (
	showInfo   = 1
	showMclist = 2
	showRings  = 4
	showFanout = 8

	attrInfo   = 0
	attrMclist = 1
	attrRX     = 2
	attrTX     = 3
	attrFanout = 4

	diagSize   = 16 // struct packet_diag_msg
	diagType   = 1
	diagNum    = 2 // the protocol, in the machine's byte order
	diagInode  = 4
	infoSize   = 24 // struct packet_diag_info: index, version, reserve, copy threshold, timestamp, flags
	memberSize = 44 // struct packet_diag_mclist
	ringSize   = 28 // struct packet_diag_ring
)

// member is a membership (PACKET_ADD_MEMBERSHIP), asked for count times.
type member struct {
	index, count uint32
	typ          uint16
	addr         []byte
}

// seen is what the kernel shows of a socket.
type seen struct {
	typ      int
	protocol uint16
	index    int32 // of the interface; 0: all, -1: it is gone
	version  uint32
	members  []member
	rx, tx   ring
	fanout   *uint32 // id, type and flags, as PACKET_FANOUT has them
}

// look asks sock_diag about desc. It is nil where the container's network
// cannot be looked into now (while checking).
func look(d *kind.Dump, desc *kind.Desc) (*seen, error) {
	nl, err := sockdiag.Open(d)
	if err != nil {
		return nil, err
	}
	defer nl.Close()
	ne := binary.NativeEndian
	request := ne.AppendUint32([]byte{unix.AF_PACKET, 0, 0, 0}, 0)
	request = ne.AppendUint32(request, showInfo|showMclist|showRings|showFanout)
	all, err := sockdiag.List(nl, append(request, make([]byte, 8)...), "packet_diag (CONFIG_PACKET_DIAG)")
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if len(m) < diagSize {
			return nil, fmt.Errorf("list packet sockets (sock_diag): %w", sockdiag.ErrShort)
		}
		if ne.Uint32(m[diagInode:]) == uint32(desc.Stat.Ino) {
			return parse(m)
		}
	}
	return nil, fmt.Errorf("list packet sockets (sock_diag): socket %d is not among them", desc.Stat.Ino)
}

func parse(m []byte) (*seen, error) {
	ne := binary.NativeEndian
	s := &seen{typ: int(m[diagType]), protocol: ne.Uint16(m[diagNum:])}
	err := sockdiag.Attributes(m, diagSize, func(typ uint16, v []byte) error {
		switch {
		case typ == attrInfo && len(v) >= infoSize:
			s.index, s.version = int32(ne.Uint32(v)), ne.Uint32(v[4:])
		case typ == attrMclist:
			for ; len(v) >= memberSize; v = v[memberSize:] {
				m := member{index: ne.Uint32(v), count: ne.Uint32(v[4:]), typ: ne.Uint16(v[8:])}
				m.addr = append([]byte{}, v[12:][:min(int(ne.Uint16(v[10:])), memberSize-12)]...)
				s.members = append(s.members, m)
			}
		case typ == attrRX && len(v) >= ringSize:
			s.rx = parseRing(v)
		case typ == attrTX && len(v) >= ringSize:
			s.tx = parseRing(v)
		case typ == attrFanout && len(v) >= 4:
			f := ne.Uint32(v)
			s.fanout = &f
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list packet sockets (sock_diag): %w", err)
	}
	return s, nil
}

func parseRing(v []byte) ring {
	w := func(i int) uint32 { return binary.NativeEndian.Uint32(v[4*i:]) }
	return ring{blockSize: w(0), blocks: w(1), frameSize: w(2), frames: w(3), retire: w(4), private: w(5), features: w(6)}
}
