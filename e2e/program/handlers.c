/*
 * handlers catch|ignore: the action of every signal, as the kernel has it, and
 * what it does: real faults, restarted calls, children nobody waits for.
 */
#include "state.h"
#include <setjmp.h>
#include <sys/syscall.h>

/* The kernel's struct sigaction. */
struct action {
	void *handler;
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};

static sigjmp_buf back;
static volatile int ran[65];
static char *page, alt[65536];
static int fds[2], echo[2];
static void *stack_at;

static void on_signal(int sig, siginfo_t *si, void *context)
{
	ran[sig]++;
	stack_at = __builtin_frame_address(0);
	if (sig == SIGSEGV) {
		expect(si->si_addr == page && si->si_code == SEGV_ACCERR, "SIGSEGV: at %p, code %d", si->si_addr, si->si_code);
		siglongjmp(back, 1);
	}
	if (sig == SIGFPE)
		siglongjmp(back, 1);
}

static void act(int sig, void *handler, unsigned long flags, uint64_t mask)
{
	/* What returns from a handler is glibc's: take it over. */
	struct sigaction sa = { .sa_sigaction = on_signal };
	sigaction(SIGURG, &sa, NULL);
	struct action a;
	check(syscall(SYS_rt_sigaction, SIGURG, NULL, &a, 8) == 0, "rt_sigaction");
	a.handler = handler, a.flags = flags | 0x04000000, a.mask = mask;
	check(syscall(SYS_rt_sigaction, sig, &a, NULL, 8) == 0, "rt_sigaction of %d", sig);
}

static int reserved(int sig)
{
	return sig == SIGKILL || sig == SIGSTOP;
}

static void actions(void)
{
	for (int sig = 1; sig <= 64; sig++) {
		struct action a = { 0 };
		char name[64];
		works(syscall(SYS_rt_sigaction, sig, NULL, &a, 8), "rt_sigaction of %d", sig);
		sprintf(name, "action of signal %d", sig);
		fact(name, "handler %p, flags %lx, restorer %p, mask %lx", a.handler, a.flags, a.restorer, a.mask);
	}
	fact("SigIgn", "%s", line_of("/proc/self/status", "SigIgn:"));
	fact("SigCgt", "%s", line_of("/proc/self/status", "SigCgt:"));
}

static void look_ignore(void)
{
	actions();
	for (int sig = 1; sig <= 64; sig++)
		if (!reserved(sig) && sig != SIGUSR1 && sig != SIGUSR2)
			kill(getpid(), sig);
	pid_t pid = fork();
	if (pid == 0)
		_exit(3);
	int status; /* waits until there is no child, and gets none */
	expect(waitpid(pid, &status, 0) == -1 && errno == ECHILD, "an ignored child was waited for: %s", strerror(errno));
}

static void faults(void)
{
	int n = ran[SIGSEGV];
	if (sigsetjmp(back, 1) == 0)
		*(volatile char *)page = 1;
	expect(ran[SIGSEGV] == n + 1, "SIGSEGV did not come");
	expect((char *)stack_at >= alt && (char *)stack_at < alt + sizeof(alt), "SIGSEGV: not on the alternate stack");
	n = ran[SIGFPE];
	volatile int zero = 0, seven = 7;
	if (sigsetjmp(back, 1) == 0)
		seven = seven / zero;
	expect(ran[SIGFPE] == n + 1, "SIGFPE did not come");
	n = ran[SIGTRAP];
	asm volatile("int3");
	expect(ran[SIGTRAP] == n + 1, "SIGTRAP did not come");
}

/* A read that a signal comes into, sent and then ended by a child. */
static long interrupted(int sig)
{
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		usleep(30000);
		kill(parent, sig);
		usleep(30000);
		_exit(write(fds[1], "x", 1) != 1);
	}
	char c;
	long r = read(fds[0], &c, 1);
	if (r != 1)
		r = -errno;
	int status;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r != 1)
		read(fds[0], &c, 1);
	return r;
}

static void look_catch(void)
{
	actions();
	faults();
	long r = interrupted(SIGRTMIN + 1);
	expect(r == 1, "SA_RESTART: read gave %ld", r);
	r = interrupted(SIGRTMIN + 2);
	expect(r == -EINTR, "without SA_RESTART: read gave %ld", r);
}

static void finish_catch(void)
{
	/* once only */
	kill(getpid(), SIGRTMIN + 3);
	expect(ran[SIGRTMIN + 3] == 1, "SA_RESETHAND: ran %d times", ran[SIGRTMIN + 3]);
	struct action a;
	syscall(SYS_rt_sigaction, SIGRTMIN + 3, NULL, &a, 8);
	expect(a.handler == SIG_DFL, "SA_RESETHAND: it is still caught");
	pid_t pid = fork(); /* children inherit handlers */
	if (pid == 0) {
		kill(getpid(), SIGRTMIN + 1);
		_exit(ran[SIGRTMIN + 1]);
	}
	int status;
	waitpid(pid, &status, 0);
	expect(WEXITSTATUS(status) == ran[SIGRTMIN + 1] + 1, "a child's handler does not run");
}

int main(int argc, char **argv)
{
	begin();
	int catch = argc > 1 && strcmp(argv[1], "catch") == 0;
	page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(pipe(fds) == 0 && pipe(echo) == 0, "pipe");
	stack_t st = { .ss_sp = alt, .ss_size = sizeof(alt) };
	sigaltstack(&st, NULL);
	static const unsigned long flags[] = { 0, SA_SIGINFO, SA_RESTART, SA_NODEFER, SA_ONSTACK, SA_RESETHAND,
		SA_SIGINFO | SA_RESTART | SA_NODEFER | SA_ONSTACK, 0x800 /* SA_EXPOSE_TAGBITS */ };
	uint64_t keep = ~(1ULL << (SIGUSR1 - 1) | 1ULL << (SIGUSR2 - 1));
	for (int sig = 1; sig <= 64; sig++)
		if (!reserved(sig) && sig != SIGUSR1 && sig != SIGUSR2)
			act(sig, catch ? (void *)on_signal : SIG_IGN, flags[sig % 8], (0x9e3779b97f4a7c15ULL * sig) & keep);
	if (!catch)
		serve(look_ignore, NULL);
	act(SIGSEGV, on_signal, SA_SIGINFO | SA_ONSTACK, ~0ULL);
	act(SIGFPE, on_signal, SA_SIGINFO, 0);
	act(SIGTRAP, on_signal, SA_SIGINFO, 0);
	act(SIGCHLD, SIG_DFL, SA_NOCLDSTOP, 0);
	act(SIGRTMIN + 1, on_signal, SA_SIGINFO | SA_RESTART, 0);
	act(SIGRTMIN + 2, on_signal, SA_SIGINFO, 0);
	act(SIGRTMIN + 3, on_signal, SA_SIGINFO | SA_RESETHAND, 0);
	serve(look_catch, finish_catch);
}
