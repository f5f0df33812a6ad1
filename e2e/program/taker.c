/*
 * taker PID...: has a child at each of the given process ids for as long as
 * its standard input is open, so that nobody else is given them.
 */
#include "step.h"
#include <linux/sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Whoever has the id now may be about to be waited for. */
#define PATIENCE 20000000000LL

static void take(pid_t pid)
{
	struct clone_args a = { .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1 };
	pid_t me = getpid(), got;
	int64_t until = now(CLOCK_MONOTONIC) + PATIENCE;
	while ((got = syscall(SYS_clone3, &a, sizeof(a))) < 0 && errno == EEXIST && now(CLOCK_MONOTONIC) < until)
		usleep(1000);
	if (got == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != me)
			_exit(1);
		for (;;)
			pause();
	}
	/* One that somebody else has and keeps is as good as taken. */
	check(got == pid || errno == EEXIST, "take pid %d", pid);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		take(atoi(argv[i]));
	say("taken\n");
	char c;
	while (read(0, &c, 1) > 0)
		;
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM); /* the group is its own: all of them */
	while (wait(NULL) > 0)
		;
}
