package packetsock

import (
	"encoding/binary"

	packet_sock "github.com/checkpoint-restore/go-criu/v7/crit/images/packet-sock"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
)

// Versions of the header of a frame (PACKET_VERSION).
const (
	version1 = 0
	version2 = 1
	version3 = 2
)

// Whose a frame is (linux/if_packet.h).
const (
	statusKernel      = 0 // of a receiving ring: nothing is in it
	statusUser        = 1
	statusAvailable   = 0 // of a sending ring
	statusSendRequest = 1
	statusSending     = 2
	statusWrongFormat = 4
)

// ring is struct tpacket_req3 as sock_diag shows it: sizes in bytes, the time
// to retire in ms. Zero: there is none.
type ring struct {
	blockSize, blocks, frameSize, frames, retire, private, features uint32
}

func (r ring) there() bool { return r.blocks > 0 }

// size is what it takes of a mapping, in bytes.
func (r ring) size() int { return int(r.blockSize) * int(r.blocks) }

// at is where frame i begins, in bytes: none crosses the end of a block.
func (r ring) at(i int) int {
	each := int(r.blockSize / r.frameSize)
	return i/each*int(r.blockSize) + i%each*int(r.frameSize)
}

// valid: what an image says can be a ring.
func (r ring) valid() bool {
	return !r.there() || r.frameSize > 0 && r.blockSize >= r.frameSize && uint64(r.blockSize)*uint64(r.blocks) <= 1<<31 &&
		uint64(r.frames) == uint64(r.blockSize/r.frameSize)*uint64(r.blocks)
}

// request is what PACKET_RX_RING and PACKET_TX_RING take.
func (r ring) request(version uint32) []byte {
	words := []uint32{r.blockSize, r.blocks, r.frameSize, r.frames}
	if version == version3 {
		words = append(words, r.retire, r.private, r.features)
	}
	var b []byte
	for _, w := range words {
		b = binary.NativeEndian.AppendUint32(b, w)
	}
	return b
}

func (r ring) entry() *packet_sock.PacketRing {
	if !r.there() {
		return nil
	}
	return &packet_sock.PacketRing{BlockSize: proto.Uint32(r.blockSize), BlockNr: proto.Uint32(r.blocks), FrameSize: proto.Uint32(r.frameSize), FrameNr: proto.Uint32(r.frames),
		RetireTmo: proto.Uint32(r.retire), SizeofPriv: proto.Uint32(r.private), Features: proto.Uint32(r.features)}
}

func ringOf(e *packet_sock.PacketRing) ring {
	return ring{e.GetBlockSize(), e.GetBlockNr(), e.GetFrameSize(), e.GetFrameNr(), e.GetRetireTmo(), e.GetSizeofPriv(), e.GetFeatures()}
}

// header is where the fields of a frame's header stand, in bytes: struct
// tpacket_hdr, tpacket2_hdr, tpacket3_hdr.
type header struct {
	status, length, mac, sec, nsec int
	data                           int // where what is to be sent begins
}

var headers = map[uint32]header{
	version1: {0, 8, 16, 20, 24, 32},
	version2: {0, 4, 12, 16, 20, 32},
	version3: {20, 16, 24, 4, 8, 48},
}

// frames are the frames of a ring's contents.
type frames struct {
	ring
	header
	b []byte
}

func (f frames) word(i, field int) uint32 {
	return binary.NativeEndian.Uint32(f.b[f.at(i)+field:])
}

func (f frames) put(i, field int, v uint32) {
	binary.NativeEndian.PutUint32(f.b[f.at(i)+field:], v)
}

func (f frames) statusOf(i int) uint32 { return f.word(i, f.status) }

// received is the frame that the kernel fills next. It leaves the time in each
// that it has filled, also when the program has given that back: the next is
// the one behind the latest. Of several of the same time it is the last.
func (f frames) received() int {
	n := int(f.ring.frames)
	latest, at := uint64(0), -1
	for i := range n {
		if t := f.time(i); t > latest {
			latest, at = t, i
		}
	}
	if at < 0 {
		return 0
	}
	for range n {
		next := (at + 1) % n
		if f.time(next) != latest {
			break
		}
		at = next
	}
	return (at + 1) % n
}

func (f frames) time(i int) uint64 {
	return uint64(f.word(i, f.sec))<<32 | uint64(f.word(i, f.nsec))
}

// sent is the frame that the kernel sends next: the first that the program has
// asked it to, or one it could not send; where there is none, the first that
// the program has never used.
func (f frames) sent() (int, error) {
	n := int(f.ring.frames)
	asked, unused := -1, n
	for i := range n {
		before := f.statusOf((i + n - 1) % n)
		switch s := f.statusOf(i); {
		case s == statusSending:
			return 0, failure.WithHint(failure.Unsupportedf("a frame of its ring is being sent"), "try again in a moment")
		case s == statusSendRequest && before != statusSendRequest && before != statusWrongFormat, s == statusWrongFormat:
			if asked >= 0 {
				return 0, errWhereNext("sends")
			}
			asked = i
		}
		if f.word(i, f.length) == 0 && unused == n {
			unused = i
		}
	}
	if asked >= 0 {
		return asked, nil
	}
	for i := unused; i < n; i++ {
		if f.word(i, f.length) != 0 || f.statusOf(i) != statusAvailable {
			unused = n
			break
		}
	}
	if unused == n {
		return 0, errWhereNext("sends")
	}
	return unused, nil
}

func errWhereNext(does string) error {
	return failure.WithHint(failure.Unsupportedf("it cannot be told which frame of its ring the kernel %s next", does),
		"close the socket before the dump, or have the program do without PACKET_TX_RING and PACKET_RX_RING")
}
