package tracee

// Script is a table of system calls that a stopped thread runs in one round
// trip. The calls and their data live in the area of a Site.
type Script struct{ base uint64 }

// Step is the index of one call of a Script.
type Step int

// NewScript starts an empty script whose data will stand at address base.
func NewScript(base uint64) *Script { panic("tracee: being written") }

// Data reserves room holding b and returns its address in the target (16-aligned).
func (s *Script) Data(b []byte) uint64 { panic("tracee: being written") }

// Str is Data of a NUL-terminated string.
func (s *Script) Str(v string) uint64 { panic("tracee: being written") }

// Space reserves n zero bytes.
func (s *Script) Space(n int) uint64 { panic("tracee: being written") }

// Must appends a call that must succeed; the script stops where one fails.
func (s *Script) Must(nr uintptr, args ...uint64) Step { panic("tracee: being written") }

// Try appends a call that may fail; see Result.
func (s *Script) Try(nr uintptr, args ...uint64) Step { panic("tracee: being written") }

// Feed makes the result of step from argument arg (0 to 5) of the later step to.
func (s *Script) Feed(from, to Step, arg int) { panic("tracee: being written") }

// Note names a step for error messages ("open pipe 3").
func (s *Script) Note(at Step, what string) { panic("tracee: being written") }

// Result is what step returned: a value, or an errno (as error) for -4095..-1. Only after Run.
func (s *Script) Result(at Step) (uint64, error) { panic("tracee: being written") }

// Bytes are n bytes at a target address handed out by Data or Space, as they stood after Run.
func (s *Script) Bytes(addr uint64, n int) []byte { panic("tracee: being written") }

// Len is the number of steps; Size the bytes needed in the area.
func (s *Script) Len() int     { panic("tracee: being written") }
func (s *Script) Size() uint64 { panic("tracee: being written") }
