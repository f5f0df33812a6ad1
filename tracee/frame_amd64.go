package tracee

import (
	"bytes"
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// A home frame: where a thread's own state is kept, in its own memory, while
// it runs injected code, so that it finds home even if ckpt is gone. Offsets
// are known to code_amd64.s.
//
// It begins with the last two instructions of the way home. These take the
// instruction pointer and R15 from fixed distances, so that no register and
// no stack is left to be put right:
//
//	MOV R15, [RIP+17]; JMP [RIP+3]
const (
	frameRip   = 16
	frameR15   = 24
	frameFlags = 152
	frameMask  = 160 // then a zero word
	frameArea  = 176
	frameSizeP = 184 // address of the word that holds the area's size
	frameSize  = 192
)

var frameTail = []byte{0x4c, 0x8b, 0x3d, 17, 0, 0, 0, 0xff, 0x25, 3, 0, 0, 0}

// encodeFrame makes a frame that goes home to r and mask, and on the way
// unmaps area, of as many bytes as the word at sizeAt says then.
func encodeFrame(r Regs, mask, area, sizeAt uint64) []byte {
	r = restartedByHand(r)
	b := make([]byte, frameSize)
	copy(b, frameTail)
	le := binary.LittleEndian
	for i, v := range []uint64{r.Rip, r.R15,
		r.Rax, r.Rbx, r.Rcx, r.Rdx, r.Rsi, r.Rdi, r.Rbp, r.Rsp,
		r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14,
		r.Eflags, mask, 0, area, sizeAt} {
		le.PutUint64(b[frameRip+8*i:], v)
	}
	return b
}

// codeLayout is the machine code and the places in it.
type codeLayout struct {
	text       []byte
	home, call uint64 // offsets: right behind tgkill; the lone SYSCALL
}

var layout = sync.OnceValue(func() codeLayout {
	c := codeLayout{text: text(codeAddr)}
	var at []uint64 // of the SYSCALLs
	for i := range c.text {
		if bytes.HasPrefix(c.text[i:], syscallInsn) {
			at = append(at, uint64(i))
		}
	}
	c.home, c.call = at[1]+2, at[4]
	return c
})

// syscallInsn is SYSCALL.
var syscallInsn = []byte{0x0f, 0x05}

const (
	// noSyscall in Orig_rax: the kernel has nothing to restart.
	noSyscall   = ^uint64(0)
	plainFlags  = 0x202 // interrupts on, nothing else
	userCS64    = 0x33
	defaultDone = unix.SIGURG
)

func supported() error { return nil }

// injectable tells why code cannot run in a thread with these registers.
func injectable(r Regs) error {
	if r.Cs != userCS64 {
		return failure.WithHint(failure.Unsupportedf("it runs 32-bit code (code segment %#x)", r.Cs), "use a 64-bit build of the program")
	}
	return nil
}

// homeRegs are those of a thread that stands on the way home.
func homeRegs(r Regs, s Site, frame uint64) Regs {
	r.Orig_rax, r.Eflags = noSyscall, plainFlags
	r.Rip, r.R15, r.Rbx = s.home(), frame, 0
	return r
}

func (t *Thread) setTable(r *Regs, s Site, entry uint64, n int) {
	r.Orig_rax, r.Eflags = noSyscall, plainFlags
	r.Rip, r.Rbx, r.Rbp = s.Code, entry, uint64(n)
	t.setDone(r)
}

func (t *Thread) setCall(r *Regs, ip uint64, nr uintptr, args []uint64) {
	var a [6]uint64
	copy(a[:], args)
	r.Orig_rax, r.Eflags = noSyscall, plainFlags
	r.Rip, r.Rax = ip, uint64(nr)
	r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9 = a[0], a[1], a[2], a[3], a[4], a[5]
	t.setDone(r)
}

func (t *Thread) setDone(r *Regs) {
	r.R12, r.R13, r.R14 = uint64(t.VPID), uint64(t.VTID), uint64(t.done)
}

func pc(r Regs) uint64         { return r.Rip }
func callResult(r Regs) uint64 { return r.Rbx }
func rawResult(r Regs) uint64  { return r.Rax }
func entriesLeft(r Regs) int   { return int(r.Rbp) }
func withoutCall(r Regs) Regs  { r.Orig_rax = noSyscall; return r }

func setPC(r *Regs, at uint64) { r.Rip = at }
func inSyscall(r Regs) bool    { return int64(r.Orig_rax) >= 0 }
