/*
 * parents: who is whose parent: orphans that went to pid 1 or to a subreaper,
 * children of a thread, and where children go whose parent ends only after a
 * restore.
 */
#include "../state.h"
#include "other.h"
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

/* A thread that has a child: waits for its own only with __WNOTHREAD. */
static volatile int turn;
static pid_t childs;
static volatile long own_child;
static void *thread(void *arg)
{
	if ((childs = fork()) == 0)
		for (;;)
			pause();
	for (turn = 2;; turn = 2) {
		while (turn != 1)
			usleep(1000);
		own_child = waitpid(childs, NULL, WNOHANG | __WNOTHREAD);
	}
	return NULL;
}

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
	turn = 1;
	expect(comes(&turn, 2), "the thread does not run");
	fact("the thread's child", "waited for by it: %ld", own_child);
	fact("the thread's child, main", "%d", waitpid(childs, NULL, WNOHANG | __WNOTHREAD));
	fact("the thread's child, any", "%d", waitpid(childs, NULL, WNOHANG));
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
	kill(childs, SIGKILL);
	ended(childs, SIGKILL);
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
	pthread_t t;
	check(pthread_create(&t, NULL, thread, NULL) == 0 && comes(&turn, 2), "thread");
	serve(look, finish);
}
