#include "textflag.h"

// Code that runs in a stopped process. Position independent; code_unsafe.go
// copies it and finds the places in it by the order of the SYSCALLs (0F 05),
// of which there are five: keep their order.
//
// Registers on entry, set by ckpt:
//	R12 process id, R13 thread id (in the thread's own pid namespace),
//	R14 done signal, R15 home frame (frame_amd64.go)
// and for the interpreter BX first entry of the table (script.go), BP number
// of entries. The stack pointer is the program's own and nothing is written
// to the stack: it may be full, or a goroutine's.
//
// The end of a batch is told by a signal that the thread sends itself and
// that a program by default ignores. Under a tracer even an ignored signal
// stops the thread (sig_ignored() in kernel/signal.c); without one nothing
// happens and the thread goes on, home.
TEXT ·code(SB), NOSPLIT|NOFRAME, $0-0
run:
	MOVQ 8(BX), DI
	TESTB $2, 72(BX)
	JEQ  call
	MOVQ (DI), AX           // the result of an earlier entry
	JMP  got
call:
	MOVQ 0(BX), AX
	MOVQ 16(BX), SI
	MOVQ 24(BX), DX
	MOVQ 32(BX), R10
	MOVQ 40(BX), R8
	MOVQ 48(BX), R9
	SYSCALL                 // 1
got:
	MOVQ AX, 56(BX)
	MOVQ 64(BX), CX
	MOVQ AX, (CX)
	TESTB $1, 72(BX)
	JEQ  next
	CMPQ AX, $-4095
	JCC  stop
next:
	ADDQ $80, BX
	DECQ BP
	JNE  run
stop:
	MOVL $234, AX           // tgkill
	MOVQ R12, DI
	MOVQ R13, SI
	MOVQ R14, DX
	SYSCALL                 // 2; right behind it: home
	// Home. The area goes first, unless the call that should have made it
	// found something else there (EEXIST of MAP_FIXED_NOREPLACE).
	MOVQ 184(R15), AX
	MOVQ (AX), SI
	TESTQ SI, SI
	JEQ  kept
	CMPQ BX, $-17
	JEQ  kept
	MOVQ 176(R15), DI
	MOVL $11, AX            // munmap
	SYSCALL                 // 3
kept:
	// The flags while no signal can come, for the stack pointer is wrong
	// for a moment. From here on only instructions that leave flags alone.
	LEAQ 152(R15), SP
	POPFQ
	MOVQ 88(R15), SP
	MOVQ 40(R15), BX
	MOVQ 80(R15), BP
	MOVQ 96(R15), R8
	MOVQ 104(R15), R9
	MOVQ 128(R15), R12
	MOVQ 136(R15), R13
	MOVQ 144(R15), R14
	MOVL $14, AX            // rt_sigprocmask(SIG_SETMASK, mask, NULL, 8)
	MOVL $2, DI
	LEAQ 160(R15), SI
	MOVQ 168(R15), DX
	MOVL $8, R10
	SYSCALL                 // 4; a handler may run here, on the program's stack
	MOVQ 32(R15), AX
	MOVQ 48(R15), CX
	MOVQ 56(R15), DX
	MOVQ 64(R15), SI
	MOVQ 72(R15), DI
	MOVQ 112(R15), R10
	MOVQ 120(R15), R11
	JMP  R15                // the frame starts with the two last instructions
	SYSCALL                 // 5: one call alone
	MOVQ AX, BX
	JMP  stop
	BYTE $0xDE; BYTE $0xAD; BYTE $0xBE; BYTE $0xEF

// The parking loop and ckpt's init, for a stub.
TEXT ·park(SB), NOSPLIT|NOFRAME, $0-0
again:
	MOVL $34, AX            // pause
	SYSCALL
	JMP  again
	BYTE $0xDE; BYTE $0xAD; BYTE $0xBE; BYTE $0xEF

// Init: R12 the main process, R13 where to report, R14 address of a signal
// set that holds SIGCHLD (which is blocked, so that none is lost), SP valid.
TEXT ·reaper(SB), NOSPLIT|NOFRAME, $0-0
	SUBQ $64, SP
next:
	MOVL $61, AX            // wait4(-1, SP+4, __WALL, NULL)
	MOVQ $-1, DI
	LEAQ 4(SP), SI
	MOVL $0x40000000, DX
	XORL R10, R10
	SYSCALL
	TESTQ AX, AX
	JLE  none
	MOVL AX, 0(SP)
	MOVQ AX, BX
	MOVL $1, AX             // write(R13, {pid, status}, 8)
	MOVQ R13, DI
	MOVQ SP, SI
	MOVL $8, DX
	SYSCALL
	CMPQ BX, R12
	JNE  next
	MOVL 4(SP), DI
	MOVL DI, SI
	ANDL $0x7F, SI
	JNE  signalled
	SHRL $8, DI
	ANDL $0xFF, DI
	JMP  leave
signalled:
	LEAL 128(SI), DI
leave:
	MOVL $231, AX           // exit_group
	SYSCALL
none:
	CMPQ AX, $-10           // ECHILD: nothing to wait for until one is born or inherited
	JNE  next
	MOVL $128, AX           // rt_sigtimedwait(R14, NULL, NULL, 8)
	MOVQ R14, DI
	XORL SI, SI
	XORL DX, DX
	MOVL $8, R10
	SYSCALL
	JMP  next
	BYTE $0xDE; BYTE $0xAD; BYTE $0xBE; BYTE $0xEF

// A stub that ckpt has left behind: it waits for what children it has, and ends.
TEXT ·orphan(SB), NOSPLIT|NOFRAME, $0-0
wait:
	MOVL $61, AX            // wait4(-1, NULL, __WALL, NULL)
	MOVQ $-1, DI
	XORL SI, SI
	MOVL $0x40000000, DX
	XORL R10, R10
	SYSCALL
	CMPQ AX, $-10           // ECHILD
	JNE  wait
	MOVL $231, AX           // exit_group
	XORL DI, DI
	SYSCALL
	BYTE $0xDE; BYTE $0xAD; BYTE $0xBE; BYTE $0xEF

TEXT ·codeAddr(SB), NOSPLIT|NOFRAME, $0-8
	LEAQ ·code(SB), AX
	MOVQ AX, ret+0(FP)
	RET

TEXT ·parkAddr(SB), NOSPLIT|NOFRAME, $0-8
	LEAQ ·park(SB), AX
	MOVQ AX, ret+0(FP)
	RET

TEXT ·reaperAddr(SB), NOSPLIT|NOFRAME, $0-8
	LEAQ ·reaper(SB), AX
	MOVQ AX, ret+0(FP)
	RET

TEXT ·orphanAddr(SB), NOSPLIT|NOFRAME, $0-8
	LEAQ ·orphan(SB), AX
	MOVQ AX, ret+0(FP)
	RET
