package sysv

// Offsets in struct semid64_ds (include/uapi/asm-generic/sembuf.h).
const (
	semCtime = permSize + 8
	semNsems = permSize + 16
)
