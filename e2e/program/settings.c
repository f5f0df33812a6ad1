/*
 * settings: threads of which one may not read the time stamp counter
 * (PR_SET_TSC), and others have chosen how their CPU speculates.
 */
#include "state.h"
#include <pthread.h>
#include <setjmp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { PLAIN, NO_COUNTER, SPECULATION, N };
static const char *const names[N] = { "plain", "no time stamp counter", "speculation" };
static struct {
	volatile int turn;
	int faults, tsc;
	long bypass, indirect;
} selves[N];
static __thread sigjmp_buf back;

static void on_fault(int sig)
{
	siglongjmp(back, 1);
}

/* Of clocks that are not system calls some read the counter. */
static void wait_a_little(void)
{
	struct timespec t = { 0, 2000000 };
	syscall(SYS_nanosleep, &t, NULL);
}

static void look_self(int i)
{
	selves[i].faults = sigsetjmp(back, 1);
	if (!selves[i].faults)
		__builtin_ia32_rdtsc();
	prctl(PR_GET_TSC, &selves[i].tsc);
	selves[i].bypass = prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0);
	selves[i].indirect = prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, 0, 0, 0);
}

static void *run(void *arg)
{
	int i = (long)arg;
	switch (i) {
	case NO_COUNTER:
		check(prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0) == 0, "PR_SET_TSC");
		break;
	case SPECULATION: /* not every CPU lets it be chosen */
		prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, PR_SPEC_DISABLE, 0, 0);
		prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, PR_SPEC_FORCE_DISABLE, 0, 0);
		break;
	}
	for (;;) {
		while (selves[i].turn != 1)
			wait_a_little();
		look_self(i);
		selves[i].turn = 2;
	}
}

static void look(void)
{
	for (int i = 0; i < N; i++) {
		selves[i].turn = 1;
		expect(comes(&selves[i].turn, 2), "%s: does not run", names[i]);
		fact(names[i], "time stamp counter %d, faults %d, speculation %lx %lx", selves[i].tsc, selves[i].faults, selves[i].bypass, selves[i].indirect);
	}
	expect(!selves[PLAIN].faults && selves[NO_COUNTER].faults, "the time stamp counter: %d, %d", selves[PLAIN].faults, selves[NO_COUNTER].faults);
}

int main(void)
{
	begin();
	signal(SIGSEGV, on_fault);
	for (long i = 0; i < N; i++) {
		pthread_t t;
		check(pthread_create(&t, NULL, run, (void *)i) == 0, "pthread_create");
	}
	serve(look, NULL);
}
