/*
 * pidmax: how far pids go, which is each pid namespace's own. In that of the
 * program some go beyond, for they were there before it was lowered; in one
 * made inside, another number holds.
 */
#include "../state.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

#define MAX 1000
#define NESTED_MAX 700
#define HIGH 5000 /* of the child and the threads that were there before */

static const char limit[] = "/proc/sys/kernel/pid_max";

static struct {
	pid_t high, high_tid; /* as they know themselves */
	int ask, done, bad;   /* of the first in the nested namespace */
} *all;

static int last; /* that was given in the program's namespace */

static void put(const char *path, int n)
{
	char text[16];
	int fd = open(path, O_WRONLY);
	check(fd >= 0 && write(fd, text, sprintf(text, "%d", n)) > 0, "%s: %d", path, n);
	close(fd);
}

/* Who is born next has the number after last, or begins anew. */
static int follows(int pid, int max)
{
	/* Numbers below 300 are given once, after boot (kernel/pid.c). */
	int want = last + 1 < max ? last + 1 : 300;
	last = pid;
	return pid == want;
}

static int born(void)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	check(waitpid(pid, NULL, 0) == pid, "fork");
	return pid;
}

/* May a number be chosen? */
static int may_choose(int number)
{
	pid_t ids[] = { number };
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size;
	} args = { .exit_signal = SIGCHLD, .set_tid = (uintptr_t)ids, .set_tid_size = 1 };
	pid_t pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		_exit(0);
	if (pid < 0)
		return 0;
	waitpid(pid, NULL, 0);
	return 1;
}

static int is_limited(int max)
{
	int n = atoi(contents(limit));
	return n == max && !may_choose(max) && may_choose(max - 1);
}

static void *wait_for_ever(void *tid)
{
	*(pid_t *)tid = gettid();
	for (;;)
		pause();
	return NULL;
}

/* One with a number beyond the limit, and a thread with another. */
static void high(void)
{
	pthread_t t;
	all->high = getpid();
	check(pthread_create(&t, NULL, wait_for_ever, &all->high_tid) == 0, "thread");
	for (;;)
		pause();
}

/* The first of a namespace made inside, which has a limit of its own. */
static void nested(void)
{
	check(getpid() == 1, "pid %d", getpid());
	put(limit, NESTED_MAX);
	put("/proc/sys/kernel/ns_last_pid", NESTED_MAX - 2);
	last = NESTED_MAX - 2;
	for (int n = 0;; n++) {
		while (__atomic_load_n(&all->ask, __ATOMIC_SEQ_CST) == n)
			syscall(SYS_futex, &all->ask, FUTEX_WAIT, n, NULL, NULL, 0);
		int first = born(), second = born();
		int ok = follows(first, NESTED_MAX) && follows(second, NESTED_MAX);
		all->bad = !ok || !is_limited(NESTED_MAX);
		__atomic_store_n(&all->done, n + 1, __ATOMIC_SEQ_CST);
	}
}

static void look(void)
{
	expect(is_limited(MAX), "%s is %s, or means nothing", limit, contents(limit));
	for (int i = 0; i < 3; i++) {
		int was = last, pid = born();
		expect(follows(pid, MAX), "pid %d after %d", pid, was);
	}
	expect(all->high == HIGH && all->high_tid == HIGH + 1 && kill(HIGH, 0) == 0 && syscall(SYS_tgkill, HIGH, HIGH + 1, 0) == 0,
	       "those beyond are pid %d and thread %d", all->high, all->high_tid);
	int ask = __atomic_add_fetch(&all->ask, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &all->ask, FUTEX_WAKE, 1, NULL, NULL, 0);
	expect(comes(&all->done, ask) && !all->bad, "the limit of the nested namespace, or the pids in it, are others");
	last += 3; /* those born there have numbers here, too */
}

int main(void)
{
	begin();
	all = shared(sizeof(*all));
	pid_t here = getpid();
	check(unshare(CLONE_NEWPID) == 0, "unshare");
	if (fork() == 0)
		nested();
	char own[64];
	sprintf(own, "/proc/%d/ns/pid", here);
	int fd = open(own, O_RDONLY);
	check(fd >= 0 && setns(fd, CLONE_NEWPID) == 0, "setns");
	close(fd);
	put("/proc/sys/kernel/ns_last_pid", HIGH - 1);
	if (fork() == 0)
		high();
	check(comes(&all->high_tid, HIGH + 1), "the thread beyond");
	last = HIGH + 1;
	put(limit, MAX);
	serve(look, NULL);
}
