package image

import (
	"encoding/binary"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/core-x86"

	"ckpt/failure"
)

// Where the registers of x87 and SSE stand in the first part of an extended state
// (FXSAVE; Intel SDM volume 1, chapter 10), in bytes.
const (
	fxST, fxXMM, fxEnd = 32, 160, 416
)

// PutFXSave writes those registers of a thread as FXSAVE has them. More of them than
// there are is damage. Preconditions: x has the 512 bytes of FXSAVE.
func PutFXSave(x []byte, e *core_x86.UserX86FpregsEntry) error {
	le := binary.LittleEndian
	if len(e.GetStSpace()) > (fxXMM-fxST)/4 || len(e.GetXmmSpace()) > (fxEnd-fxXMM)/4 {
		return failure.Damagedf("its extended registers are more than there are")
	}
	le.PutUint16(x, uint16(e.GetCwd()))
	le.PutUint16(x[2:], uint16(e.GetSwd()))
	le.PutUint16(x[4:], uint16(e.GetTwd()))
	le.PutUint16(x[6:], uint16(e.GetFop()))
	le.PutUint64(x[8:], e.GetRip())
	le.PutUint64(x[16:], e.GetRdp())
	le.PutUint32(x[24:], e.GetMxcsr())
	le.PutUint32(x[28:], e.GetMxcsrMask())
	for i, v := range e.GetStSpace() {
		le.PutUint32(x[fxST+4*i:], v)
	}
	for i, v := range e.GetXmmSpace() {
		le.PutUint32(x[fxXMM+4*i:], v)
	}
	return nil
}
