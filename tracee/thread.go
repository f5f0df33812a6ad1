package tracee

import "golang.org/x/sys/unix"

// Regs are the general registers of a thread (NT_PRSTATUS).
type Regs = unix.PtraceRegs

// Thread is a traced thread.
type Thread struct {
	PID  int // host id of its process
	TID  int // host id of the thread
	VPID int // the same two in the thread's own pid namespace
	VTID int
}

// Site is where injected code and its data stand in a process.
type Site struct {
	Code uint64 // the batch interpreter
	Call uint64 // a lone `syscall` instruction followed by the way home
	Base uint64 // data area: readable, writable
	Size uint64 // bytes of it
}

// Run runs s, which was built with NewScript(site.Base) or a later address within the area, in t.
func (t *Thread) Run(site Site, s *Script) error { panic("tracee: being written") }

// Syscall runs one call in t. A result of -4095..-1 comes back as an errno.
func (t *Thread) Syscall(site Site, nr uintptr, args ...uint64) (uint64, error) {
	panic("tracee: being written")
}

func (t *Thread) Regs() (Regs, error)          { panic("tracee: being written") }
func (t *Thread) SetRegs(r Regs) error         { panic("tracee: being written") }
func (t *Thread) XState() ([]byte, error)      { panic("tracee: being written") }
func (t *Thread) SetXState(b []byte) error     { panic("tracee: being written") }
func (t *Thread) SigMask() (uint64, error)     { panic("tracee: being written") }
func (t *Thread) SetSigMask(m uint64) error    { panic("tracee: being written") }
func (t *Thread) Detach(sig unix.Signal) error { panic("tracee: being written") }

// Pending lists the queued signals, 128 bytes of siginfo each: the thread's own, or the process's shared ones.
func (t *Thread) Pending(shared bool) ([][]byte, error) { panic("tracee: being written") }

// ReadMemory and WriteMemory move bytes from and to a process by its host pid (process_vm_readv(2)).
func ReadMemory(pid int, addr uint64, b []byte) error  { panic("tracee: being written") }
func WriteMemory(pid int, addr uint64, b []byte) error { panic("tracee: being written") }
