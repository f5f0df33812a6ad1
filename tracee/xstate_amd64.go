package tracee

func cpuid(leaf, sub uint32) (a, b, c, d uint32)

// XComponent is where a component of the extended state stands in the
// processor's standard XSAVE format; Size 0: this processor has it not.
type XComponent struct{ Offset, Size uint32 }

// xsaveLeaf is CPUID's leaf on the extended state.
const xsaveLeaf = 0xd

// XComponents gives the layout by component number (bit in XCR0). 0 and 1,
// x87 and SSE, stand in the first 512 bytes always.
func XComponents() (out [64]XComponent) {
	if most, _, _, _ := cpuid(0, 0); most < xsaveLeaf {
		return out
	}
	lo, _, _, hi := cpuid(xsaveLeaf, 0)
	have := uint64(hi)<<32 | uint64(lo)
	for i := 2; i < len(out); i++ {
		if have>>i&1 != 0 {
			size, offset, _, _ := cpuid(xsaveLeaf, uint32(i))
			out[i] = XComponent{Offset: offset, Size: size}
		}
	}
	return out
}
