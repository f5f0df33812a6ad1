// Package procfs reads /proc/PID: typed parsers of the kernel's text.
package procfs

// Proc is one process (or one thread) under /proc, held by an open directory
// so that a reused pid is never read by mistake.
type Proc struct{}

// Open opens /proc/PID of the host.
func Open(pid int) (*Proc, error) { panic("procfs: being written") }

// FDInfo is /proc/PID/fdinfo/N.
type FDInfo struct {
	Pos   int64
	Flags int // open(2) flags, O_CLOEXEC among them when the descriptor has it
	MntID int
	Ino   uint64
	Lines []string // the lines a kind of file adds
}

// Map is one mapping of /proc/PID/smaps.
type Map struct {
	Start, End                uint64
	Read, Write, Exec, Shared bool
	Offset                    uint64
	Dev                       uint64
	Ino                       uint64
	Path                      string
	Flags                     []string
}

// Status is /proc/PID/status, Stat /proc/PID/stat.
type Status struct{}
type Stat struct{}
