package memory

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/procfs"
	"ckpt/tracee"
)

// aio_ring of fs/aio.c, as far as it is looked at; struct io_event follow:
//
//	0 id, 4 nr, 8 head, 12 tail, 16 magic
const (
	aioMagic  = 0xa10a10a1
	aioNr     = 4
	aioHead   = 8
	aioTail   = 12
	aioHeader = 32 // bytes before the first event
	aioEvent  = 32 // sizeof(struct io_event)
	aioBatch  = 64 // requests submitted at a time
)

// Requests under way the kernel shows to nobody. How many more a context takes
// could be found by submitting until EAGAIN, of requests that do not end
// (IOCB_CMD_POLL): with two CPUs that were 120 of 126, since each CPU keeps some
// back, and to end them again puts an event each into the ring, among those of the
// program. So ckpt looks whether one ends while the memory is saved: those of disks
// do within milliseconds. One that waits for longer (IOCB_CMD_POLL) is lost.

// ring is where the events of a saved AIO context end.
type ring struct {
	proc *kind.Proc
	at   uint64
	tail uint32
}

// checkRings refuses to go on if a request has ended since its ring was saved: its
// event is not in the image, nor, it may be, what it has read.
func (s *saver) checkRings() error {
	for _, r := range s.rings {
		tail, err := tracee.ReadUint32(int(r.proc.Lead().Host), r.at+aioTail)
		if err != nil {
			return fmt.Errorf("AIO ring at %#x: %w", r.at, err)
		}
		if tail != r.tail {
			return failure.WithHint(failure.Unsupportedf("a request of io_submit(2) was under way in AIO context %#x of pid %d, and ended while it was saved", r.at, r.proc.VPID),
				"dump again when the program reads and writes less", "let it do so by threads (innodb_use_native_aio=OFF for MySQL)")
		}
	}
	return nil
}

// aioEntry looks at the ring of an AIO context, whose address is the context's
// id, and at the events in it that the program has not fetched; nil: none.
func (s *saver) aioEntry(p *kind.Proc, m *procfs.Map) (*mm.AioRingEntry, *image.AioEvents, error) {
	b := make([]byte, m.Len())
	if err := tracee.ReadMemory(int(p.Lead().Host), m.Start, b); err != nil {
		return nil, nil, fmt.Errorf("AIO ring at %#x: %w", m.Start, err)
	}
	word := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	nr, head, tail := word(aioNr), word(aioHead), word(aioTail)
	if word(16) != aioMagic || aioHeader+uint64(nr)*aioEvent > m.Len() || head >= nr || tail >= nr {
		return nil, nil, failure.Unsupportedf("AIO ring at %#x is of a layout ckpt does not know", m.Start)
	}
	s.rings = append(s.rings, ring{p, m.Start, tail})
	e := &mm.AioRingEntry{Id: proto.Uint64(m.Start), NrReq: proto.Uint32(nr), RingLen: proto.Uint32(uint32(m.Len()))}
	if head == tail {
		return e, nil, nil
	}
	x := &image.AioEvents{Id: m.Start, Head: head}
	for i := head; i != tail; i = (i + 1) % nr {
		x.Events = append(x.Events, b[aioHeader+i*aioEvent:][:aioEvent]...)
	}
	return e, x, nil
}

// restoreAIO makes AIO contexts anew. A context's id is the address of its
// ring: io_setup(2) puts it anywhere, mremap(2) moves ring and id to the saved
// address. The number of requests is chosen so that the ring has its saved
// length (fs/aio.c, aio_setup_ring).
func (b *space) restoreAIO() error {
	for _, a := range b.t.MM.GetAios() {
		size := uint64(a.GetRingLen())
		requests := (size-aioHeader)/aioEvent/2 - 1
		setup := b.s.Must(unix.SYS_IO_SETUP, requests, 0)
		b.s.Note(setup, "make an AIO context")
		move := b.s.Must(unix.SYS_MREMAP, 0, size, size, moveHere, a.GetId())
		b.s.Note(move, "move an AIO ring")
		b.s.Aim(setup, 1, move, 0)
		for _, x := range b.t.Extra.GetAioEvents() {
			if x.GetId() != a.GetId() {
				continue
			}
			if err := b.fillAIO(x, (size-aioHeader)/aioEvent); err != nil {
				return err
			}
		}
	}
	return nil
}

// fillAIO puts events into a new ring of nr. The kernel counts by itself where
// the next one goes: so as many requests complete as there were, and what they
// leave is overwritten. They read nothing from /dev/null.
func (b *space) fillAIO(x *image.AioEvents, nr uint64) error {
	head, n := uint64(x.GetHead()), uint64(len(x.GetEvents()))/aioEvent
	if head >= nr || n == 0 || n >= nr || n*aioEvent != uint64(len(x.GetEvents())) {
		return failure.Damagedf("%d bytes of events in AIO ring %#x of %d", len(x.GetEvents()), x.GetId(), nr)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("AIO ring %#x: %w", x.GetId(), err)
	}
	b.t.Check = append(b.t.Check, null.Close)
	fd := b.t.Fetch(b.s, null)
	const iocbSize, fildes = 64, 20
	iocb := make([]byte, iocbSize)
	binary.LittleEndian.PutUint32(iocb[fildes:], uint32(fd))
	at := b.s.Data(iocb)
	var list []byte
	for range aioBatch {
		list = binary.LittleEndian.AppendUint64(list, at)
	}
	c := aioCalls{b: b, id: x.GetId(), list: b.s.Data(list), events: b.s.Space(aioBatch * aioEvent), now: b.s.Space(16)}
	c.each(head, func(n uint64) { c.submit(n); c.fetch(n) })
	c.each(n, c.submit)
	b.t.Drop(b.s, fd)

	first := min(n, nr-head)
	c.copy(b.s.Data(x.GetEvents()[:first*aioEvent]), head, first)
	if n > first {
		c.copy(b.s.Data(x.GetEvents()[first*aioEvent:]), 0, n-first)
	}
	return nil
}

// aioCalls adds calls on one context.
type aioCalls struct {
	b                     *space
	id, list, events, now uint64
}

// each calls do for n requests in batches.
func (c *aioCalls) each(n uint64, do func(n uint64)) {
	for ; n > aioBatch; n -= aioBatch {
		do(aioBatch)
	}
	if n > 0 {
		do(n)
	}
}

func (c *aioCalls) submit(n uint64) {
	c.expect(n, c.b.s.Must(unix.SYS_IO_SUBMIT, c.id, n, c.list))
}

func (c *aioCalls) fetch(n uint64) {
	c.expect(n, c.b.s.Must(unix.SYS_IO_GETEVENTS, c.id, n, n, c.events, c.now))
}

// copy puts n events from the script's data to place at of the ring.
func (c *aioCalls) copy(from, at, n uint64) {
	vector := func(addr uint64) uint64 {
		return c.b.s.Data(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, addr), n*aioEvent))
	}
	c.expect(n*aioEvent, c.b.s.Must(unix.SYS_PROCESS_VM_WRITEV, uint64(c.b.t.Own()), vector(from), 1, vector(c.id+aioHeader+at*aioEvent), 1, 0))
}

func (c *aioCalls) expect(want uint64, step tracee.Step) {
	c.b.s.Note(step, "fill an AIO ring")
	c.b.t.Check = append(c.b.t.Check, func() error {
		if n, err := c.b.s.Result(step); err != nil || n != want {
			return fmt.Errorf("fill an AIO ring: %d of %d: %w", n, want, err)
		}
		return nil
	})
}
