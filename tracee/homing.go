package tracee

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"sync"

	"ckpt/procfs"
)

// GoingHome tells whether a thread of a stopped process stands in the code of
// a ckpt that was killed: it has not been scheduled since, or the process is
// stopped by a signal. Such a process has to run on before anything else is
// done to it. regs are those of its threads.
//
// Not seen is a signal handler that began on the way home and still runs.
func GoingHome(p *procfs.Proc, pid int, regs []Regs) (bool, error) {
	from, ok, err := leftBlock(p, pid)
	if err != nil || !ok {
		return false, err
	}
	return slices.ContainsFunc(regs, func(r Regs) bool { return pc(r) >= from && pc(r) < from+blockSize() }), nil
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
	at, ok := findBlock(b, blockSize())
	return vdso + uint64(at), ok, nil
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
	m := procfs.VDSO(maps)
	if m == nil {
		return 0, errors.New("ckpt itself has no vDSO")
	}
	return m.Len(), nil
})
