/*
 * timers: setitimer(2) and timer_create(2). A timer is told by the moment at
 * which it will run out next, on its own clock: that never changes by itself,
 * or by whole intervals only.
 */
#include "state.h"
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/time.h>

#define MSEC 1000000LL
#define SEC 1000000000LL
#define FAST (10 * MSEC) /* interval of the timers whose expirations are counted */

enum way { SIGNAL, NONE, THREAD };
static struct timer {
	const char *name;
	clockid_t clock;
	enum way way;
	int sig;
	int64_t first, interval;
	int absolute;
	int cpu; /* counts time that a program uses */
	int optional;
	int id;
	int64_t due;
} timers[] = {
	{ "real", CLOCK_REALTIME, SIGNAL, 40, 3600 * SEC },
	{ "gap1", CLOCK_MONOTONIC, NONE, 0, 0, 0 },
	{ "monotonic", CLOCK_MONOTONIC, SIGNAL, 41, 100 * SEC, 7 * SEC / 3 },
	{ "boot, silent", CLOCK_BOOTTIME, NONE, 0, 1000 * SEC, 7 * SEC / 2 },
	{ "gap2", CLOCK_MONOTONIC, NONE, 0, 0, 0 },
	{ "gap3", CLOCK_MONOTONIC, NONE, 0, 0, 0 },
	{ "absolute", CLOCK_MONOTONIC, SIGNAL, 42, 500 * SEC, 0, 1 },
	{ "process time", CLOCK_PROCESS_CPUTIME_ID, SIGNAL, 43, 100 * SEC, 0, 0, 1 },
	{ "thread time", CLOCK_THREAD_CPUTIME_ID, THREAD, 44, 100 * SEC, 5 * SEC, 0, 1 },
	{ "child's time", 0, SIGNAL, 45, 100 * SEC, 0, 0, 1 },
	{ "disarmed", CLOCK_MONOTONIC, SIGNAL, 46, 0, 7 * SEC },
	{ "alarm", CLOCK_BOOTTIME_ALARM, SIGNAL, 47, 100 * SEC, 0, 0, 0, 1 },
	{ "tai", CLOCK_TAI, SIGNAL, 48, 200 * SEC },
	{ "silent, often", CLOCK_MONOTONIC, NONE, 0, FAST, FAST },
	{ "blocked", CLOCK_MONOTONIC, SIGNAL, 50, FAST, FAST },
	{ "thread", CLOCK_MONOTONIC, THREAD, 51, FAST, FAST },
	{ "often", CLOCK_MONOTONIC, SIGNAL, 52, FAST, FAST },
};
#define N (sizeof(timers) / sizeof(*timers))
static struct timer *find(const char *name)
{
	for (unsigned i = 0; i < N; i++)
		if (strcmp(timers[i].name, name) == 0)
			return &timers[i];
	fail("no timer %s", name);
}

static volatile int in_thread, in_process, alarms, called, wrong_thread;
static int64_t alarms_from, blocked_taken;
static int other;
static volatile int stop_other;

static int64_t ns(struct timespec t) { return t.tv_sec * SEC + t.tv_nsec; }
static struct timespec ts(int64_t n) { return (struct timespec){ n / SEC, n % SEC }; }
static void on_signal(int sig, siginfo_t *si, void *context)
{
	if (sig == SIGALRM)
		alarms++;
	if (sig == 51) {
		in_thread += 1 + si->si_overrun;
		wrong_thread += gettid() != other;
	}
	if (sig == 52)
		in_process += 1 + si->si_overrun;
	if (sig == 51 || sig == 52) {
		struct timer *t = find(sig == 51 ? "thread" : "often");
		if (si->si_code != SI_TIMER || si->si_value.sival_int != sig * 3 || si->si_timerid != t->id)
			wrong("%s: code %d, value %d, timer %d", t->name, si->si_code, si->si_value.sival_int, si->si_timerid);
	}
}

static void create(struct timer *t)
{
	struct sigevent e = { .sigev_signo = t->sig, .sigev_value.sival_int = t->sig * 3 };
	e.sigev_notify = t->way == NONE ? SIGEV_NONE : t->way == THREAD ? SIGEV_THREAD_ID : SIGEV_SIGNAL;
	e._sigev_un._tid = other;
	if (syscall(SYS_timer_create, t->clock, &e, &t->id) != 0) {
		check(t->optional, "timer_create for %s", t->name);
		t->id = -1;
	}
}

static void arm(struct timer *t)
{
	struct itimerspec it = { ts(t->interval), ts(t->first) };
	if (t->absolute)
		it.it_value = ts(now(t->clock) + t->first);
	if (t->id >= 0)
		check(syscall(SYS_timer_settime, t->id, t->absolute ? TIMER_ABSTIME : 0, &it, NULL) == 0, "timer_settime");
}

/* When the timer runs out, as precisely as it can be told. */
static int64_t due(struct timer *t, struct itimerspec *it)
{
	int64_t best = 0, window = 1LL << 62;
	for (int i = 0; i < 20 && window > MSEC / 10; i++) {
		int64_t from = now(t->clock);
		works(syscall(SYS_timer_gettime, t->id, it), "%s: timer_gettime", t->name);
		int64_t took = now(t->clock) - from;
		if (took < window)
			window = took, best = from + took / 2 + ns(it->it_value);
	}
	return best;
}

static void look_timer(struct timer *t)
{
	struct itimerspec it;
	char name[64];
	snprintf(name, sizeof(name), "%s: interval", t->name);
	int64_t is = due(t, &it);
	fact(name, "%lld", (long long)ns(it.it_interval));
	if (ns(it.it_value) == 0) {
		expect(t->first == 0, "%s: is not running", t->name);
		return;
	}
	if (t->due == 0)
		t->due = is;
	int64_t off = is - t->due;
	if (t->cpu) { /* its clock begins anew with the process */
		int64_t left = ns(it.it_value);
		expect(left <= t->first && left > t->first - 20 * SEC, "%s: %lld ms are left", t->name, (long long)(left / MSEC));
		return;
	}
	if (t->interval) {
		off %= t->interval;
		off -= off > t->interval / 2 ? t->interval : 0;
	}
	/* Clocks of the day go on meanwhile; what was left of a timer does not. */
	int day = t->clock == CLOCK_REALTIME || t->clock == CLOCK_TAI;
	expect(off > -5 * MSEC && (day || off < 5 * MSEC), "%s: off by %lld us", t->name, (long long)off / 1000);
}

static void *thread(void *arg)
{
	other = gettid();
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, 52);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	while (!stop_other)
		usleep(100000);
	return NULL;
}

static void callback(union sigval v)
{
	called += v.sival_int == 77;
}

/* No more may come of a timer than its clock allows; a dump may add one. */
static void count(const char *name, int64_t since, int64_t got)
{
	int64_t most = (now(CLOCK_MONOTONIC) - since) / FAST + 6;
	expect(got <= most, "%s: ran out %lld times, at most %lld were due", name, (long long)got, (long long)most);
}

static void take_blocked(void)
{
	struct timer *t = find("blocked");
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, t->sig);
	struct timespec none = { 0 };
	siginfo_t si;
	while (sigtimedwait(&set, &si, &none) == t->sig) {
		expect(si.si_code == SI_TIMER && si.si_value.sival_int == t->sig * 3 && si.si_timerid == t->id,
		       "blocked: code %d, value %d, timer %d", si.si_code, si.si_value.sival_int, si.si_timerid);
		blocked_taken += 1 + si.si_overrun;
		expect(timer_getoverrun((timer_t)(long)t->id) == si.si_overrun, "blocked: timer_getoverrun");
	}
}

static void look(void)
{
	for (unsigned i = 0; i < N; i++)
		if (timers[i].id >= 0)
			look_timer(&timers[i]);
	for (int which = 0; which < 3; which++) {
		struct itimerval it;
		works(getitimer(which, &it), "getitimer");
		char name[64];
		sprintf(name, "interval timer %d", which);
		fact(name, "%ld.%06ld", it.it_interval.tv_sec, it.it_interval.tv_usec);
		expect(which == 0 || (it.it_value.tv_sec < 100 && it.it_value.tv_sec > 80), "%s: %ld s are left", name, it.it_value.tv_sec);
	}
	take_blocked();
	count("SIGALRM", alarms_from, alarms);
	count("signal of a thread", find("thread")->due - FAST, in_thread);
	count("signal of the process", find("often")->due - FAST, in_process);
	count("blocked signal", find("blocked")->due - FAST, blocked_taken);
	expect(wrong_thread == 0, "another thread got the signal of SIGEV_THREAD_ID");
	int a = alarms, b = in_thread, c = in_process, d = called;
	struct timespec left = { 1, 0 };
	while (alarms == a || in_thread == b || in_process == c || called == d)
		if (nanosleep(&left, &left) == 0) {
			wrong("a timer stands still: SIGALRM %d, thread %d, process %d, callback %d", alarms - a, in_thread - b,
			      in_process - c, called - d);
			break;
		}
	take_blocked();
	fact("/proc/self/timers", "%s", contents("/proc/self/timers"));
}

static void finish(void)
{
	/* One that has yet to run out, and new ones. */
	struct timer *t = find("absolute");
	struct itimerspec it = { { 0 }, { 0, MSEC } };
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, t->sig);
	works(syscall(SYS_timer_settime, t->id, 0, &it, NULL), "timer_settime");
	siginfo_t si;
	struct timespec two = { 2, 0 };
	int r;
	while ((r = sigtimedwait(&set, &si, &two)) < 0 && errno == EINTR)
		;
	expect(r == t->sig && si.si_value.sival_int == t->sig * 3, "absolute: did not run out");
	struct timer again = *t;
	create(&again);
	for (unsigned i = 0; i < N; i++)
		expect(timers[i].id != again.id, "a new timer got the id of %s", timers[i].name);
	for (unsigned i = 0; i < N; i++)
		if (timers[i].id >= 0)
			works(syscall(SYS_timer_delete, timers[i].id), "%s: timer_delete", timers[i].name);
}

int main(void)
{
	begin();
	pid_t child = fork();
	if (child == 0)
		for (;;)
			pause();
	check(clock_getcpuclockid(child, &find("child's time")->clock) == 0, "clock_getcpuclockid");
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
	sigaction(SIGALRM, &sa, NULL);
	sigaction(51, &sa, NULL);
	sigaction(52, &sa, NULL);
	sigset_t set;
	sigfillset(&set);
	sigdelset(&set, SIGALRM);
	sigdelset(&set, 51);
	sigdelset(&set, 52);
	sigdelset(&set, 32);
	sigdelset(&set, 33);
	sigprocmask(SIG_BLOCK, &set, NULL);
	pthread_t th;
	check(pthread_create(&th, NULL, thread, NULL) == 0, "pthread_create");
	while (other == 0)
		usleep(1000);
	for (unsigned i = 0; i < N; i++)
		create(&timers[i]);
	for (unsigned i = 0; i < N; i++)
		if (strncmp(timers[i].name, "gap", 3) == 0) {
			syscall(SYS_timer_delete, timers[i].id);
			timers[i].id = -1;
		}
	for (unsigned i = 0; i < N; i++)
		arm(&timers[i]);
	struct sigevent e = { .sigev_notify = SIGEV_THREAD, .sigev_value.sival_int = 77, .sigev_notify_function = callback };
	timer_t glibc;
	struct itimerspec often = { { 0, FAST }, { 0, FAST } };
	check(timer_create(CLOCK_MONOTONIC, &e, &glibc) == 0 && timer_settime(glibc, 0, &often, NULL) == 0, "SIGEV_THREAD");
	struct itimerval real = { { 0, FAST / 1000 }, { 0, FAST / 1000 } }, late = { { 3, 500000 }, { 99, 0 } };
	check(setitimer(ITIMER_REAL, &real, NULL) == 0 && setitimer(ITIMER_VIRTUAL, &late, NULL) == 0 &&
		      setitimer(ITIMER_PROF, &late, NULL) == 0, "setitimer");
	alarms_from = now(CLOCK_MONOTONIC);
	serve(look, finish);
}
