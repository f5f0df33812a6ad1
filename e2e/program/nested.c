/*
 * Pid namespaces inside one another: one number a level. A tree of three
 * levels, in which every process looks at its own ids, those of the others as
 * it sees them, and what the kernel tells it of them.
 *
 *   first --- waiter (as unshare --fork does: its children are born below)
 *     |          `-- init (1) --- child (2), with a thread and a timer for it
 *     |                 |  |----- sibling, in a group of its own
 *     |                 |  |----- zombie
 *     |                 |  `----- orphan, in a session whose leader is dead
 *     |                 `-------- deep (1 of its own) --- deeper (2)
 *     `-- lone init (1), whose namespace has nobody else
 */
#include "state.h"
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { WAITER, INIT, CHILD, SIBLING, ORPHAN, DEEP, DEEPER, LONE, WHO };
static const char *const name_of[WHO] = { "waiter", "init", "child", "sibling", "orphan", "deep", "deeper", "lone" };

static struct {
	int ask, done[WHO];
	int finish;
	pid_t own[WHO]; /* as each knows itself */
	int sender;     /* of SIGHUP, as child sees it */
	int ticks;
} *all;

static pid_t zombie;
static int zombie_fd;

static pid_t fork_flags(unsigned long flags)
{
	pid_t pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
	check(pid >= 0, "clone %lx", flags);
	return pid;
}

/* What a process knows of itself. */
static void fact_ids(const char *who)
{
	char name[64];
	snprintf(name, sizeof(name), "%s: ids", who);
	/* Of one that was not started in a container the parent stays behind. */
	int behind = getpid() == getsid(0) && getenv("CKPT_E2E_ADOPTED");
	fact(name, "pid %d tid %ld parent %d group %d session %d", getpid(), syscall(SYS_gettid), behind ? 0 : getppid(), getpgrp(), getsid(0));
}

/* What /proc, which is the container's, shows of it: one number a level. */
static void fact_levels(const char *who, const char *path)
{
	static const char *const keys[] = { "NStgid:", "NSpid:", "NSpgid:", "NSsid:" };
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		char name[64];
		snprintf(name, sizeof(name), "%s: %s", who, keys[i]);
		fact(name, "%s", line_of(path, keys[i]));
	}
}

/* A living process looks whenever it is asked, and then once for all. */
static void attend(int who, void (*look)(void), void (*finish)(void))
{
	all->own[who] = getpid();
	for (int n = 0;;) {
		int ask = __atomic_load_n(&all->ask, __ATOMIC_SEQ_CST);
		if (n == ask) {
			syscall(SYS_futex, &all->ask, FUTEX_WAIT, ask, NULL, NULL, 0);
			continue;
		}
		fact_ids(name_of[who]);
		fact_levels(name_of[who], "/proc/self/status");
		if (look)
			look();
		if (all->finish && finish)
			finish();
		n = ask;
		__atomic_store_n(&all->done[who], n, __ATOMIC_SEQ_CST);
	}
}

/* Of child. */
static pid_t thread_id;
static timer_t timer;

static void *ticking(void *arg)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	thread_id = syscall(SYS_gettid);
	for (;;) {
		siginfo_t si;
		if (sigwaitinfo(&set, &si) > 0 && si.si_code == SI_TIMER)
			__atomic_add_fetch(&all->ticks, 1, __ATOMIC_SEQ_CST);
	}
	return arg;
}

static void child_look(void)
{
	fact("child: thread", "%d", thread_id);
	works(syscall(SYS_tgkill, getpid(), thread_id, 0), "child: tgkill");
	works(kill(all->own[SIBLING], 0), "child: kill sibling %d", all->own[SIBLING]);
	fact("child: group of sibling", "%d", getpgid(all->own[SIBLING]));
	fact("child: session of orphan", "%d", getsid(all->own[ORPHAN]));
	/* SIGHUP from sibling waits, with the number sibling has here. */
	siginfo_t si = { 0 };
	sigset_t hup;
	sigemptyset(&hup);
	sigaddset(&hup, SIGHUP);
	if (all->finish) {
		expect(sigtimedwait(&hup, &si, &(struct timespec){ 0 }) == SIGHUP, "child: no SIGHUP");
		expect(si.si_pid == all->own[SIBLING], "child: SIGHUP is from %d, not from %d", si.si_pid, all->own[SIBLING]);
		int ticks = all->ticks;
		struct itimerspec soon = { .it_value.tv_nsec = 1 };
		works(timer_settime(timer, 0, &soon, NULL), "timer_settime");
		expect(comes(&all->ticks, ticks + 1), "child: its thread does not hear of its timer");
	}
}

static void child(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGRTMIN + 3);
	sigprocmask(SIG_BLOCK, &set, NULL);
	pthread_t t;
	check(pthread_create(&t, NULL, ticking, NULL) == 0, "pthread_create");
	while (!*(volatile pid_t *)&thread_id)
		usleep(100);
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 3 };
	ev._sigev_un._tid = thread_id;
	check(timer_create(CLOCK_MONOTONIC, &ev, &timer) == 0, "timer_create");
	attend(CHILD, child_look, NULL);
}

static void sibling(pid_t to)
{
	check(setpgid(0, 0) == 0, "setpgid");
	check(kill(to, SIGHUP) == 0, "kill");
	attend(SIBLING, NULL, NULL);
}

static void deep_look(void)
{
	fact("deep: child", "%d", all->own[DEEPER]);
	works(kill(all->own[DEEPER], 0), "deep: kill deeper");
	expect(kill(77, 0) < 0 && errno == ESRCH, "deep: 77 is somebody");
}

static void deep_finish(void)
{
	pid_t next = fork();
	if (next == 0)
		_exit(0);
	expect(next == all->own[DEEPER] + 1, "deep: the next pid is %d", next);
	expect(waitpid(next, NULL, 0) == next, "deep: wait");
}

static void init_look(void)
{
	siginfo_t si = { 0 };
	works(waitid(P_PID, zombie, &si, WEXITED | WNOWAIT), "init: waitid");
	fact("init: zombie", "%d status %d", si.si_pid, si.si_status);
	struct pollfd p = { .fd = zombie_fd, .events = POLLIN };
	fact("init: pidfd of it", "%d", poll(&p, 1, 0));
	works(kill(all->own[ORPHAN], 0), "init: kill orphan %d", all->own[ORPHAN]);
}

static void init_finish(void)
{
	int status = 0;
	expect(waitpid(zombie, &status, 0) == zombie && WEXITSTATUS(status) == 9, "init: wait for the zombie: %x", status);
	for (int i = CHILD; i <= DEEPER; i++) /* they look at each other */
		comes(&all->done[i], all->ask);
	kill(all->own[ORPHAN], SIGKILL);
	expect(waitpid(all->own[ORPHAN], &status, 0) == all->own[ORPHAN], "init: the orphan is not its child: %s", strerror(errno));
}

static void init(void)
{
	pid_t c = fork();
	if (c == 0)
		child();
	while (!*(volatile pid_t *)&all->own[CHILD])
		usleep(100);
	if (fork() == 0)
		sibling(c);
	zombie = fork();
	if (zombie == 0)
		_exit(9);
	zombie_fd = syscall(SYS_pidfd_open, zombie, 0);
	check(zombie_fd >= 0, "pidfd_open");
	pid_t leader = fork();
	if (leader == 0) {
		setsid();
		if (fork() == 0)
			attend(ORPHAN, NULL, NULL);
		_exit(0);
	}
	check(waitpid(leader, NULL, 0) == leader, "waitpid");
	if (fork_flags(CLONE_NEWPID) == 0) {
		if (fork() == 0)
			attend(DEEPER, NULL, NULL);
		attend(DEEP, deep_look, deep_finish);
	}
	attend(INIT, init_look, init_finish);
}

/* Of waiter. */
static pid_t first_below;

static void waiter_finish(void)
{
	/* Born below, as child of a parent that is not. */
	pid_t born = fork();
	if (born == 0)
		_exit(getpid() > 2 && getppid() == 0 ? 0 : 1);
	int status = 1;
	expect(waitpid(born, &status, 0) == born && status == 0, "waiter: its child was born elsewhere");
	expect(born > first_below, "waiter: the next pid is %d", born);
}

static void waiter(void)
{
	check(unshare(CLONE_NEWPID) == 0, "unshare");
	first_below = fork();
	if (first_below == 0)
		init();
	attend(WAITER, NULL, waiter_finish);
}

static pid_t waiting, lone;

static void look(void)
{
	fact_ids("first");
	fact("first: children", "%d %d", waiting, lone);
	int want = __atomic_add_fetch(&all->ask, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &all->ask, FUTEX_WAKE, WHO, NULL, NULL, 0);
	for (int i = 0; i < WHO; i++)
		expect(comes(&all->done[i], want), "%s does not answer", name_of[i]);
	char path[64];
	sprintf(path, "/proc/%d/status", lone);
	fact_levels("first: of lone", path);
}

static void finish(void)
{
	all->finish = 1;
	look();
	kill(lone, SIGKILL);
	int status;
	expect(waitpid(lone, &status, 0) == lone && WTERMSIG(status) == SIGKILL, "first: the lone init: %x", status);
	kill(waiting, SIGKILL);
	expect(waitpid(waiting, NULL, 0) == waiting, "first: the waiter");
}

int main(void)
{
	begin();
	all = shared(sizeof(*all));
	waiting = fork();
	if (waiting == 0)
		waiter();
	lone = fork_flags(CLONE_NEWPID);
	if (lone == 0) {
		check(setsid() == 1, "setsid");
		attend(LONE, NULL, NULL);
	}
	for (int i = 0; i < WHO; i++)
		while (!*(volatile pid_t *)&all->own[i])
			usleep(100);
	serve(look, finish);
}
