package registers

import (
	"encoding/binary"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/tracee"
)

// The stop interrupts a system call that waits. Afterwards it must go on as
// if nothing had been: no error that the program did not ask for, and no more
// time than it wanted. What the kernel leaves in rax, and what is done:
//
//	-512 ERESTARTSYS, -513 ERESTARTNOINTR, -514 ERESTARTNOHAND: the call is
//	made again with the same arguments. That is right for calls without a
//	time limit, for limits that are a point in time (clock_nanosleep with
//	TIMER_ABSTIME, FUTEX_WAIT_BITSET, futex_waitv, mq_timedsend and
//	-receive), and for select, pselect6 and ppoll, which write what is left
//	of it into the program's memory. The limit of io_pgetevents and
//	recvmmsg is neither; see below.
//
//	-516 ERESTART_RESTARTBLOCK (nanosleep, clock_nanosleep, poll, FUTEX_WAIT
//	with a limit): restart_syscall(2) goes on from a record in the kernel.
//	That stays with a process which is left running; in a restored one the
//	same call with the rest as its limit is begun and interrupted, which
//	makes the kernel write such a record.
//
//	-4 EINTR, although no handler ran: some calls never restart (signal(7)).
//	tracee has marked these -514, and so they are made again unless a
//	handler runs. Where their limit is a length of time, the register that
//	holds it, or its address, is changed to the rest.
//
// What is left of the limit is told by *rmtp for a sleep that asked for it,
// else counted from when the thread was last put to sleep. A limit that is
// counted from the receipt of something (recvmmsg(2), checked only after each
// message) or belongs to the socket (SO_RCVTIMEO) starts anew.
const (
	sys          = 512
	noIntr       = 513
	noHand       = 514
	restartBlock = 516

	syscallLen = 2 // bytes of the SYSCALL instruction
)

// call is an interrupted system call.
type call struct {
	nr   uint64
	code int           // how the kernel restarts it; 0: none was interrupted
	left time.Duration // rest of its limit; 0: none, or not counted here
}

// interrupted tells how the kernel will restart the call that r stands in.
func interrupted(r tracee.Regs) int {
	if int64(r.Orig_rax) < 0 {
		return 0
	}
	switch code := -int64(r.Rax); code {
	case sys, noIntr, noHand, restartBlock:
		return int(code)
	}
	return 0
}

// callOf is the call that a stopped thread was in. The answer is kept, for
// the rest is that of the time of the stop.
func (k *threads) callOf(t *kind.Task, r tracee.Regs) (call, error) {
	if c, ok := k.left[t]; ok {
		return c, nil
	}
	c := call{code: interrupted(r), nr: r.Orig_rax}
	if c.code == 0 {
		return call{}, nil
	}
	again := c.nr == unix.SYS_RESTART_SYSCALL
	if again {
		c.nr = behindRestart(t, r)
	}
	l := limitOf(t.Traced.TID, c.nr, r)
	switch {
	case l.unknown:
		return call{}, failure.WithHint(
			failure.Unsupportedf("it sleeps by a clock of CPU time (clock_nanosleep), and how much is left cannot be told"),
			"try again when it is awake")
	case !l.relative:
		// no record is needed to make it again
		if c.code == restartBlock {
			c.code = noHand
		}
	case l.exact:
		c.left = max(l.time, 1)
	default:
		c.left = max(k.rest(t, r, again, l.time), 1)
	}
	k.left[t] = c
	return c, nil
}

// rest is what is left of limit for a thread that has slept since it was put
// to sleep, or, if it was interrupted before, until the time noted then.
func (k *threads) rest(t *kind.Task, r tracee.Regs, again bool, limit time.Duration) time.Duration {
	if again {
		if end, ok := readNote(t.Traced.TID, r); ok && end > k.clock.start {
			return min(end-k.clock.start, limit)
		}
	}
	if !sameCall(t.Before.Syscall, r) {
		return limit // it began between the look and the stop
	}
	return limit - k.clock.asleep(t.Before.ExecStart, t.Before.CPU)
}

// limit is the time limit of a call.
type limit struct {
	relative bool          // a length of time that the kernel does not count down in memory
	exact    bool          // time is the rest; else the whole
	unknown  bool          // neither can be told
	time     time.Duration // of the whole or the rest
}

// limitOf reads the time limit that the arguments of a call give. A call
// whose arguments cannot be read would have failed: it has no limit.
func limitOf(pid int, nr uint64, r tracee.Regs) limit {
	switch nr {
	case unix.SYS_NANOSLEEP:
		return sleepLimit(pid, r.Rdi, r.Rsi)
	case unix.SYS_CLOCK_NANOSLEEP:
		if r.Rsi&timerAbsTime != 0 {
			return limit{}
		}
		l := sleepLimit(pid, r.Rdx, r.R10)
		l.unknown = l.relative && !l.exact && cpuClock(int32(r.Rdi))
		return l
	case unix.SYS_POLL:
		return milliseconds(r.Rdx)
	case unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT:
		return milliseconds(r.R10)
	case unix.SYS_FUTEX:
		if r.Rsi&futexCommand != futexWait {
			return limit{}
		}
		return atAddress(pid, r.R10)
	}
	if reg := limitPointer(nr, &r); reg != nil {
		return atAddress(pid, *reg)
	}
	return limit{}
}

const (
	timerAbsTime = 1
	futexWait    = 0
	// its limit is a point in time
	futexWaitBitset = 9
	// futexCommand masks FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME off.
	futexCommand = ^uint64(128 | 256)
)

// cpuClock: the two of CPU time, and those of other processes and threads,
// which are negative (clock_getcpuclockid(3)).
func cpuClock(id int32) bool {
	return id < 0 || id == unix.CLOCK_PROCESS_CPUTIME_ID || id == unix.CLOCK_THREAD_CPUTIME_ID
}

// limitPointer is the register with the address of a relative timespec, for
// the calls that are made again with it.
func limitPointer(nr uint64, r *tracee.Regs) *uint64 {
	switch nr {
	case unix.SYS_EPOLL_PWAIT2, unix.SYS_SEMTIMEDOP:
		return &r.R10
	case unix.SYS_RT_SIGTIMEDWAIT:
		return &r.Rdx
	case unix.SYS_IO_GETEVENTS, unix.SYS_IO_PGETEVENTS:
		return &r.R8
	}
	return nil
}

func sleepLimit(pid int, request, rest uint64) limit {
	if rest != 0 {
		if d, ok := timespec(pid, rest); ok { // the kernel has just written it
			return limit{relative: true, exact: true, time: d}
		}
	}
	return atAddress(pid, request)
}

func milliseconds(v uint64) limit {
	ms := int32(v)
	if ms <= 0 {
		return limit{}
	}
	return limit{relative: true, time: time.Duration(ms) * time.Millisecond}
}

func atAddress(pid int, at uint64) limit {
	d, ok := timespec(pid, at)
	return limit{relative: ok, time: d}
}

const timespecSize = 16

func timespec(pid int, at uint64) (time.Duration, bool) {
	var b [timespecSize]byte
	if at == 0 || tracee.ReadMemory(pid, at, b[:]) != nil {
		return 0, false
	}
	sec, nsec := int64(binary.LittleEndian.Uint64(b[:])), int64(binary.LittleEndian.Uint64(b[8:]))
	if sec < 0 || nsec < 0 || nsec >= int64(time.Second) {
		return 0, false
	}
	if sec >= math.MaxInt64/int64(time.Second) {
		return math.MaxInt64, true // for ever, as good as
	}
	return time.Duration(sec)*time.Second + time.Duration(nsec), true
}

func encodeTimespec(d time.Duration) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(d/time.Second))
	return binary.LittleEndian.AppendUint64(b, uint64(d%time.Second))
}

// madeAgain is r as CRIU's fields have it: of a thread that makes the call
// again by itself, or, where only the kernel could go on, sees EINTR.
func (c call) madeAgain(r tracee.Regs) tracee.Regs {
	switch c.code {
	case sys, noIntr, noHand:
		r.Rax = r.Orig_rax
		if r.Orig_rax == unix.SYS_RESTART_SYSCALL {
			r.Rax = c.nr
		}
		r.Rip -= syscallLen
	case restartBlock:
		r.Rax = negative(int64(unix.EINTR))
	}
	if c.code != 0 {
		r.Orig_rax = c.nr
	}
	return r
}

// callFrom is the way back: the call, and the registers that the kernel
// restarts it from.
func callFrom(e *image.Thread, r tracee.Regs) (call, tracee.Regs) {
	c := call{nr: uint64(e.GetRestartNr()), code: int(e.GetRestart()), left: time.Duration(e.GetSleepLeftNs())}
	switch c.code {
	case sys, noIntr, noHand:
		r.Rip += syscallLen
		r.Rax, r.Orig_rax = negative(int64(c.code)), c.nr
	case restartBlock:
		r.Rax, r.Orig_rax = negative(int64(c.code)), c.nr
	default:
		c = call{}
	}
	return c, r
}

func negative(v int64) uint64 { return uint64(-v) }
