/*
 * cputime: timers that count the time a process or a thread uses. What is left
 * of one only ever shrinks, over any dump, and it runs out as time is used.
 */
#include "state.h"
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/time.h>

#define MSEC 1000000LL
#define SEC 1000000000LL
#define OFTEN (20 * MSEC) /* interval of those that are to run out at every look */
#define LONG (300 * SEC)

static struct timer {
	const char *name;
	clockid_t clock;
	int notify;
	int sig; /* 0: silent */
	int64_t first, interval;
	int id;
	int64_t left;
	volatile int fired;
} timers[] = {
	{ "process", CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, 41, LONG },
	{ "process, silent", CLOCK_PROCESS_CPUTIME_ID, SIGEV_NONE, 0, LONG, LONG },
	{ "process, often", CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, 42, OFTEN, OFTEN },
	{ "thread", CLOCK_THREAD_CPUTIME_ID, SIGEV_THREAD_ID, 43, LONG },
	{ "thread, often", CLOCK_THREAD_CPUTIME_ID, SIGEV_THREAD_ID, 44, OFTEN, OFTEN },
	{ "ITIMER_VIRTUAL", -1, ITIMER_VIRTUAL, SIGVTALRM, LONG, LONG },
	{ "ITIMER_PROF", -1, ITIMER_PROF, SIGPROF, OFTEN, OFTEN },
};
#define N (sizeof(timers) / sizeof(*timers))
static volatile int stray;

static void on_signal(int sig, siginfo_t *si, void *context)
{
	for (unsigned i = 0; i < N; i++) {
		struct timer *t = &timers[i];
		if (t->sig != sig)
			continue;
		t->fired++;
		int posix = t->clock >= 0;
		if (posix ? si->si_code != SI_TIMER || si->si_value.sival_int != sig + 100 || si->si_timerid != t->id :
			    si->si_code != SI_KERNEL)
			stray++;
	}
}

static void create(struct timer *t)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
	if (t->sig)
		check(sigaction(t->sig, &sa, NULL) == 0, "sigaction");
	if (t->clock < 0) {
		struct itimerval it = { { t->interval / SEC, t->interval % SEC / 1000 }, { t->first / SEC, t->first % SEC / 1000 } };
		check(setitimer(t->notify, &it, NULL) == 0, "setitimer");
		return;
	}
	struct sigevent e = { .sigev_notify = t->notify, .sigev_signo = t->sig, .sigev_value.sival_int = t->sig + 100 };
	e._sigev_un._tid = gettid();
	check(syscall(SYS_timer_create, t->clock, &e, &t->id) == 0, "timer_create for %s", t->name);
	struct itimerspec it = { { t->interval / SEC, t->interval % SEC }, { t->first / SEC, t->first % SEC } };
	check(syscall(SYS_timer_settime, t->id, 0, &it, NULL) == 0, "timer_settime for %s", t->name);
}

static int64_t left(struct timer *t)
{
	if (t->clock < 0) {
		struct itimerval it = { 0 };
		works(getitimer(t->notify, &it), "%s: getitimer", t->name);
		return it.it_value.tv_sec * SEC + it.it_value.tv_usec * 1000;
	}
	struct itimerspec it = { 0 };
	works(syscall(SYS_timer_gettime, t->id, &it), "%s: timer_gettime", t->name);
	return it.it_value.tv_sec * SEC + it.it_value.tv_nsec;
}

/* Whether the timer has gone on: run out, or 50 ms less are left than before. */
static int goes_on(struct timer *t, int fired, int64_t had)
{
	return t->first == LONG ? left(t) <= had - 50 * MSEC : t->fired > fired;
}

static void look(void)
{
	int fired[N];
	int64_t had[N];
	for (unsigned i = 0; i < N; i++) {
		struct timer *t = &timers[i];
		fired[i] = t->fired;
		had[i] = left(t);
		expect(had[i] > 0, "%s: is not running", t->name);
		if (t->first != LONG)
			continue;
		/* The kernel counts ticks in ITIMER_VIRTUAL: 10 ms at most. */
		if (t->left)
			expect(had[i] <= t->left + 10 * MSEC && had[i] > t->left - 5 * SEC, "%s: %lld ms were left, now %lld", t->name,
			       (long long)(t->left / MSEC), (long long)(had[i] / MSEC));
		expect(t->fired == 0, "%s: ran out early", t->name);
	}
	/* Three seconds of work at most: ticks may miss a process that sleeps, not one that works. */
	int64_t until = now(CLOCK_PROCESS_CPUTIME_ID) + 3 * SEC;
	unsigned on = 0;
	while (on < N && now(CLOCK_PROCESS_CPUTIME_ID) < until) {
		for (volatile int i = 0; i < 1000000; i++)
			;
		for (on = 0; on < N && goes_on(&timers[on], fired[on], had[on]); on++)
			;
	}
	expect(on == N, "%s: stands still", on < N ? timers[on].name : "");
	expect(stray == 0, "%d signals do not tell their timer", stray);
	for (unsigned i = 0; i < N; i++)
		timers[i].left = left(&timers[i]);
	fact("/proc/self/timers", "%s", contents("/proc/self/timers"));
}

/* An owner of a robust mutex that is a thread, and ends only now. */
static pthread_mutex_t robust;
static volatile int owns, end;
static void *owner(void *arg)
{
	pthread_mutex_lock(&robust);
	owns = 1;
	while (!end)
		usleep(1000);
	return NULL;
}

static void finish(void)
{
	expect(pthread_mutex_trylock(&robust) == EBUSY, "robust: not held");
	end = 1;
	int r = pthread_mutex_lock(&robust);
	expect(r == EOWNERDEAD, "robust: lock gave %d (%s)", r, strerror(r));
	expect(pthread_mutex_consistent(&robust) == 0 && pthread_mutex_unlock(&robust) == 0, "robust: not consistent");
}

int main(void)
{
	begin();
	pthread_mutexattr_t a;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	check(pthread_mutex_init(&robust, &a) == 0, "pthread_mutex_init");
	pthread_t th;
	sigset_t all, had;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &had);
	check(pthread_create(&th, NULL, owner, NULL) == 0, "pthread_create");
	check(comes(&owns, 1), "the owner");
	pthread_sigmask(SIG_SETMASK, &had, NULL);
	for (unsigned i = 0; i < N; i++)
		create(&timers[i]);
	serve(look, finish);
}
