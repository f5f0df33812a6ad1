package memory

// breakpoint is BRK with UPROBES_BRK_IMM (arch/arm64/include/asm/uprobes.h).
const breakpoint = "\xa0\x00\x20\xd4"
