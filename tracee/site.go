package tracee

import (
	"encoding/binary"
	"os"
)

// Site is where injected code and its data stand in a process.
type Site struct {
	Code uint64 // the batch interpreter
	Call uint64 // a lone `syscall` instruction followed by the way home
	Base uint64 // data area: readable, writable
	Size uint64 // bytes of it
}

// The code of a site stands in a block: a mark, the host pid of the ckpt that
// wrote it, the sizes of the area as each of two home frames sees it, the
// code, the frames. At any time at most one of the sizes is not zero: the
// thread of that frame unmaps the area on its way home. Both words are written
// at once when the other thread takes over.
const (
	blockMagic = "ckptcode"
	blockPID   = 8
	blockSizes = 16
	blockCode  = 32
	frames     = 2
)

func align16(n uint64) uint64 { return (n + 15) &^ 15 }

// blockSize is the room that the code of a site takes.
func blockSize() uint64 {
	return blockCode + align16(uint64(len(layout().text))) + frames*frameSize
}

// siteAt is the site whose block stands at addr.
func siteAt(addr uint64) Site {
	return Site{Code: addr + blockCode, Call: addr + blockCode + layout().call}
}

func (s Site) block() uint64       { return s.Code - blockCode }
func (s Site) home() uint64        { return s.Code + layout().home }
func (s Site) sizeAt(i int) uint64 { return s.block() + blockSizes + 8*uint64(i) }
func (s Site) frameAt(i int) uint64 {
	return s.Code + align16(uint64(len(layout().text))) + uint64(i)*frameSize
}

// encodeBlock is a block whose frames are empty.
func encodeBlock() []byte {
	b := make([]byte, blockSize())
	copy(b, blockMagic)
	binary.LittleEndian.PutUint64(b[blockPID:], uint64(os.Getpid()))
	copy(b[blockCode:], layout().text)
	return b
}

// InstallSite writes the code to addr, which must be executable memory of the
// process with host id pid, and gives the rest of the size bytes there as
// data area. There is no way home from such a site: the threads that use it
// must die with ckpt (Options.ExitKill).
func InstallSite(pid int, addr, size uint64) (Site, error) {
	if err := WriteMemory(pid, addr, encodeBlock()); err != nil {
		return Site{}, err
	}
	s := siteAt(addr)
	s.Base = addr + align16(blockSize())
	s.Size = addr + size - s.Base
	return s, nil
}
