package memory

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// maxAuxv is more than any auxiliary vector takes, in bytes (AT_VECTOR_SIZE of
// the kernel is about 50 words).
const maxAuxv = 1 << 10

// describe tells the kernel what the parts of the address space are, in one
// call (struct prctl_mm_map of prctl(2) PR_SET_MM_MAP).
func (b *space) describe() error {
	m := b.t.MM
	exe, err := b.r.File(m.GetExeFileId())
	if err != nil {
		return fmt.Errorf("its executable: %w", err)
	}
	var auxv []byte
	for _, v := range m.GetMmSavedAuxv() {
		auxv = binary.LittleEndian.AppendUint64(auxv, v)
	}
	if len(auxv) == 0 || len(auxv) > maxAuxv {
		return failure.Damagedf("an auxiliary vector of %d bytes", len(auxv))
	}
	fd := b.t.Fetch(b.s, exe)
	var a []byte
	for _, v := range []uint64{m.GetMmStartCode(), m.GetMmEndCode(), m.GetMmStartData(), m.GetMmEndData(),
		m.GetMmStartBrk(), m.GetMmBrk(), m.GetMmStartStack(), m.GetMmArgStart(), m.GetMmArgEnd(),
		m.GetMmEnvStart(), m.GetMmEnvEnd(), b.s.Data(auxv)} {
		a = binary.LittleEndian.AppendUint64(a, v)
	}
	a = binary.LittleEndian.AppendUint32(a, uint32(len(auxv)))
	a = binary.LittleEndian.AppendUint32(a, uint32(fd))
	b.s.Note(b.s.Must(unix.SYS_PRCTL, unix.PR_SET_MM, unix.PR_SET_MM_MAP, b.s.Data(a), uint64(len(a)), 0),
		"describe the address space (PR_SET_MM_MAP)")
	b.t.Drop(b.s, fd)
	return nil
}
