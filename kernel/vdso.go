package kernel

import (
	"crypto/sha256"
	"fmt"
	"os"

	"ckpt/procfs"
)

// VDSO is a SHA-256 sum over VDSOCode. Programs keep addresses within it, so an
// image fits only a kernel with the very same. nil where the kernel maps none.
func VDSO() ([]byte, error) {
	code, err := VDSOCode()
	if err != nil || code == nil {
		return nil, err
	}
	sum := sha256.Sum256(code)
	return sum[:], nil
}

// VDSOCode is the code that the running kernel maps into every process
// (vdso(7)), in whole pages. nil where the kernel maps none.
func VDSOCode() ([]byte, error) {
	self, err := procfs.Open(os.Getpid())
	if err != nil {
		return nil, err
	}
	defer self.Close()
	maps, err := self.MapsOnly()
	if err != nil {
		return nil, err
	}
	m := procfs.VDSO(maps)
	if m == nil {
		return nil, nil
	}
	mem, err := self.OpenFile("mem", os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	b := make([]byte, m.Len())
	if _, err := mem.ReadAt(b, int64(m.Start)); err != nil {
		return nil, fmt.Errorf("read the vDSO: %w", err)
	}
	return b, nil
}
