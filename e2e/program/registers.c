/*
 * registers: threads whose registers all hold known values, one that spins
 * without any system call, one that has never used a vector register, and one
 * that is blocked in read(2).
 */
#include "state.h"
#include <asm/prctl.h>
#include <cpuid.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/syscall.h>

enum { RAX, RBX, RDX, RSI, RDI, RBP, R8, R9, R10, R11, R12, R13, R14, R15, RSP, RFLAGS, NREGS };
static const char *const reg_name[] = { "rax", "rbx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11",
	"r12", "r13", "r14", "r15", "rsp", "rflags" };

#define XSAVE 8192
/* What hold works on; the thread reaches it through the base of gs. */
struct hold {
	uint64_t in[NREGS];  /* 0 */
	uint64_t out[NREGS]; /* 128 */
	uint64_t stop;       /* 256 */
	uint64_t sp;         /* 264 */
	uint64_t syscall;    /* 272: enter read(2) instead of spinning */
	uint64_t mask;       /* 280: components of the extended state */
	uint64_t ret;        /* 288 */
	uint8_t pad[24];
	uint8_t xin[XSAVE] __attribute__((aligned(64)));
	uint8_t xout[XSAVE] __attribute__((aligned(64)));
	uint16_t segments[4];
};
_Static_assert(offsetof(struct hold, xin) == 320, "the offsets below");
_Static_assert(offsetof(struct hold, xout) == 320 + XSAVE, "the offsets below");

/* Loads every register, waits, and stores every register. No instruction of
 * the loop changes a flag. */
extern void hold(void);
asm(".globl hold\n"
    "hold:\n"
    "	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; pushfq\n"
    "	mov %rsp, %gs:264\n"
    "	rdgsbase %rbx\n"
    "	mov 280(%rbx), %rax; mov %rax, %rdx; shr $32, %rdx\n"
    "	xrstor64 320(%rbx)\n"
    "	pushq %gs:120; popfq\n"
    "	mov %gs:0, %rax; mov %gs:8, %rbx; mov %gs:16, %rdx; mov %gs:24, %rsi\n"
    "	mov %gs:32, %rdi; mov %gs:40, %rbp; mov %gs:48, %r8; mov %gs:56, %r9\n"
    "	mov %gs:64, %r10; mov %gs:72, %r11; mov %gs:80, %r12; mov %gs:88, %r13\n"
    "	mov %gs:96, %r14; mov %gs:104, %r15; mov %gs:112, %rsp\n"
    "	mov %gs:272, %rcx; jrcxz 1f\n"
    "	syscall\n"
    "	mov %rax, %gs:288\n"
    "	jmp 2f\n"
    "1:	mov %gs:256, %rcx; jrcxz 1b\n"
    "2:	mov %rax, %gs:128; mov %rbx, %gs:136; mov %rdx, %gs:144; mov %rsi, %gs:152\n"
    "	mov %rdi, %gs:160; mov %rbp, %gs:168; mov %r8, %gs:176; mov %r9, %gs:184\n"
    "	mov %r10, %gs:192; mov %r11, %gs:200; mov %r12, %gs:208; mov %r13, %gs:216\n"
    "	mov %r14, %gs:224; mov %r15, %gs:232; mov %rsp, %gs:240\n"
    "	mov %gs:264, %rsp\n"
    "	pushfq; popq %gs:248\n"
    "	rdgsbase %rbx\n"
    "	mov 280(%rbx), %rax; mov %rax, %rdx; shr $32, %rdx\n"
    "	xsave64 8512(%rbx)\n"
    "	popfq; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "	ret\n");

static uint64_t components; /* x87 to AVX-512: without protection keys and AMX */
static unsigned xsave_size;

static void find_components(void)
{
	unsigned a, b, c, d;
	check(__get_cpuid_count(13, 0, &a, &b, &c, &d), "no xsave here");
	components = a & 0xe7;
	xsave_size = 576;
	for (int i = 2; i < 8; i++)
		if (components >> i & 1) {
			__get_cpuid_count(13, i, &a, &b, &c, &d);
			xsave_size = a + b > xsave_size ? a + b : xsave_size;
		}
	check(xsave_size <= XSAVE, "extended state of %u bytes", xsave_size);
}

/* Words that no other register of no other thread holds. */
static void fill(void *p, unsigned n, unsigned seed)
{
	for (unsigned i = 0; i < n; i++)
		((uint8_t *)p)[i] = (i * 167 + seed * 59 + (i >> 8) * 13) ^ 0x5a;
}

static void set16(struct hold *h, int at, unsigned v) { memcpy(h->xin + at, &v, 2); }

/* A state to load: Intel's manual, volume 1, 13.4. */
static void prepare(struct hold *h, int seed)
{
	memset(h, 0, sizeof(*h));
	fill(h->in, sizeof(h->in), seed);
	h->in[RFLAGS] = 0x202 | 0x40000 * (seed & 1) | 0x400 | 0x8d1; /* AC, DF, OF SF ZF AF CF; ptrace(2) cannot set ID */
	h->mask = components;
	memset(h->xin, 0, sizeof(h->xin));
	fill(h->xin + 32, 384, seed); /* st0-7, xmm0-15 */
	for (int i = 0; i < 8; i++)
		memset(h->xin + 32 + 16 * i + 10, 0, 6); /* 80 bits each */
	fill(h->xin + 576, xsave_size - 576, seed + 1);
	set16(h, 0, 0x0c7f); /* FCW: round to zero */
	set16(h, 2, 0x5921); /* FSW: top of stack 3, C0, C3 and exceptions told */
	h->xin[4] = 0xb7;    /* FTW: some are empty */
	uint32_t mxcsr = 0x1fbf | 0x8000 | 0x6000; /* to zero, flush to zero, all told */
	memcpy(h->xin + 24, &mxcsr, 4);
	memcpy(h->xin + 512, &components, 8); /* XSTATE_BV */
}

static void compare(const char *who, struct hold *h)
{
	for (int i = 0; i < NREGS; i++) {
		/* The system call gives rax and takes r11. */
		if (h->syscall && (i == RAX || i == R11))
			continue;
		expect(h->in[i] == h->out[i], "%s: register %s was %lx, is %lx", who, reg_name[i], h->in[i], h->out[i]);
	}
	uint64_t had, has;
	memcpy(&had, h->xin + 512, 8);
	memcpy(&has, h->xout + 512, 8);
	/* Whether x87 and SSE are in use is the processor's to say. */
	expect((had | 3) == (has | 3), "%s: components in use were %lx, are %lx", who, had, has);
	for (unsigned i = 0; i < xsave_size; i++) {
		if (i >= 6 && i < 24) /* FOP, FIP, FDP: of the last instruction that failed */
			continue;
		if (i >= 28 && i < 32) /* MXCSR_MASK: the processor's */
			continue;
		if (i >= 416 && i < 576) /* not used; the header */
			continue;
		if (h->xin[i] == h->xout[i])
			continue;
		wrong("%s: byte %u of the extended state was %02x, is %02x", who, i, h->xin[i], h->xout[i]);
		break;
	}
	static const uint16_t segments[4] = { 0x2b, 0, 0, 0 };
	expect(!memcmp(h->segments, segments, sizeof(segments)), "%s: ds %x, es %x, fs %x, gs %x", who, h->segments[0],
	       h->segments[1], h->segments[2], h->segments[3]);
}

enum { SPIN, FRESH, BLOCKED, THREADS };
static const char *const thread_name[] = { "spinning", "fresh", "blocked" };
static struct hold holds[THREADS];
static pthread_t threads[THREADS];
static int pipes[2];
static char got;

static void *run(void *arg)
{
	struct hold *h = arg;
	/* Without signals the stack pointer may be anything. */
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	asm volatile("mov %0, %%ds; mov %1, %%es" ::"r"(0x2b), "r"(0));
	check(syscall(SYS_arch_prctl, ARCH_SET_GS, h) == 0, "ARCH_SET_GS");
	hold();
	asm volatile("mov %%ds, %0; mov %%es, %1; mov %%fs, %2; mov %%gs, %3"
		     : "=r"(h->segments[0]), "=r"(h->segments[1]), "=r"(h->segments[2]), "=r"(h->segments[3]));
	asm volatile("mov %0, %%es" ::"r"(0));
	syscall(SYS_arch_prctl, ARCH_SET_GS, 0);
	return NULL;
}

static void start(void)
{
	for (int i = 0; i < THREADS; i++) {
		prepare(&holds[i], i + 1);
		struct hold *h = &holds[i];
		if (i == FRESH) {
			memset(h->xin, 0, sizeof(h->xin));
			set16(h, 0, 0x037f);
			uint32_t mxcsr = 0x1f80;
			memcpy(h->xin + 24, &mxcsr, 4);
			/* no component is in use */
		}
		if (i == BLOCKED) {
			h->syscall = 1;
			h->in[RAX] = SYS_read;
			h->in[RDI] = pipes[0];
			h->in[RSI] = (uint64_t)&got;
			h->in[RDX] = 1;
		}
		check(pthread_create(&threads[i], NULL, run, h) == 0, "pthread_create");
	}
}

static void look(void)
{
	holds[SPIN].stop = holds[FRESH].stop = 1;
	got = 0;
	check(write(pipes[1], "x", 1) == 1, "write");
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		compare(thread_name[i], &holds[i]);
	}
	expect(holds[BLOCKED].ret == 1 && got == 'x', "blocked: read gave %ld and '%c'", (long)holds[BLOCKED].ret, got);
	start();
}

int main(void)
{
	begin();
	find_components();
	check(pipe(pipes) == 0, "pipe");
	start();
	serve(look, NULL);
}
