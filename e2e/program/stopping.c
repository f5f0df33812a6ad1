/*
 * stopping: processes that are stopped and let go on by their children, all
 * the time: so that a dump finds some between the one and the other, which
 * then are stopped or let go on while ckpt holds them already.
 */
#include "state.h"
#include <sys/prctl.h>

enum { PAIRS = 8, IDLE = 40, ROUNDS = 3 };

static struct pair {
	volatile int steps, rounds;
} *pairs;

static char state_of(pid_t pid)
{
	char path[64];
	sprintf(path, "/proc/%d/status", pid);
	return *line_of(path, "State:");
}

/* Parents are found by a dump before their children. */
static void child(struct pair *p, pid_t parent)
{
	for (;; p->rounds++) {
		check(kill(parent, SIGSTOP) == 0, "SIGSTOP");
		while (state_of(parent) != 'T')
			usleep(200);
		int steps = p->steps;
		check(kill(parent, SIGCONT) == 0, "SIGCONT");
		while (p->steps == steps)
			usleep(200);
	}
}

static void parent(struct pair *p)
{
	pid_t me = getpid();
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		child(p, me);
	}
	for (;; p->steps++)
		usleep(200);
}

/* Whoever waits for a stop that was lost, or a going on, waits for ever. */
static void look(void)
{
	for (int i = 0; i < PAIRS; i++) {
		int since = pairs[i].rounds;
		for (int64_t until = now(CLOCK_MONOTONIC) + 20000000000LL; pairs[i].rounds - since < ROUNDS; usleep(1000)) {
			if (now(CLOCK_MONOTONIC) > until) {
				wrong("pair %d stands still", i);
				break;
			}
		}
	}
}

int main(void)
{
	begin();
	pairs = shared(PAIRS * sizeof(*pairs));
	for (int i = 0; i < PAIRS; i++)
		if (fork() == 0)
			parent(pairs + i);
	for (int i = 0; i < IDLE; i++)
		if (fork() == 0)
			for (;;)
				pause();
	serve(look, NULL);
}
