package image

import "encoding/binary"

// siTimer is SI_TIMER of sigaction(2).
const siTimer = -2

// TimerOf is the id of the timer that sent a signal (timer_create(2)), whose
// siginfo_t is given as the kernel has it; ok is false for other signals.
func TimerOf(siginfo []byte) (id uint32, ok bool) {
	const code, timerid = 8, 16 // offsets
	if len(siginfo) < timerid+4 || int32(binary.LittleEndian.Uint32(siginfo[code:])) != siTimer {
		return 0, false
	}
	return binary.LittleEndian.Uint32(siginfo[timerid:]), true
}
