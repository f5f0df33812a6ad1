/*
 * parents: who is whose parent: orphans that went to pid 1 or to a subreaper,
 * children of a thread, and where children go whose parent ends only after a
 * restore.
 */
#include "../state.h"
#include "other.h"
#include <linux/kcmp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static struct other *with_init, *with_us, *parent;
static pid_t dead;

enum { WHOSE = 1 };

static void act(struct other *o, int order)
{
	if (order == WHOSE)
		o->word[0] = getppid();
}

/* The parent of another. */
static struct other *of_parent; /* shared */
static void parent_act(struct other *o, int order)
{
	switch (order) {
	case 0:
		if (fork() == 0)
			obeys(of_parent, act);
		check(comes(&of_parent->up, 1), "child");
		break;
	case WHOSE:
		o->word[0] = getppid();
		break;
	}
}

/* A thread that has children: waits for its own only with __WNOTHREAD. Some of
 * them came to it by CLONE_PARENT of a sibling in a session of its own, which
 * lives, or has ended. */
enum { FORKED, BY_SIBLING, BY_DEAD, CHILDREN };
struct parted {
	volatile int turn;
	pid_t childs[CHILDREN];
	volatile long own[CHILDREN];
	int siblings; /* are to be made */
};
static struct parted ours;

static pid_t clone_flags(unsigned long flags)
{
	pid_t pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
	check(pid >= 0, "clone %lx", flags);
	return pid;
}

/* The sibling's id; that of whom it makes comes by way of p. */
static pid_t sibling(int p[2], int ends)
{
	pid_t pid = fork(), made = 0;
	if (pid == 0) {
		check(setsid() > 0, "setsid");
		if ((made = clone_flags(CLONE_PARENT)) != 0)
			check(write(p[1], &made, sizeof(made)) == sizeof(made), "write");
		if (made != 0 && ends)
			_exit(0);
		for (;;)
			pause();
	}
	return pid;
}

static void *thread(void *arg)
{
	struct parted *o = arg;
	int p[2];
	if ((o->childs[FORKED] = fork()) == 0)
		for (;;)
			pause();
	check(pipe(p) == 0, "pipe");
	for (int ends = 0; ends < 2 && o->siblings; ends++) {
		pid_t pid = sibling(p, ends);
		check(read(p[0], &o->childs[BY_SIBLING + ends], sizeof(pid_t)) == sizeof(pid_t), "read");
		if (ends)
			check(waitpid(pid, NULL, __WNOTHREAD) == pid, "wait for the sibling");
	}
	close(p[0]);
	close(p[1]);
	for (o->turn = 2;; o->turn = 2) {
		while (o->turn != 1)
			usleep(1000);
		for (int i = 0; i < CHILDREN; i++)
			if (o->childs[i])
				o->own[i] = waitpid(o->childs[i], NULL, WNOHANG | __WNOTHREAD);
	}
	return NULL;
}

/* Whether the children are the thread's, and no other's: -1 if not. */
static long parted(struct parted *o)
{
	o->turn = 1;
	if (!comes(&o->turn, 2))
		return -2;
	for (int i = 0; i < CHILDREN; i++) {
		if (!o->childs[i])
			continue;
		if (o->own[i] != 0 || waitpid(o->childs[i], NULL, WNOHANG | __WNOTHREAD) != -1 || waitpid(o->childs[i], NULL, WNOHANG) != 0)
			return -1 - 10 * i;
	}
	return 0;
}

static void with_thread(struct parted *o)
{
	pthread_t t;
	check(pthread_create(&t, NULL, thread, o) == 0 && comes(&o->turn, 2), "thread");
}

/* Shares our descriptors no longer, but one of its children does; another is
 * its thread's. */
static struct other *between;
static pid_t beyond;
static void between_act(struct other *o, int order)
{
	static struct parted mine;
	if (order == 0) {
		pid_t pid = clone_flags(CLONE_FILES);
		if (pid == 0)
			for (;;)
				pause();
		o->word[1] = pid;
		check(unshare(CLONE_FILES) == 0, "unshare");
		with_thread(&mine);
	}
	o->word[0] = parted(&mine);
}

static int shares_files(pid_t pid) { return syscall(SYS_kcmp, getpid(), pid, KCMP_FILES, 0, 0) == 0; }

static int whose(struct other *o)
{
	does(o, WHOSE);
	return o->word[0];
}

static void look(void)
{
	expect(whose(with_init) == 1, "an orphan's parent is %ld", with_init->word[0]);
	fact("an orphan", "pid %d session %d", with_init->pid, getsid(with_init->pid));
	expect(whose(with_us) == getpid(), "the parent of who came to its subreaper is %ld", with_us->word[0]);
	expect(whose(of_parent) == parent->pid && whose(parent) == getpid(), "a grandchild's parent is %ld", of_parent->word[0]);
	int reaps = 0;
	prctl(PR_GET_CHILD_SUBREAPER, &reaps);
	fact("subreaper", "%d", reaps);
	long bad = parted(&ours);
	expect(bad == 0, "the thread's children are not its own: %ld", bad);
	does(between, WHOSE);
	expect(between->word[0] == 0, "the thread's child, after unshare: %ld", between->word[0]);
	expect(shares_files(beyond) && !shares_files(between->pid), "who shares descriptors has changed");
	/* A parent that ends now, and its child goes to the subreaper. */
	pid_t gone;
	struct other *late = orphan(act, NULL, &gone);
	expect(waitpid(gone, NULL, 0) == gone && whose(late) == getpid(), "an orphan's parent is %ld now", late->word[0]);
	kill(late->pid, SIGKILL);
	ended(late->pid, SIGKILL);
	munmap(late, sizeof(*late));
}

static void finish(void)
{
	kill(parent->pid, SIGKILL);
	ended(parent->pid, SIGKILL);
	expect(whose(of_parent) == getpid(), "the parent of who lost its own is %ld", of_parent->word[0]);
	kill(of_parent->pid, SIGKILL);
	ended(of_parent->pid, SIGKILL);
	kill(with_us->pid, SIGKILL);
	ended(with_us->pid, SIGKILL);
	expect(waitpid(with_init->pid, NULL, WNOHANG) == -1 && errno == ECHILD, "the orphan of pid 1 is ours");
	for (int i = 0; i < CHILDREN; i++) {
		kill(ours.childs[i], SIGKILL);
		ended(ours.childs[i], SIGKILL);
	}
	kill(with_init->pid, SIGKILL);
	for (int ms = 0; kill(with_init->pid, 0) == 0 && ms < 20000; ms++)
		usleep(1000);
	expect(kill(with_init->pid, 0) == -1, "pid 1 does not wait for its orphan");
}

static void own_session(void) { check(setsid() > 0, "setsid"); }

int main(void)
{
	begin();
	with_init = orphan(act, own_session, &dead);
	waitpid(dead, NULL, 0);
	check(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "PR_SET_CHILD_SUBREAPER");
	with_us = orphan(act, NULL, &dead);
	waitpid(dead, NULL, 0);
	of_parent = shared(sizeof(*of_parent));
	parent = other(parent_act);
	ours.siblings = 1;
	with_thread(&ours);
	between = shared(sizeof(*between));
	if (clone_flags(CLONE_FILES) == 0)
		obeys(between, between_act);
	check(comes(&between->up, 1), "start a process");
	beyond = between->word[1];
	serve(look, finish);
}
