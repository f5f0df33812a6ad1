package sysv

// semNsems is where sem_nsems stands in struct semid64_ds: x86 has a word
// behind each time (arch/x86/include/uapi/asm/sembuf.h).
const semNsems = permSize + 32
