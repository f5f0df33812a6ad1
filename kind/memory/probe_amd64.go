package memory

// breakpoint is int3, as arch/x86/include/asm/uprobes.h has it.
const breakpoint = "\xcc"
