/*
 * A process that does what its parent tells it to, one order at a time; to be
 * included after state.h.
 */

#include <pthread.h>

static inline void *rests(void *tid)
{
	*(volatile pid_t *)tid = gettid();
	for (;;)
		pause();
	return NULL;
}
/* Another thread of the caller's, which does nothing; its id. */
static inline pid_t resting(void)
{
	static volatile pid_t tid;
	pthread_t t;
	tid = 0;
	check(pthread_create(&t, NULL, rests, (void *)&tid) == 0, "thread");
	while (tid == 0)
		usleep(1000);
	return tid;
}

struct other {
	volatile int order; /* 0: it waits for one */
	volatile int up;
	volatile pid_t pid;
	volatile long word[8]; /* what the two tell each other */
};

/* What the process does all its life: act is called with order 0 first, then
 * with every order of does. */
static inline void obeys(struct other *o, void (*act)(struct other *, int order))
{
	o->pid = getpid();
	act(o, 0);
	for (o->up = 1;; o->order = 0) {
		while (o->order == 0)
			usleep(1000);
		act(o, o->order);
	}
}

static inline struct other *other(void (*act)(struct other *, int order))
{
	struct other *o = shared(sizeof(*o));
	pid_t pid = fork();
	check(pid >= 0, "fork");
	if (pid == 0)
		obeys(o, act);
	check(comes(&o->up, 1) && o->pid == pid, "start a process");
	return o;
}

/* One whose parent, as which lead is called first, ends at once: a zombie
 * until somebody waits for *parent. */
static inline struct other *orphan(void (*act)(struct other *, int order), void (*lead)(void), pid_t *parent)
{
	struct other *o = shared(sizeof(*o));
	if ((*parent = fork()) == 0) {
		if (lead)
			lead();
		if (fork() == 0)
			obeys(o, act);
		check(comes(&o->up, 1), "start a process");
		_exit(0);
	}
	siginfo_t si;
	check(*parent > 0 && waitid(P_PID, *parent, &si, WEXITED | WNOWAIT) == 0, "start a process");
	return o;
}

static inline void does(struct other *o, int order)
{
	o->order = order;
	expect(comes(&o->order, 0), "pid %d does not do %d", o->pid, order);
}

/* Waits for the child's end by a signal; it must be pid's. */
static inline void ended(pid_t pid, int sig)
{
	int status = 0;
	pid_t got = waitpid(pid, &status, __WALL);
	expect(got == pid && WIFSIGNALED(status) && WTERMSIG(status) == sig, "wait for pid %d: %d, status %x", pid, got, status);
}
