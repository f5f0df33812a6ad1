/*
 * signals: one process sends queued signals without pause to two others, a
 * single thread that must get each in its order, and a process of many
 * threads that must get each once, whatever thread takes it. Some are always
 * under way. SIGUSR1 to the first process is counted.
 */
#include "step.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define ROUND 400   /* signals after which all must have arrived */
#define THREADS 6
#define SIG (SIGRTMIN + 3)

static struct {
	atomic_int got;      /* by the one thread, in order */
	atomic_int many;     /* by the many threads */
	atomic_int seen[ROUND]; /* how often each of a round came to the many */
} *shared;

static volatile sig_atomic_t usr1;
static void on_usr1(int sig) { usr1++; }

static void in_order(int sig, siginfo_t *si, void *context)
{
	int want = atomic_load(&shared->got);
	check(si->si_value.sival_int == want, "signal %d came instead of %d", si->si_value.sival_int, want);
	check(si->si_code == SI_QUEUE && si->si_pid == getppid(), "signal with code %d from pid %d", si->si_code, si->si_pid);
	atomic_store(&shared->got, want + 1);
}

static void any_order(int sig, siginfo_t *si, void *context)
{
	int n = atomic_fetch_add(&shared->seen[si->si_value.sival_int % ROUND], 1);
	check(n == 0, "signal %d came twice", si->si_value.sival_int);
	atomic_fetch_add(&shared->many, 1);
}

static void handle(void (*handler)(int, siginfo_t *, void *))
{
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART };
	check(sigaction(SIG, &sa, NULL) == 0, "sigaction");
}

/* Runs without a system call for a while, then rests in one. */
static void work(const char *who)
{
	for (int n = 0;;) {
		for (volatile int i = 0; i < 2000000; i++)
			;
		/* The rest of a sleep grows by what each signal costs. */
		for (int64_t until = now(CLOCK_MONOTONIC) + 20000000; now(CLOCK_MONOTONIC) < until;) {
			struct timespec t = { 0, 5000000 };
			check(nanosleep(&t, NULL) == 0 || errno == EINTR, "nanosleep");
		}
		told(who, &n, 0, "");
	}
}

static void *thread(void *arg)
{
	for (;;) {
		struct timespec t = { 0, 3000000 };
		nanosleep(&t, NULL);
		for (volatile int i = 0; i < 100000; i++)
			;
	}
	return NULL;
}

static void wait_for(atomic_int *counter, int want, const char *who)
{
	for (int64_t from = now(CLOCK_MONOTONIC); atomic_load(counter) != want;) {
		check(now(CLOCK_MONOTONIC) - from < 20000000000LL, "%s: %d of %d signals came", who, atomic_load(counter), want);
		struct timespec t = { 0, 1000000 };
		nanosleep(&t, NULL);
	}
}

static void send(pid_t pid, int value)
{
	union sigval v = { .sival_int = value };
	while (sigqueue(pid, SIG, v) < 0)
		check(errno == EAGAIN, "sigqueue");
}

int main(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(shared != MAP_FAILED, "mmap");
	handle(in_order); /* before the fork: none may come too early */
	pid_t one = fork();
	if (one == 0)
		work("one");
	handle(any_order);
	pid_t many = fork();
	if (many == 0) {
		pthread_t t;
		for (int i = 0; i < THREADS; i++)
			check(pthread_create(&t, NULL, thread, NULL) == 0, "pthread_create");
		work("many");
	}
	check(signal(SIGUSR1, on_usr1) != SIG_ERR, "signal");
	int sent = 0;
	for (int n = 0;;) {
		for (int i = 0; i < ROUND; i++, sent++) {
			send(one, sent);
			send(many, sent);
			for (volatile int k = 0; k < 30000; k++)
				;
		}
		wait_for(&shared->got, sent, "one");
		wait_for(&shared->many, sent, "many");
		memset(shared->seen, 0, sizeof(shared->seen));
		told("main", &n, usr1, "");
	}
}
