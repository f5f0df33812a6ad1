/*
 * deathsig: the signal that tells of a parent's death (PR_SET_PDEATHSIG)
 * comes when the parent dies, which to the kernel is a thread, and not before.
 */
#include "../state.h"
#include "other.h"
#include <sys/prctl.h>
#include <sys/syscall.h>

static struct other *parent, *of_parent, *of_thread, *of_main, *of_leaderless;
static pid_t leaderless;
static volatile int go;

static struct other *self;
static void on_death(int sig) { self->word[0]++; }
static void act(struct other *o, int order)
{
	if (order == 0) {
		self = o;
		signal(SIGRTMIN, on_death);
		check(prctl(PR_SET_PDEATHSIG, SIGRTMIN) == 0, "PR_SET_PDEATHSIG");
	} else {
		int sig = 0;
		prctl(PR_GET_PDEATHSIG, &sig);
		o->word[1] = sig;
		o->word[2] = getppid();
	}
}
static void parent_act(struct other *o, int order)
{
	if (order == 0 && fork() == 0)
		obeys(of_parent, act);
	check(comes(&of_parent->up, 1), "child");
}
static void *thread(void *arg)
{
	if (fork() == 0)
		obeys(of_thread, act);
	while (!go)
		usleep(1000);
	return NULL;
}

/* A process whose leading thread has ended, which is no death of a parent. */
static void *goes_on(void *arg)
{
	if (fork() == 0)
		obeys(of_leaderless, act);
	for (;;)
		pause();
	return NULL;
}
static void without_leader(void)
{
	pthread_t t;
	check(pthread_create(&t, NULL, goes_on, NULL) == 0, "thread");
	pthread_exit(NULL);
}

static void look(void)
{
	struct other *all[] = { of_parent, of_thread, of_main, of_leaderless };
	for (int i = 0; i < (leaderless ? 4 : 3); i++) {
		char is[64];
		does(all[i], 1);
		sprintf(is, "child %d", i);
		fact(is, "signal %ld, parent %ld, came %ld times", all[i]->word[1], all[i]->word[2], all[i]->word[0]);
	}
}

static void dies(const char *name, struct other *o)
{
	for (int ms = 0; o->word[0] == 0 && ms < 20000; ms++)
		usleep(1000);
	expect(o->word[0] == 1, "%s: the signal came %ld times", name, o->word[0]);
}

static pthread_t of;
static void finish(void)
{
	kill(parent->pid, SIGKILL);
	ended(parent->pid, SIGKILL);
	dies("child of a process", of_parent);
	expect(of_main->word[0] == 0 && of_thread->word[0] == 0 && of_leaderless->word[0] == 0, "signals of a parent that lives: %ld, %ld, %ld",
	       of_main->word[0], of_thread->word[0], of_leaderless->word[0]);
	if (leaderless) {
		kill(leaderless, SIGKILL);
		ended(leaderless, SIGKILL);
		dies("child of a process without a leading thread", of_leaderless);
	}
	go = 1;
	pthread_join(of, NULL);
	dies("child of a thread", of_thread);
	expect(of_main->word[0] == 0, "the signal of a parent that lives: %ld", of_main->word[0]);
}

int main(void)
{
	begin();
	of_parent = shared(sizeof(*of_parent));
	of_thread = shared(sizeof(*of_thread));
	of_leaderless = shared(sizeof(*of_leaderless));
	parent = other(parent_act);
	/* Before Linux 6.9, which brought PIDFD_THREAD, such a one is refused. */
	if (syscall(SYS_pidfd_open, getpid(), O_EXCL) >= 0) {
		if ((leaderless = fork()) == 0)
			without_leader();
		check(comes(&of_leaderless->up, 1), "child of a process without a leading thread");
	}
	of_main = other(act);
	check(pthread_create(&of, NULL, thread, NULL) == 0 && comes(&of_thread->up, 1), "thread");
	serve(look, finish);
}
