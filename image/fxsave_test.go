package image

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/core-x86"

	"ckpt/failure"
)

func TestPutFXSave(t *testing.T) {
	e := &core_x86.UserX86FpregsEntry{Cwd: new(uint32(0x37f)), Mxcsr: new(uint32(0x1f80)), MxcsrMask: new(uint32(0xffff)),
		StSpace: make([]uint32, 32), XmmSpace: make([]uint32, 64)}
	e.StSpace[31], e.XmmSpace[0], e.XmmSpace[63] = 1, 2, 3
	x := make([]byte, 512)
	check(t, PutFXSave(x, e))
	for at, want := range map[int]uint32{0: 0x37f, 24: 0x1f80, 28: 0xffff, 156: 1, 160: 2, 412: 3, 416: 0} {
		if got := binary.LittleEndian.Uint32(x[at:]); got != want {
			t.Errorf("at %d: %#x, want %#x", at, got, want)
		}
	}
	for _, more := range []*core_x86.UserX86FpregsEntry{{StSpace: make([]uint32, 33)}, {XmmSpace: make([]uint32, 65)}} {
		if err := PutFXSave(x, more); !errors.Is(err, failure.ErrDamaged) {
			t.Errorf("error %v", err)
		}
	}
}
