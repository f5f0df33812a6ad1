/*
 * births: children that are not made by plain fork: with an exit signal of
 * their own or none, with the maker's parent as parent, in its memory, by
 * vfork without pause; and what their parents learn of their ends.
 */
#include "../state.h"
#include "other.h"
#include <sched.h>
#include <sys/syscall.h>

static struct other *maker, *vforker;
static volatile pid_t *sibling; /* made by maker, a child of ours */
static pid_t with_signal, silent, in_memory;
static volatile int in_memory_runs;
static char stack[65536] __attribute__((aligned(16)));

static pid_t clone_(unsigned long flags) { return syscall(SYS_clone, flags, NULL, NULL, NULL, 0); }
static void rest_(void)
{
	for (;;)
		pause();
}
static int runs(void *arg)
{
	for (;;) {
		in_memory_runs++;
		usleep(1000);
	}
	return 0;
}

static void act(struct other *o, int order)
{
	if (order != 0)
		return;
	pid_t pid = clone_(CLONE_PARENT | SIGCHLD);
	if (pid == 0)
		rest_();
	*sibling = pid;
}

/* Does nothing else; its child has a program to run. */
static void vfork_act(struct other *o, int order)
{
	if (order == 0)
		return;
	for (;;) {
		int status = -1;
		pid_t pid = vfork();
		if (pid == 0) {
			execl("/bin/true", "true", NULL);
			_exit(1);
		}
		expect(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "vfork gave %d, status %x", pid, status);
		o->word[0]++;
	}
}

static int exit_signal(pid_t pid)
{
	char path[64];
	sprintf(path, "/proc/%d/stat", pid);
	char *s = strrchr(contents(path), ')') + 1;
	for (int i = 0; i < 35 && s; i++)
		s = strchr(s + 1, ' ');
	return s ? atoi(s) : -1;
}
static int parent_of(pid_t pid)
{
	char path[64];
	sprintf(path, "/proc/%d/status", pid);
	return atoi(line_of(path, "PPid:"));
}

static void look(void)
{
	fact("exit signals", "own %d, none %d, sibling %d, in memory %d", exit_signal(with_signal), exit_signal(silent), exit_signal(*sibling),
	     exit_signal(in_memory));
	fact("parents", "%d %d %d %d", parent_of(with_signal), parent_of(silent), parent_of(*sibling), parent_of(in_memory));
	expect(parent_of(*sibling) == getpid(), "the sibling's parent is %d", parent_of(*sibling));
	expect(waitpid(*sibling, NULL, WNOHANG) == 0, "the sibling is no child");
	expect(waitpid(with_signal, NULL, WNOHANG) == -1 && waitpid(with_signal, NULL, WNOHANG | __WCLONE) == 0, "wait without __WCLONE");
	int had = in_memory_runs;
	for (int ms = 0; in_memory_runs == had && ms < 20000; ms++)
		usleep(1000);
	expect(in_memory_runs != had, "the one in our memory does not run, or not in ours");
	long n = vforker->word[0];
	for (int ms = 0; vforker->word[0] < n + 2 && ms < 20000; ms++)
		usleep(1000);
	expect(vforker->word[0] >= n + 2, "vfork stands still");
}

static void finish(void)
{
	sigset_t set;
	sigfillset(&set);
	siginfo_t si;
	struct timespec ten = { 10, 0 }, none = { 0, 0 };
	kill(vforker->pid, SIGKILL);
	ended(vforker->pid, SIGKILL);
	while (sigtimedwait(&set, &si, &none) > 0)
		;
	kill(with_signal, SIGKILL);
	expect(sigtimedwait(&set, &si, &ten) == SIGRTMIN + 7 && si.si_pid == with_signal, "its end is told by signal %d of pid %d", si.si_signo, si.si_pid);
	ended(with_signal, SIGKILL);
	kill(silent, SIGKILL);
	ended(silent, SIGKILL);
	expect(sigtimedwait(&set, &si, &none) == -1, "a silent end is told by signal %d", si.si_signo);
	kill(*sibling, SIGKILL);
	expect(sigtimedwait(&set, &si, &ten) == SIGCHLD && si.si_pid == *sibling, "the sibling's end is told by signal %d of pid %d", si.si_signo, si.si_pid);
	ended(*sibling, SIGKILL);
	kill(in_memory, SIGKILL);
	ended(in_memory, SIGKILL);
	kill(maker->pid, SIGKILL);
	ended(maker->pid, SIGKILL);
}

int main(void)
{
	begin();
	sigset_t set;
	sigfillset(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sibling = shared(sizeof(*sibling));
	maker = other(act);
	vforker = other(vfork_act);
	vforker->order = 1; /* which has no end */
	if ((with_signal = clone_(SIGRTMIN + 7)) == 0 || (silent = clone_(0)) == 0)
		rest_();
	in_memory = clone(runs, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
	check(*sibling > 0 && with_signal > 0 && silent > 0 && in_memory > 0, "clone");
	serve(look, finish);
}
