package tracee

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// An entry of the table, as the interpreter (code_amd64.s) reads it:
//
//	0 nr, 8 to 55 six arguments, 56 result, 64 address that receives the
//	result too, 72 flags (bit 0: stop when the result is an errno)
const (
	entrySize   = 80
	entryArgs   = 8
	entryResult = 56
	entryDst    = 64
	entryFlags  = 72
	flagMust    = 1
	flagAgain   = 2
	maxErrno    = 4095
)

// Script is a table of system calls that a stopped thread runs in one round
// trip. The calls and their data live in the area of a Site.
type Script struct {
	base  uint64
	data  []byte
	steps []step
	ran   bool
}

type step struct {
	nr     uint64
	args   [6]uint64
	must   bool
	again  Step // no call, but the result of that step; -1: a call
	feedTo Step // -1: nowhere
	feed   int
	store  uint64 // 0: nowhere
	aims   []aim
	note   string
	why    func(unix.Errno) error // nil: nothing is known
	result uint64
	done   bool
}

// aim is an argument that is the address of another step's argument.
type aim struct {
	arg   int
	to    Step
	toArg int
}

// AtCwd is AT_FDCWD as an argument of a call (openat(2)).
const AtCwd = 1<<64 + unix.AT_FDCWD

// Step is the index of one call of a Script.
type Step int

// NewScript starts an empty script whose data will stand at address base.
func NewScript(base uint64) *Script { return &Script{base: base} }

// Data reserves room holding b and returns its address in the target (16-aligned).
func (s *Script) Data(b []byte) uint64 {
	s.align()
	a := s.base + uint64(len(s.data))
	s.data = append(s.data, b...)
	return a
}

// Str is Data of a NUL-terminated string.
func (s *Script) Str(v string) uint64 {
	a := s.Data([]byte(v))
	s.data = append(s.data, 0)
	return a
}

// Space reserves n zero bytes.
func (s *Script) Space(n int) uint64 {
	s.align()
	a := s.base + uint64(len(s.data))
	s.data = append(s.data, make([]byte, n)...)
	return a
}

func (s *Script) align() {
	for len(s.data)%16 != 0 {
		s.data = append(s.data, 0)
	}
}

// Must appends a call that must succeed; the script stops where one fails.
// It panics on more than six arguments, which no call has.
func (s *Script) Must(nr uintptr, args ...uint64) Step { return s.add(nr, args, true) }

// Try appends a call that may fail; see Result.
func (s *Script) Try(nr uintptr, args ...uint64) Step { return s.add(nr, args, false) }

func (s *Script) add(nr uintptr, args []uint64, must bool) Step {
	if len(args) > 6 {
		panic(fmt.Sprintf("tracee: system call %d with %d arguments", nr, len(args)))
	}
	st := step{nr: uint64(nr), must: must, again: -1, feedTo: -1}
	copy(st.args[:], args)
	s.steps = append(s.steps, st)
	return Step(len(s.steps) - 1)
}

// Feed makes the result of step from argument arg (0 to 5) of the later step
// to. A step feeds one argument: a second Feed of the same step panics.
func (s *Script) Feed(from, to Step, arg int) {
	if to <= from || arg < 0 || arg > 5 || s.steps[from].feedTo >= 0 || s.steps[from].store != 0 {
		panic(fmt.Sprintf("tracee: cannot feed step %d into argument %d of step %d", from, arg, to))
	}
	s.steps[from].feedTo, s.steps[from].feed = to, arg
}

// Store puts the result of step at addr, 8 bytes, beside where Result finds it.
// It is instead of Feed.
func (s *Script) Store(step Step, addr uint64) {
	if s.steps[step].feedTo >= 0 || s.steps[step].store != 0 {
		panic(fmt.Sprintf("tracee: the result of step %d goes somewhere already", step))
	}
	s.steps[step].store = addr
}

// Arg is an argument of a step as it stood after Run: what Aim and Feed have
// put there.
func (s *Script) Arg(at Step, arg int) uint64 { return s.steps[at].args[arg] }

// Again appends a step that makes no call: its result is that of the earlier
// step from, for one more Feed or Store.
func (s *Script) Again(from Step) Step {
	at := s.add(0, nil, false)
	s.steps[at].again = from
	return at
}

// Aim makes argument arg of step the address of argument toArg of the later
// step to, for calls that store what they give in memory (io_setup).
func (s *Script) Aim(step Step, arg int, to Step, toArg int) {
	s.steps[step].aims = append(s.steps[step].aims, aim{arg, to, toArg})
}

// Note names a step for error messages ("open pipe 3").
func (s *Script) Note(at Step, what string) { s.steps[at].note = what }

// Explain has why say, when the script stops at a step, what that means to a
// user: it is called after the calls, and may look at the machine. Where it gives
// nil, the error is the StepError.
func (s *Script) Explain(at Step, why func(unix.Errno) error) { s.steps[at].why = why }

// Result is what step returned: a value, or an errno (as error) for
// -4095..-1. Only after Run; a step that a failed Must kept from running is
// ECANCELED.
func (s *Script) Result(at Step) (uint64, error) {
	st := &s.steps[at]
	if !st.done {
		return 0, unix.ECANCELED
	}
	return result(st.result)
}

func result(v uint64) (uint64, error) {
	if -v-1 < maxErrno {
		return 0, unix.Errno(-v)
	}
	return v, nil
}

// Peek is what step has returned to the script that is running in a thread, 0 before.
// It may be called from any goroutine between Start and Finish; at other times it
// gives anything.
func (s *Script) Peek(tid int, at Step) uint64 {
	var b [8]byte
	if ReadMemory(tid, s.entryAddr(at)+entryResult, b[:]) != nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b[:])
}

// Bytes are n bytes at a target address handed out by Data or Space, as they
// stood after Run (before it: as they will be written).
func (s *Script) Bytes(addr uint64, n int) []byte {
	off := addr - s.base
	return s.data[off : off+uint64(n) : off+uint64(n)]
}

// Len is the number of steps; Size the bytes needed in the area, 16-aligned,
// so that another script may stand right behind.
func (s *Script) Len() int     { return len(s.steps) }
func (s *Script) Size() uint64 { return s.tableOff() + uint64(len(s.steps))*entrySize }

func (s *Script) tableOff() uint64        { return (uint64(len(s.data)) + 15) &^ 15 }
func (s *Script) entryAddr(i Step) uint64 { return s.base + s.tableOff() + uint64(i)*entrySize }

// encode is the script as it stands in the area: data, then the table.
func (s *Script) encode() []byte {
	out := make([]byte, s.Size())
	copy(out, s.data)
	for i := range s.steps {
		st := &s.steps[i]
		e := out[s.tableOff()+uint64(i)*entrySize:][:entrySize]
		le := binary.LittleEndian
		le.PutUint64(e, st.nr)
		for j, a := range st.args {
			le.PutUint64(e[entryArgs+8*j:], a)
		}
		for _, a := range st.aims {
			le.PutUint64(e[entryArgs+8*a.arg:], s.entryAddr(a.to)+entryArgs+uint64(a.toArg)*8)
		}
		dst := s.entryAddr(Step(i)) + entryResult
		if st.store != 0 {
			dst = st.store
		} else if st.feedTo >= 0 {
			dst = s.entryAddr(st.feedTo) + entryArgs + uint64(st.feed)*8
		}
		flags := uint64(0)
		if st.must {
			flags |= flagMust
		}
		if st.again >= 0 {
			flags |= flagAgain
			le.PutUint64(e[entryArgs:], s.entryAddr(st.again)+entryResult)
		}
		le.PutUint64(e[entryDst:], dst)
		le.PutUint64(e[entryFlags:], flags)
	}
	return out
}

// decode takes in what stands in the area after the first ran steps have run.
func (s *Script) decode(b []byte, ran int) {
	copy(s.data, b)
	s.ran = true
	for i := range s.steps {
		st := &s.steps[i]
		st.done = i < ran
		for j := range st.args {
			st.args[j] = binary.LittleEndian.Uint64(b[s.tableOff()+uint64(i)*entrySize+entryArgs+8*uint64(j):])
		}
		st.result = binary.LittleEndian.Uint64(b[s.tableOff()+uint64(i)*entrySize+entryResult:])
	}
}

// StepError is the call that a script stopped at.
type StepError struct {
	Step, Steps int
	Nr          uint64
	Args        [6]uint64
	Note        string
	Errno       unix.Errno
}

// Error is as "open pipe 3: too many open files (pipe2 0x7f0000000000, call 3 of 12)".
func (e *StepError) Error() string {
	call := fmt.Sprintf("%s %#x", callName(e.Nr), e.Args[0])
	if e.Note == "" {
		return fmt.Sprintf("%s: %v (call %d of %d)", call, e.Errno, e.Step+1, e.Steps)
	}
	return fmt.Sprintf("%s: %v (%s, call %d of %d)", e.Note, e.Errno, call, e.Step+1, e.Steps)
}

// Unwrap gives the errno.
func (e *StepError) Unwrap() error { return e.Errno }

func (s *Script) failed(at int) error {
	st := &s.steps[at]
	if st.why != nil {
		if err := st.why(unix.Errno(-st.result)); err != nil {
			return err
		}
	}
	return &StepError{Step: at, Steps: len(s.steps), Nr: st.nr, Args: st.args, Note: st.note, Errno: unix.Errno(-st.result)}
}
