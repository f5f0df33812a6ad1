package sysv

// Offsets in struct semid64_ds: x86 has a word behind each time
// (arch/x86/include/uapi/asm/sembuf.h).
const (
	semCtime = permSize + 16
	semNsems = permSize + 32
)
