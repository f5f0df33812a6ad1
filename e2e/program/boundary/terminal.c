/*
 * terminal: a terminal's session, its group in the foreground, also one whose
 * leader is dead, and job control that goes by these numbers.
 */
#include "../state.h"
#include "other.h"
#include <pty.h>
#include <sys/ioctl.h>

static int master, slave;
static struct other *shell; /* leads the session */
static struct jobs {
	struct other job, orphan;
	pid_t leader; /* of the orphan's group, dead */
} *jobs;

static struct other *self;
static void on_signal(int sig)
{
	self->word[sig == SIGINT ? 0 : 1]++;
}
static void job_act(struct other *o, int order)
{
	switch (order) {
	case 0:
		self = o;
		signal(SIGINT, on_signal);
		struct sigaction sa = { .sa_handler = on_signal }; /* ends the call, or it would write for ever */
		sigaction(SIGTTOU, &sa, NULL);
		break;
	case 1: /* writes to its terminal */
		o->word[2] = write(slave, "x", 1);
		o->word[3] = tcgetpgrp(slave);
		break;
	}
}

static void own_group(void) { check(setpgid(0, 0) == 0, "setpgid"); }

enum { FRONT_JOB = 1, FRONT_ORPHAN, FRONT_SHELL };
static void shell_act(struct other *o, int order)
{
	switch (order) {
	case 0:
		self = o;
		close(master);
		check(setsid() == getpid() && ioctl(slave, TIOCSCTTY, 0) == 0, "session");
		signal(SIGTTOU, SIG_IGN);
		if (fork() == 0) {
			own_group();
			obeys(&jobs->job, job_act);
		}
		pid_t leader = fork();
		if (leader == 0) {
			own_group();
			if (fork() == 0)
				obeys(&jobs->orphan, job_act);
			check(comes(&jobs->orphan.up, 1), "job");
			_exit(0);
		}
		check(waitpid(leader, NULL, 0) == leader && comes(&jobs->job.up, 1), "jobs");
		jobs->leader = leader;
		signal(SIGINT, on_signal);
		break;
	case FRONT_JOB:
		o->word[4] = tcsetpgrp(slave, jobs->job.pid);
		break;
	case FRONT_ORPHAN:
		o->word[4] = tcsetpgrp(slave, jobs->leader);
		break;
	case FRONT_SHELL:
		o->word[4] = tcsetpgrp(slave, getpid());
		break;
	}
}

static void numbers(const char *name, pid_t pid)
{
	char path[64];
	int ppid, pgrp, session, tty, front;
	sprintf(path, "/proc/%d/stat", pid);
	char *s = strrchr(contents(path), ')');
	if (!s || sscanf(s, ") %*c %d %d %d %d %d", &ppid, &pgrp, &session, &tty, &front) != 5)
		wrong("%s: %s", name, contents(path));
	fact(name, "pid %d ppid %d group %d session %d terminal %x foreground %d", pid, ppid, pgrp, session, tty, front);
}

/* Ctrl-C comes to one of the three, and to no other. */
static void interrupts(struct other *one)
{
	struct other *all[] = { shell, &jobs->job, &jobs->orphan };
	for (int i = 0; i < 3; i++)
		all[i]->word[0] = 0;
	works(write(master, "\003", 1), "write to the master");
	for (int ms = 0; one->word[0] == 0 && ms < 20000; ms++)
		usleep(1000);
	for (int i = 0; i < 3; i++)
		expect(all[i]->word[0] == (all[i] == one), "Ctrl-C comes to pid %d %ld times", all[i]->pid, all[i]->word[0]);
}

static void look(void)
{
	static const struct { int order; const char *name; } fronts[] = { { FRONT_JOB, "a job" }, { FRONT_SHELL, "the shell" },
		{ FRONT_ORPHAN, "a group without leader" } };
	/* What the last look has left is in the foreground still. */
	int pgrp = -1, sid = -1;
	works(ioctl(master, TIOCGSID, &sid), "TIOCGSID");
	works(ioctl(master, TIOCGPGRP, &pgrp), "TIOCGPGRP");
	expect(sid == shell->pid && pgrp == jobs->leader, "session %d, foreground %d", sid, pgrp);
	numbers("shell", shell->pid);
	numbers("job", jobs->job.pid);
	numbers("orphan", jobs->orphan.pid);
	interrupts(&jobs->orphan);
	for (int i = 0; i < 3; i++) {
		does(shell, fronts[i].order);
		expect(shell->word[4] == 0, "bring %s to the front", fronts[i].name);
		works(ioctl(master, TIOCGPGRP, &pgrp), "TIOCGPGRP");
		fact(fronts[i].name, "%d", pgrp);
		interrupts(i == 0 ? &jobs->job : i == 1 ? shell : &jobs->orphan);
	}
	/* Who is in the background may not write (TOSTOP). */
	jobs->job.word[1] = 0;
	does(&jobs->job, 1);
	expect(jobs->job.word[1] == 1 && jobs->job.word[2] == -1 && jobs->job.word[3] == jobs->leader,
	       "a job in the background: SIGTTOU %ld times, write %ld, foreground %ld", jobs->job.word[1], jobs->job.word[2], jobs->job.word[3]);
}

static void finish(void)
{
	close(master);
	ended(shell->pid, SIGHUP); /* goes to the leader of the session */
}

int main(void)
{
	begin();
	struct termios t;
	check(openpty(&master, &slave, NULL, NULL, NULL) == 0 && tcgetattr(slave, &t) == 0, "openpty");
	t.c_lflag |= TOSTOP;
	t.c_lflag &= ~ECHO;
	t.c_cc[VINTR] = 3;
	tcsetattr(slave, TCSANOW, &t);
	jobs = shared(sizeof(*jobs));
	shell = other(shell_act);
	does(shell, FRONT_ORPHAN);
	close(slave);
	serve(look, finish);
}
