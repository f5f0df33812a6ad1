package tracee

import (
	"sync"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// Nothing runs in a process of this architecture yet: Seize and StartStub
// refuse, so that the rest of this file is never reached.

func supported() error {
	return failure.Unsupportedf("ckpt does not know the arm64 architecture yet")
}

const (
	defaultDone = unix.SIGURG
	frameSize   = 16
)

type codeLayout struct {
	text       []byte
	home, call uint64
}

var layout = sync.OnceValue(func() codeLayout { return codeLayout{} })

func injectable(Regs) error                           { return supported() }
func encodeFrame(Regs, uint64, uint64, uint64) []byte { return make([]byte, frameSize) }
func homeRegs(r Regs, _ Site, _ uint64) Regs          { return r }
func stubELF() []byte                                 { return nil }
func stubSite() Site                                  { return Site{} }
func reaperRegs(r Regs, _, _ int) Regs                { return r }
func orphanRegs(r Regs) Regs                          { return r }
func restartEINTR(*Regs) bool                         { return false }

// StopsWithEINTR tells nothing on this architecture.
func StopsWithEINTR(uint64) bool { return false }

// RestartsEINTR tells nothing on this architecture.
func RestartsEINTR(uint64) bool { return false }

func (t *Thread) setTable(*Regs, Site, uint64, int)        {}
func (t *Thread) setCall(*Regs, uint64, uintptr, []uint64) {}

func pc(r Regs) uint64          { return r.Pc }
func setPC(r *Regs, at uint64)  { r.Pc = at }
func inSyscall(Regs) bool       { return false }
func callResult(Regs) uint64    { return 0 }
func rawResult(Regs) uint64     { return 0 }
func entriesLeft(Regs) int      { return 0 }
func withoutCall(r Regs) Regs   { return r }
func callName(nr uint64) string { return "system call" }
