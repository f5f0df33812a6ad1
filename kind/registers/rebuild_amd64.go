package registers

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/tracee"
)

// Below the stack pointer of a thread, beyond the 128 bytes that the ABI
// gives a function there, nothing is alive: a signal handler would write over
// it. While the thread sits in a system call, this room holds
//
//	0  timespec for a call that is made again with another limit
//	16 note: magic, then the end of the wait by CLOCK_MONOTONIC of this
//	   machine, the instruction pointer and the call's number
//
// The note is for the next dump: a call that goes on by restart_syscall(2)
// does not show how long it has waited before.
const (
	redZone   = 128
	roomSize  = 64
	noteAt    = timespecSize
	noteSize  = 32
	noteMagic = 0x65746f6e74706b63 // "ckptnote"
)

func room(r tracee.Regs) uint64 { return (r.Rsp - redZone - roomSize) &^ 15 }

func writeNote(pid int, r tracee.Regs, nr uint64, end time.Duration) {
	le := binary.LittleEndian
	b := le.AppendUint64(nil, noteMagic)
	b = le.AppendUint64(b, uint64(end))
	b = le.AppendUint64(b, r.Rip)
	b = le.AppendUint64(b, nr)
	// Where there is no room the next dump must do without.
	_ = tracee.WriteAsOwner(pid, room(r)+noteAt, b)
}

func readNote(pid int, r tracee.Regs) (end time.Duration, ok bool) {
	var b [noteSize]byte
	if tracee.ReadMemory(pid, room(r)+noteAt, b[:]) != nil {
		return 0, false
	}
	le := binary.LittleEndian
	return time.Duration(le.Uint64(b[8:])), le.Uint64(b[:]) == noteMagic && le.Uint64(b[16:]) == r.Rip
}

// shorten changes the limit of a call that is made again to its rest.
func (c call) shorten(pid int, r *tracee.Regs) {
	if c.left == 0 || c.code == restartBlock {
		return
	}
	switch c.nr {
	case unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT:
		r.R10 = toMilliseconds(c.left)
		return
	}
	reg := limitPointer(c.nr, r)
	if reg != nil && tracee.WriteAsOwner(pid, room(*r), encodeTimespec(c.left)) == nil {
		*reg = room(*r)
	}
}

// toMilliseconds never makes a wait shorter.
func toMilliseconds(d time.Duration) uint64 {
	return uint64((d + time.Millisecond - 1) / time.Millisecond)
}

// resumeCall corrects the registers of a thread that goes on after a dump,
// and tells whether it did.
func (k *threads) resumeCall(t *kind.Task, r *tracee.Regs) bool {
	c, err := k.callOf(t, *r)
	if err != nil || c.code == 0 || c.left == 0 {
		return false
	}
	if interrupted(*r) == restartBlock {
		// The kernel's own record is there yet, and counts on.
		writeNote(t.Traced.TID, *r, c.nr, k.clock.start+c.left)
		return false
	}
	c.shorten(t.Traced.TID, r)
	return true
}

// rebuild prepares a restored thread to go on with the call: r are the
// registers it will get.
func (c call) rebuild(t *tracee.Thread, site tracee.Site, r *tracee.Regs) error {
	if c.code != restartBlock {
		c.shorten(t.TID, r)
		return nil
	}
	x := *r
	switch c.nr {
	case unix.SYS_POLL:
		x.Rdx = toMilliseconds(c.left)
	case unix.SYS_NANOSLEEP:
		x.Rdi = site.Base
	case unix.SYS_CLOCK_NANOSLEEP:
		x.Rdx = site.Base
	case unix.SYS_FUTEX:
		x.R10 = site.Base
	default:
		// Made by something that ckpt does not know. The program sees
		// what it would see after a handler ran.
		r.Rax, r.Orig_rax = negative(int64(unix.EINTR)), noCall
		return nil
	}
	if err := tracee.WriteMemory(t.TID, site.Base, encodeTimespec(c.left)); err != nil {
		return err
	}
	v, err := t.Interrupted(site.Call, uintptr(c.nr), x.Rdi, x.Rsi, x.Rdx, x.R10, x.R8, x.R9)
	if err != nil {
		return err
	}
	if v != -restartBlock {
		// It had no need to wait: the descriptor is ready, the futex has
		// another value. That is its result.
		r.Rax, r.Orig_rax = uint64(v), noCall
		return nil
	}
	writeNote(t.TID, *r, c.nr, monotonic()+c.left)
	return nil
}

// noCall in Orig_rax: nothing is to be restarted.
const noCall = ^uint64(0)
