/*
 * leaders: groups and sessions whose leader is dead, waited for or not. What
 * is left of them keeps the number, which goes to nobody else.
 */
#include "../state.h"
#include "other.h"
#include <linux/sched.h>
#include <sys/syscall.h>

static struct member {
	const char *name;
	int session, reaped;
	struct other *it;
	pid_t leader;
} members[] = {
	{ "group", 0, 1 },
	{ "group of a zombie", 0, 0 },
	{ "session", 1, 1 },
	{ "session of a zombie", 1, 0 },
};
#define MEMBERS (sizeof(members) / sizeof(*members))

static struct other *self;
static void on_signal(int sig) { self->word[1]++; }
static void act(struct other *o, int order)
{
	self = o;
	signal(SIGRTMIN, on_signal);
	o->word[0] = getpgrp(), o->word[2] = getsid(0);
}

static void lead_group(void) { check(setpgid(0, 0) == 0, "setpgid"); }
static void lead_session(void) { check(setsid() > 0, "setsid"); }

/* What comes of asking for that number: EEXIST while it is in use, if one may
 * ask at all. */
static int asked_for(pid_t pid)
{
	struct clone_args a = { .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1 };
	pid_t got = syscall(SYS_clone3, &a, sizeof(a));
	if (got == 0)
		_exit(0);
	if (got < 0)
		return errno;
	waitpid(got, NULL, 0);
	return 0;
}

static int refused; /* what asking gives */

static void look(void)
{
	for (struct member *m = members; m < members + MEMBERS; m++) {
		char is[64];
		does(m->it, 1);
		snprintf(is, sizeof(is), "%s: member", m->name);
		fact(is, "pid %d group %ld %d session %ld %d", m->it->pid, m->it->word[0], getpgid(m->it->pid), m->it->word[2], getsid(m->it->pid));
		expect(m->it->word[0] == m->leader && (!m->session || m->it->word[2] == m->leader), "%s: its member left it", m->name);
		expect(kill(m->leader, 0) == (m->reaped ? -1 : 0), "%s: its leader is %s", m->name, m->reaped ? "there" : "gone");
		m->it->word[1] = 0;
		works(kill(-m->leader, SIGRTMIN), "%s: kill", m->name);
		for (int ms = 0; m->it->word[1] == 0 && ms < 20000; ms++)
			usleep(1000);
		expect(m->it->word[1] == 1, "%s: the signal came %ld times", m->name, m->it->word[1]);
		int r = asked_for(m->leader);
		expect(r == refused, "%s: its number is given again: %s", m->name, strerror(r));
	}
}

static void finish(void)
{
	for (struct member *m = members; m < members + MEMBERS; m++) {
		kill(m->it->pid, SIGKILL);
		/* Pid 1 waits for it. */
		for (int ms = 0; kill(m->it->pid, 0) == 0 && ms < 20000; ms++)
			usleep(1000);
		if (!m->reaped)
			expect(waitpid(m->leader, NULL, 0) == m->leader, "%s: wait for its leader", m->name);
		expect(kill(-m->leader, 0) == -1 && errno == ESRCH, "%s: is still there", m->name);
		/* Since 6.15 numbers are given up a moment after kill(2) finds nobody (release_task() in kernel/exit.c). */
		int r = asked_for(m->leader);
		for (int ms = 0; r == EEXIST && ms < 20000; ms++) {
			usleep(1000);
			r = asked_for(m->leader);
		}
		expect(r == (refused == EEXIST ? 0 : refused), "%s: its number is not free", m->name);
	}
}

int main(void)
{
	begin();
	refused = asked_for(getpid()); /* EPERM for who may not choose */
	for (struct member *m = members; m < members + MEMBERS; m++) {
		m->it = orphan(act, m->session ? lead_session : lead_group, &m->leader);
		if (m->reaped)
			waitpid(m->leader, NULL, 0);
	}
	serve(look, finish);
}
