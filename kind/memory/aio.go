package memory

import (
	"encoding/binary"
	"fmt"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

// aio_ring of fs/aio.c, as far as it is looked at:
//
//	0 id, 4 nr, 8 head, 12 tail, 16 magic
const (
	aioMagic = 0xa10a10a1
	aioNr    = 4
	aioHead  = 8
	aioTail  = 12
)

// aioEntry looks at the ring of an AIO context. Its address is the context's
// id; the program may hold events in it that it has not fetched, which a new
// context cannot be given.
func aioEntry(p *kind.Proc, m *procfs.Map) (*mm.AioRingEntry, error) {
	var b [20]byte
	if err := tracee.ReadMemory(int(p.Lead().Host), m.Start, b[:]); err != nil {
		return nil, fmt.Errorf("AIO ring at %#x: %w", m.Start, err)
	}
	le := binary.LittleEndian
	if le.Uint32(b[16:]) != aioMagic {
		return nil, failure.Unsupportedf("AIO ring at %#x is of a layout ckpt does not know", m.Start)
	}
	if le.Uint32(b[aioHead:]) != le.Uint32(b[aioTail:]) {
		return nil, failure.WithHint(failure.Unsupportedf("AIO ring at %#x holds completed requests that the program has not fetched", m.Start),
			"try again in a moment")
	}
	return &mm.AioRingEntry{Id: proto.Uint64(m.Start), NrReq: proto.Uint32(le.Uint32(b[aioNr:])), RingLen: proto.Uint32(uint32(m.Len()))}, nil
}
