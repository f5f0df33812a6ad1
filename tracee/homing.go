package tracee

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"sync"

	"ckpt/procfs"
)

// GoingHome tells whether a thread of a stopped process has yet to come home
// from the code of a ckpt that was killed: it stands in that code, or in a
// signal handler that began there, and will return there. Such a process has
// to run on before anything else is done to it. regs are those of its threads.
//
// A handler is told by the address in the code that stands in its signal
// frame, so on its stack, above the stack pointer. What an earlier handler has
// left in a part of the stack that is in use again, but not yet written to,
// looks the same.
func GoingHome(p *procfs.Proc, pid int, regs []Regs) (bool, error) {
	from, ok, err := leftBlock(p, pid)
	if err != nil || !ok {
		return false, err
	}
	inside := func(v uint64) bool { return v >= from && v < from+blockSize() }
	maps, err := p.MapsOnly()
	if err != nil {
		return false, err
	}
	for _, r := range regs {
		if inside(pc(r)) {
			return true, nil
		}
		for i := range maps {
			if m := &maps[i]; sp(r) >= m.Start && sp(r) < m.End {
				if holds(pid, sp(r)&^7, m.End, inside) {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// holds tells whether an aligned word of [from, to) is one that is looked for.
// What cannot be read does not count.
func holds(pid int, from, to uint64, is func(uint64) bool) bool {
	b := make([]byte, 64<<10)
	for ; from < to; from += uint64(len(b)) {
		b = b[:min(uint64(len(b)), to-from)]
		if ReadMemory(pid, from, b) != nil {
			continue
		}
		for at := 0; at < len(b); at += 8 {
			if is(binary.LittleEndian.Uint64(b[at:])) {
				return true
			}
		}
	}
	return false
}

// leftBlock finds a block in the vDSO of a process. One elsewhere stays where
// it is, is saved with the program, and is not used again.
func leftBlock(p *procfs.Proc, pid int) (addr uint64, ok bool, err error) {
	vdso, err := vdsoOf(p)
	if err != nil || vdso == 0 {
		return 0, false, err
	}
	n, err := vdsoLen()
	if err != nil {
		return 0, false, err
	}
	b := make([]byte, n)
	if ReadMemory(pid, vdso, b) != nil {
		return 0, false, nil // moved or unmapped by the program
	}
	at := bytes.Index(b, []byte(blockMagic))
	return vdso + uint64(at), at >= 0, nil
}

const atSysinfoEHDR = 33 // where the vDSO begins (getauxval(3))

// vdsoOf gives 0 if there is none.
func vdsoOf(p *procfs.Proc) (uint64, error) {
	b, err := p.Auxv()
	for ; err == nil && len(b) >= 16; b = b[16:] {
		if binary.LittleEndian.Uint64(b) == atSysinfoEHDR {
			return binary.LittleEndian.Uint64(b[8:]), nil
		}
	}
	return 0, err
}

// vdsoLen is the length of the vDSO, the same for all 64-bit programs.
var vdsoLen = sync.OnceValues(func() (uint64, error) {
	p, err := procfs.Open(os.Getpid())
	if err != nil {
		return 0, err
	}
	defer p.Close()
	maps, err := p.MapsOnly()
	if err != nil {
		return 0, err
	}
	for i := range maps {
		if maps[i].IsVDSO() {
			return maps[i].Len(), nil
		}
	}
	return 0, errors.New("ckpt itself has no vDSO")
})
