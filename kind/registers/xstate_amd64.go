package registers

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/core-x86"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/tracee"
)

// The standard format of XSAVE (Intel SDM volume 1, chapter 13): the 512
// bytes of FXSAVE, a header of 64 bytes that begins with the set of components
// that are not in their initial state, then the components.
const (
	fxST, fxXMM  = 32, 160
	fxReserved   = 464 // for the kernel: begins with the set of components it saves
	xheader      = 512
	xstateFirst  = 576
	compAVX      = 2
	compBNDREG   = 3
	compBNDCSR   = 4
	compOpmask   = 5
	compZMMHi256 = 6
	compHi16ZMM  = 7
	compPKRU     = 9
	legacy       = 1<<0 | 1<<1 // x87, SSE
)

// criuComponents are those that CRIU's message has fields for.
const criuComponents = legacy | 1<<compAVX | 1<<compBNDREG | 1<<compBNDCSR | 1<<compOpmask | 1<<compZMMHi256 | 1<<compHi16ZMM | 1<<compPKRU

type layout [64]tracee.XComponent

// part is a component of x, nil if it is in its initial state or x has none.
func part(x []byte, at tracee.XComponent, bit int) []byte {
	if len(x) < xstateFirst || binary.LittleEndian.Uint64(x[xheader:])>>bit&1 == 0 || at.Size == 0 || int(at.Offset+at.Size) > len(x) {
		return nil
	}
	return x[at.Offset : at.Offset+at.Size]
}

func encodeXState(x []byte, at layout) *core_x86.UserX86FpregsEntry {
	le, u32, u64 := binary.LittleEndian, proto.Uint32, proto.Uint64
	if len(x) < xheader {
		x = append(x, make([]byte, xheader-len(x))...)
	}
	e := &core_x86.UserX86FpregsEntry{
		Cwd: u32(uint32(le.Uint16(x))), Swd: u32(uint32(le.Uint16(x[2:]))), Twd: u32(uint32(le.Uint16(x[4:]))), Fop: u32(uint32(le.Uint16(x[6:]))),
		Rip: u64(le.Uint64(x[8:])), Rdp: u64(le.Uint64(x[16:])), Mxcsr: u32(le.Uint32(x[24:])), MxcsrMask: u32(le.Uint32(x[28:])),
		StSpace: words32(x[fxST:fxXMM]), XmmSpace: words32(x[fxXMM : fxXMM+256]),
	}
	if len(x) < xstateFirst {
		return e
	}
	e.Xsave = &core_x86.UserX86XsaveEntry{
		XstateBv: u64(le.Uint64(x[xheader:])), YmmhSpace: words32(part(x, at[compAVX], compAVX)),
		BndregState: words64(part(x, at[compBNDREG], compBNDREG)), BndcsrState: words64(part(x, at[compBNDCSR], compBNDCSR)),
		OpmaskReg: words64(part(x, at[compOpmask], compOpmask)), ZmmUpper: words64(part(x, at[compZMMHi256], compZMMHi256)),
		Hi16Zmm: words64(part(x, at[compHi16ZMM], compHi16ZMM)), Pkru: words32(part(x, at[compPKRU], compPKRU)),
	}
	return e
}

// decodeXState puts CRIU's fields into the format of this processor, of
// which now is a state.
func decodeXState(e *core_x86.UserX86FpregsEntry, now []byte, at layout) ([]byte, error) {
	le := binary.LittleEndian
	x := make([]byte, len(now))
	if len(x) < xheader {
		return nil, fmt.Errorf("an extended state of %d bytes", len(x))
	}
	copy(x[fxReserved:xheader], now[fxReserved:xheader])
	if err := image.PutFXSave(x, e); err != nil {
		return nil, err
	}
	le.PutUint32(x[28:], le.Uint32(now[28:])) // what this processor's MXCSR has
	if len(x) < xstateFirst {
		return x, nil
	}
	have := uint64(legacy)
	s := e.GetXsave()
	for _, c := range []struct {
		bit  int
		w32  []uint32
		w64  []uint64
		name string
	}{
		{compAVX, s.GetYmmhSpace(), nil, "AVX"},
		{compBNDREG, nil, s.GetBndregState(), "MPX"},
		{compBNDCSR, nil, s.GetBndcsrState(), "MPX"},
		{compOpmask, nil, s.GetOpmaskReg(), "AVX-512"},
		{compZMMHi256, nil, s.GetZmmUpper(), "AVX-512"},
		{compHi16ZMM, nil, s.GetHi16Zmm(), "AVX-512"},
		{compPKRU, s.GetPkru(), nil, "memory protection keys"},
	} {
		n := 4*len(c.w32) + 8*len(c.w64)
		if n == 0 || s.GetXstateBv()>>c.bit&1 == 0 {
			continue
		}
		if at[c.bit].Size == 0 || int(at[c.bit].Offset+at[c.bit].Size) > len(x) {
			return nil, incompatible("its registers hold %s state, which this processor has not", c.name)
		}
		dst := x[at[c.bit].Offset : at[c.bit].Offset+at[c.bit].Size]
		put32(dst, c.w32)
		put64(dst, c.w64)
		have |= 1 << c.bit
	}
	le.PutUint64(x[xheader:], have)
	return x, nil
}

// checkXState tells before anything is done whether this processor has all
// that is in use in x.
func checkXState(x []byte, at layout) (used uint64, err error) {
	if len(x) < xstateFirst {
		return legacy, nil
	}
	used = binary.LittleEndian.Uint64(x[xheader:])
	for rest := used &^ legacy; rest != 0; rest &= rest - 1 {
		if bit := bits.TrailingZeros64(rest); at[bit].Size == 0 {
			return used, failure.WithHint(incompatible("its registers hold state (XSAVE component %d) that this processor has not", bit),
				"restore it on a machine whose processor has the features of the one it ran on")
		}
	}
	return used, nil
}

// carriesAll tells whether CRIU's fields are all of raw, which is of another
// layout.
func carriesAll(raw []byte, e *core_x86.UserX86FpregsEntry) error {
	if e == nil {
		return failure.Damagedf("the thread has no extended registers")
	}
	if len(raw) < xstateFirst {
		return nil
	}
	if more := binary.LittleEndian.Uint64(raw[xheader:]) &^ criuComponents; more != 0 {
		return incompatible("its registers hold state (XSAVE component %d) in the layout of another processor", bits.TrailingZeros64(more))
	}
	return nil
}

func incompatible(format string, args ...any) error {
	return failure.Mark(failure.ErrIncompatible, fmt.Errorf(format, args...))
}

func words32(b []byte) (out []uint32) {
	for ; len(b) >= 4; b = b[4:] {
		out = append(out, binary.LittleEndian.Uint32(b))
	}
	return out
}

func words64(b []byte) (out []uint64) {
	for ; len(b) >= 8; b = b[8:] {
		out = append(out, binary.LittleEndian.Uint64(b))
	}
	return out
}

func put32(b []byte, w []uint32) {
	for i, v := range w {
		if 4*i+4 <= len(b) {
			binary.LittleEndian.PutUint32(b[4*i:], v)
		}
	}
}

func put64(b []byte, w []uint64) {
	for i, v := range w {
		if 8*i+8 <= len(b) {
			binary.LittleEndian.PutUint64(b[8*i:], v)
		}
	}
}
