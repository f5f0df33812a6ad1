package registers

import (
	"encoding/binary"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/tracee"
)

// behindRestart finds which call a thread in restart_syscall(2) made at
// first. It had the same arguments, which are in its registers. In this order:
// the kernel's stack before the stop, of which ordinary users may read where it
// sleeps (not in every kernel); the instruction that set the call's number, if
// it is right before the SYSCALL; what the arguments can be. A wrong guess
// could write into the program's memory.
func behindRestart(t *kind.Task, r tracee.Regs) uint64 {
	if nr, ok := readNoteCall(t.Traced.TID, r); ok {
		return nr
	}
	switch {
	case strings.Contains(t.Before.Stack, "futex"):
		return unix.SYS_FUTEX
	case strings.Contains(t.Before.Stack, "poll"):
		return unix.SYS_POLL
	}
	if nr, ok := loadedNumber(t.Traced.TID, r.Rip); ok {
		return nr
	}
	sleeps := t.Before.Stack != "" // its functions are left out of a stack (__sched)
	return byArguments(t.Traced.TID, r, sleeps)
}

func readNoteCall(pid int, r tracee.Regs) (nr uint64, ok bool) {
	if _, ok := readNote(pid, r); !ok {
		return 0, false
	}
	nr, err := tracee.ReadUint64(pid, room(r)+noteAt+24)
	return nr, err == nil
}

// loadedNumber looks for `mov $nr, %eax` right before the SYSCALL.
func loadedNumber(pid int, rip uint64) (uint64, bool) {
	const movEAX, n = 0xb8, 5
	var b [n]byte
	if tracee.ReadMemory(pid, rip-syscallLen-n, b[:]) != nil || b[0] != movEAX {
		return 0, false
	}
	nr := uint64(binary.LittleEndian.Uint32(b[1:]))
	switch nr {
	case unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_POLL, unix.SYS_FUTEX:
		return nr, true
	}
	return 0, false
}

// byArguments tells the four calls apart by what their arguments can be.
// sleeps: it is one of the two sleeps for sure.
func byArguments(pid int, r tracee.Regs, sleeps bool) uint64 {
	const (
		clocks   = 16      // clock ids are below
		lowest   = 1 << 16 // addresses are above (mmap_min_addr)
		mostPoll = 1 << 20 // descriptors
	)
	_, rdi := timespec(pid, r.Rdi)
	_, rdx := timespec(pid, r.Rdx)
	switch {
	case (r.Rdi < clocks || int32(r.Rdi) < 0) && r.Rsi&^timerAbsTime == 0 && r.Rdx > lowest && rdx:
		return unix.SYS_CLOCK_NANOSLEEP
	case sleeps:
		return unix.SYS_NANOSLEEP
	case isFutexWait(pid, r) && waitsForChange(pid, r):
		return unix.SYS_FUTEX
	case rdi && (r.Rsi == 0 || r.Rsi > lowest):
		return unix.SYS_NANOSLEEP
	case r.Rsi < mostPoll && polls(pid, r):
		return unix.SYS_POLL
	case isFutexWait(pid, r):
		return unix.SYS_FUTEX // changed meanwhile, which is its result
	}
	return unix.SYS_NANOSLEEP
}

// isFutexWait: a word, one of the operations that wait for it, and a limit.
func isFutexWait(pid int, r tracee.Regs) bool {
	if op := r.Rsi & futexCommand; op != futexWait && op != futexWaitBitset || r.Rdi%4 != 0 {
		return false
	}
	_, err := tracee.ReadUint32(pid, r.Rdi)
	_, limited := timespec(pid, r.R10)
	return err == nil && limited
}

// waitsForChange: the word of a futex holds the value that is waited on, as it
// must have when the wait began.
func waitsForChange(pid int, r tracee.Regs) bool {
	v, err := tracee.ReadUint32(pid, r.Rdi)
	return err == nil && v == uint32(r.Rdx)
}

// polls: rdi points to rsi descriptors of poll(2), in each of which the kernel
// has just written that nothing happened.
func polls(pid int, r tracee.Regs) bool {
	const size, revents = 8, 6
	b := make([]byte, size*r.Rsi)
	if len(b) > 0 && tracee.ReadMemory(pid, r.Rdi, b) != nil {
		return false
	}
	for ; len(b) > 0; b = b[size:] {
		if b[revents] != 0 || b[revents+1] != 0 {
			return false
		}
	}
	return true
}

// sameCall tells whether /proc/TID/syscall, read before the stop, shows the
// call that the stopped thread is in: number, arguments, stack and instruction
// pointers.
func sameCall(before string, r tracee.Regs) bool {
	f := strings.Fields(before)
	if len(f) != 9 || f[0] != strconv.FormatUint(r.Orig_rax, 10) {
		return false
	}
	for i, v := range []uint64{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9, r.Rsp, r.Rip} {
		n, err := strconv.ParseUint(strings.TrimPrefix(f[1+i], "0x"), 16, 64)
		if err != nil || n != v {
			return false
		}
	}
	return true
}
