package sysv

// semNsems is where sem_nsems stands in struct semid64_ds
// (include/uapi/asm-generic/sembuf.h).
const semNsems = permSize + 16
