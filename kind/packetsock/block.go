package packetsock

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// A receiving ring of TPACKET_V3 is filled by blocks (struct
// tpacket_block_desc), which the kernel numbers as it opens them: that with the
// greatest number is the one it fills. It is given to the program when it is
// full, or after the time to retire if anything is in it.

// Where the fields of a block's header stand, in bytes.
const (
	blockStatus  = 8
	blockPackets = 12
	blockNumber  = 24
)

// A new ring has to be led through all blocks that there ever were.
const (
	mostLed    = 1 << 30 // bytes
	mostRetire = 1000    // ms
)

// blocks are the blocks of a ring's contents.
type blocks struct {
	ring
	b []byte
}

func (f blocks) word(i, field int) *[4]byte {
	return (*[4]byte)(f.b[i*int(f.blockSize)+field:])
}

func (f blocks) get(i, field int) uint32 { return binary.NativeEndian.Uint32(f.word(i, field)[:]) }

func (f blocks) number(i int) uint64 {
	return binary.NativeEndian.Uint64(f.b[i*int(f.blockSize)+blockNumber:])
}

// open is the block that the kernel fills, and its number.
func (f blocks) open() (at int, number uint64) {
	for i := range int(f.ring.blocks) {
		if n := f.number(i); n > number {
			at, number = i, n
		}
	}
	return at, number
}

// filled gives the number of the block that is filled next, where nothing is in
// it yet.
func (f blocks) filled() (int, error) {
	at, number := f.open()
	switch {
	case f.get(at, blockStatus) != statusKernel:
		return 0, failure.WithHint(failure.Unsupportedf("all blocks of its ring wait for the program"), "try again in a moment, when the program has taken them")
	case f.get(at, blockPackets) != 0:
		return 0, failure.WithHint(failure.Unsupportedf("packets arrive in its ring"), "try again in a moment")
	case f.ring.blocks < 2 || number == 0 || int((number-1)%uint64(f.ring.blocks)) != at || f.retire > mostRetire || number > mostLed/uint64(f.blockSize):
		return 0, failure.WithHint(failure.Unsupportedf("a receiving ring of TPACKET_V3 of which the kernel has opened block %d: to count as far anew would take too long", number),
			"close the socket before the dump, or have the program use TPACKET_V2")
	}
	return int(number), nil
}

// settle waits until what is in the open block is given to the program.
func (f blocks) settle() {
	for deadline := time.Now().Add(time.Duration(min(f.retire, mostRetire))*time.Millisecond + patience*time.Millisecond); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		at, _ := f.open()
		if f.get(at, blockStatus) != statusKernel || f.get(at, blockPackets) == 0 {
			return
		}
	}
}

// lead has the kernel open block number: the ones before it are filled by what
// put sends, the last of them by one packet, and then its time runs out.
func (f blocks) lead(number int, put func(size int) error) error {
	size := min(int(f.blockSize)*3/5, 60000)
	for deadline := time.Now().Add(time.Minute); ; {
		at, now := f.open()
		switch {
		case now > uint64(number) || time.Now().After(deadline):
			return fmt.Errorf("its ring is at block %d, not %d", now, number)
		case now == uint64(number) && f.get(at, blockPackets) == 0:
			return nil
		case now == uint64(number):
			return fmt.Errorf("block %d of its ring is not empty", number)
		case now < uint64(number)-1:
			if err := put(size); err != nil {
				return err
			}
		case f.get(at, blockPackets) == 0:
			if err := put(probeSize); err != nil {
				return err
			}
		default: // its time runs
			time.Sleep(time.Millisecond)
		}
		for i := range int(f.ring.blocks) { // taken at once
			if f.get(i, blockStatus) != statusKernel {
				*f.word(i, blockStatus) = [4]byte{}
			}
		}
	}
}

// leadBlocks is receive for blocks.
func (m *maker) leadBlocks(f blocks, number int) error {
	if number <= 1 {
		return nil
	}
	return m.probe(func(send func([]byte) error) error {
		return f.lead(number, func(size int) error {
			before, _ := f.open()
			had := f.get(before, blockPackets)
			if err := send(make([]byte, size)); err != nil {
				return err
			}
			for deadline := time.Now().Add(patience * time.Millisecond); ; time.Sleep(10 * time.Microsecond) {
				if now, _ := f.open(); now != before || f.get(before, blockPackets) != had || f.get(before, blockStatus) != statusKernel {
					return nil
				}
				if time.Now().After(deadline) {
					return fmt.Errorf("a packet does not come over the loopback interface: %w", unix.ETIMEDOUT)
				}
			}
		})
	})
}
