/*
 * fullqueue: signals that wait while no more may be queued
 * (RLIMIT_SIGPENDING). Of those that came when the limit was reached the
 * kernel keeps the number alone. They are taken and sent again at every look.
 */
#include "state.h"
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define NSIG_BYTES 8

static pid_t me;
static volatile int turn;

static void room(rlim_t signals)
{
	struct rlimit r;
	works(getrlimit(RLIMIT_SIGPENDING, &r), "getrlimit");
	r.rlim_cur = signals < r.rlim_max ? signals : r.rlim_max;
	works(setrlimit(RLIMIT_SIGPENDING, &r), "setrlimit");
}

static int queue(pid_t tid, int sig)
{
	siginfo_t si = { .si_signo = sig, .si_code = SI_QUEUE };
	si.si_pid = me;
	si.si_uid = getuid();
	si.si_value.sival_int = 5;
	return tid ? syscall(SYS_rt_tgsigqueueinfo, me, tid, sig, &si) : syscall(SYS_rt_sigqueueinfo, me, sig, &si);
}

/* All that wait for a thread, and for the process: with room, and without. */
static void send(pid_t tid)
{
	for (int i = 0; i < 3; i++) {
		works(queue(tid, SIGRTMIN + 1), "queue a signal");
		works(queue(0, SIGRTMIN + 2), "queue a signal");
	}
	room(0);
	works(syscall(SYS_tgkill, me, tid, SIGTERM), "tgkill");
	works(syscall(SYS_tgkill, me, tid, SIGURG), "tgkill");
	works(queue(0, SIGHUP), "send SIGHUP");
	works(queue(0, SIGCONT), "send SIGCONT");
	expect(queue(0, SIGRTMIN + 3) == -1 && errno == EAGAIN, "a signal is queued where there is no room");
}

static void take(const char *name)
{
	uint64_t all = ~(1ULL << (SIGUSR1 - 1) | 1ULL << (SIGUSR2 - 1));
	struct timespec none = { 0 };
	siginfo_t si;
	char is[64];
	for (int n = 0;; n++) {
		int sig = syscall(SYS_rt_sigtimedwait, &all, &si, &none, NSIG_BYTES);
		sprintf(is, "%s: signal %d", name, n);
		if (sig < 0) {
			fact(is, "none");
			break;
		}
		fact(is, "%d code %d pid %d uid %d value %d", sig, si.si_code, si.si_pid, si.si_uid, si.si_value.sival_int);
	}
}

static void *second(void *arg)
{
	for (;; turn = 0) {
		while (turn == 0)
			usleep(500);
		if (turn == 1)
			take("second thread");
		else
			send(gettid());
	}
	return NULL;
}

static void let_second(int what)
{
	turn = what;
	expect(comes(&turn, 0), "the second thread does not run");
}

static void fill(void)
{
	room(RLIM_INFINITY);
	send(me);
	room(RLIM_INFINITY);
	let_second(2);
}

static void look(void)
{
	struct rlimit r;
	works(getrlimit(RLIMIT_SIGPENDING, &r), "getrlimit");
	fact("limit", "%lu", r.rlim_cur);
	let_second(1);
	take("main");
	fill();
}

int main(void)
{
	begin();
	me = getpid();
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	pthread_t t;
	check(pthread_create(&t, NULL, second, NULL) == 0, "pthread_create");
	fill();
	serve(look, NULL);
}
