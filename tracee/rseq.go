package tracee

import "encoding/binary"

// Where struct rseq holds the address of the critical section's descriptor,
// and the descriptor (struct rseq_cs) its fields: include/uapi/linux/rseq.h.
const (
	rseqCS      = 8
	csStart     = 8
	csLength    = 16
	csAbort     = 24
	csSize      = 32
	rseqSizeMin = 16
)

// LeaveCriticalSection moves r out of a restartable sequence (rseq(2)) to its
// abort handler, as the kernel does to a preempted thread. It has to be done
// before other code runs in the thread, upon which the kernel would forget the
// section without aborting it. The word that announces the section stays set,
// which means nothing outside of it.
func (t *Thread) LeaveCriticalSection(r *Regs) (moved bool, err error) {
	if inSyscall(*r) {
		return false, nil // no system call is allowed inside a section
	}
	c, err := t.Rseq()
	if err != nil || c.Ptr == 0 || c.Size < rseqSizeMin {
		return false, err
	}
	at, err := ReadUint64(t.TID, c.Ptr+rseqCS)
	if err != nil || at == 0 {
		return false, err
	}
	var d [csSize]byte
	if err := ReadMemory(t.TID, at, d[:]); err != nil {
		return false, err
	}
	le := binary.LittleEndian
	start, length, abort := le.Uint64(d[csStart:]), le.Uint64(d[csLength:]), le.Uint64(d[csAbort:])
	if pc(*r)-start >= length {
		return false, nil
	}
	setPC(r, abort)
	return true, nil
}
