/*
 * timerids: timers that name a thread (SIGEV_THREAD_ID), or a process by the
 * clock of its CPU time; their ids, and who gets their signals.
 */
#include "../state.h"
#include "other.h"
#include <sys/syscall.h>

#define PERIOD 3000000 /* ns */

static struct other *child;
static volatile pid_t threads[2];
static volatile int came[2], wrong_thread;
static int ids[3];
static clockid_t of_child;

static void on_signal(int sig, siginfo_t *si, void *context)
{
	int i = sig - SIGRTMIN;
	came[i]++;
	if (gettid() != threads[i] || si->si_code != SI_TIMER || si->si_timerid != ids[i])
		wrong_thread = gettid();
}
static void act(struct other *o, int order)
{
	if (order == 1) /* uses CPU time until the timer of its clock has run out */
		for (int64_t until = now(CLOCK_PROCESS_CPUTIME_ID) + 30000000; now(CLOCK_PROCESS_CPUTIME_ID) < until;)
			;
}

static void create(clockid_t clock, int sig, pid_t tid, int *id)
{
	struct sigevent e = { .sigev_notify = tid ? SIGEV_THREAD_ID : SIGEV_NONE, .sigev_signo = sig };
	e._sigev_un._tid = tid;
	check(syscall(SYS_timer_create, clock, &e, id) == 0, "timer_create");
}

static void look(void)
{
	fact("ids", "%d %d %d", ids[0], ids[1], ids[2]);
	fact("/proc/self/timers", "%s", contents("/proc/self/timers"));
	fact("clock", "%d", of_child);
	for (int i = 0; i < 2; i++) {
		int had = came[i];
		for (int ms = 0; came[i] == had && ms < 20000; ms++)
			usleep(1000);
		expect(came[i] > had, "timer %d stands still", i);
	}
	expect(!wrong_thread, "the signal came to thread %d", wrong_thread);
	struct itimerspec it = { { 0 }, { 0, 20000000 } }, left;
	works(syscall(SYS_timer_settime, ids[2], 0, &it, NULL), "timer_settime");
	does(child, 1);
	works(syscall(SYS_timer_gettime, ids[2], &left), "timer_gettime");
	expect(left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0, "the child's clock stands still");
}

int main(void)
{
	begin();
	child = other(act);
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
	for (int i = 0; i < 2; i++) {
		check(sigaction(SIGRTMIN + i, &sa, NULL) == 0, "sigaction");
		threads[i] = resting();
		create(CLOCK_MONOTONIC, SIGRTMIN + i, threads[i], &ids[i]);
	}
	check(clock_getcpuclockid(child->pid, &of_child) == 0, "clock_getcpuclockid");
	create(of_child, 0, 0, &ids[2]);
	struct itimerspec every = { { 0, PERIOD }, { 0, PERIOD } };
	for (int i = 0; i < 2; i++)
		check(syscall(SYS_timer_settime, ids[i], 0, &every, NULL) == 0, "timer_settime");
	serve(look, NULL);
}
