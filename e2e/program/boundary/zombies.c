/*
 * zombies: children that have ended and that nobody has waited for: their
 * ids, how they ended, and that they can be waited for still.
 */
#include "../state.h"
#include "other.h"

static void exits(int code) { _exit(code); }
static void is_killed(int sig)
{
	kill(getpid(), sig);
	pause();
}
static void leads_group(int code)
{
	setpgid(0, 0);
	_exit(code);
}
static void leads_session(int code)
{
	setsid();
	_exit(code);
}
static void is_another(int code) /* which only root can be */
{
	if (getuid() == 0)
		check(setresgid(1, 2, 3) == 0 && setresuid(65534, 65534, 7) == 0, "setresuid");
	_exit(code);
}
static void has_thread(int code)
{
	resting();
	exit(code);
}
static void has_child(int code) /* which goes to pid 1 */
{
	if (fork() == 0)
		for (;;)
			pause();
	_exit(code);
}

static struct {
	const char *name;
	void (*body)(int);
	int arg, status; /* as wait(2) tells it */
	pid_t pid;
} dead[] = {
	{ "exit 0", exits, 0, 0 },
	{ "exit 7", exits, 7, 7 << 8 },
	{ "exit 255", exits, 255, 255 << 8 },
	{ "SIGKILL", is_killed, SIGKILL, SIGKILL },
	{ "SIGTERM", is_killed, SIGTERM, SIGTERM },
	{ "real-time signal", is_killed, 40, 40 },
	{ "group leader", leads_group, 8, 8 << 8 },
	{ "session leader", leads_session, 9, 9 << 8 },
	{ "another user", is_another, 13, 13 << 8 },
	{ "with a thread", has_thread, 10, 10 << 8 },
	{ "with a child", has_child, 11, 11 << 8 },
};
#define DEAD (sizeof(dead) / sizeof(*dead))

/* Of a process that has a dead child itself. */
static struct other *parent;
static void act(struct other *o, int order)
{
	if (order == 0) {
		pid_t pid = fork();
		if (pid == 0)
			_exit(12);
		o->word[0] = pid;
		waitid(P_PID, o->word[0], &(siginfo_t){ 0 }, WEXITED | WNOWAIT);
	} else {
		int status = 0;
		expect(waitpid(-1, &status, 0) == o->word[0] && status == 12 << 8, "another's child: status %x", status);
	}
}

static void look_at(const char *name, pid_t pid)
{
	char path[64], is[64], state;
	int ppid, pgrp, session, n = 0;
	sprintf(path, "/proc/%d/stat", pid);
	char *s = strrchr(contents(path), ')');
	if (!s || sscanf(s, ") %c %d %d %d", &state, &ppid, &pgrp, &session) != 4) {
		wrong("%s: %s", name, contents(path));
		return;
	}
	snprintf(is, sizeof(is), "%s: stat", name);
	fact(is, "%c pid %d ppid %d group %d session %d", state, pid, ppid, pgrp, session);
	for (char *f = s; (f = strchr(f, ' ')); f++)
		n++;
	snprintf(is, sizeof(is), "%s: exit code in stat", name);
	fact(is, "%s after %d fields", strrchr(s, ' '), n);
	snprintf(is, sizeof(is), "%s: calls", name);
	fact(is, "kill %d, group %d, session %d", kill(pid, 0), getpgid(pid), getsid(pid));
	static const char *const keys[] = { "Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:" };
	sprintf(path, "/proc/%d/status", pid);
	for (unsigned i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		snprintf(is, sizeof(is), "%s: %s", name, keys[i]);
		fact(is, "%s", line_of(path, keys[i]));
	}
	sprintf(path, "/proc/%d/comm", pid);
	snprintf(is, sizeof(is), "%s: name", name);
	fact(is, "%s", contents(path));
}

static void look(void)
{
	for (unsigned i = 0; i < DEAD; i++) {
		siginfo_t si = { 0 };
		char is[64];
		look_at(dead[i].name, dead[i].pid);
		works(waitid(P_PID, dead[i].pid, &si, WEXITED | WNOWAIT), "%s: waitid", dead[i].name);
		snprintf(is, sizeof(is), "%s: waitid", dead[i].name);
		fact(is, "pid %d uid %d status %d code %d", si.si_pid, si.si_uid, si.si_status, si.si_code);
	}
	look_at("another's child", parent->word[0]);
}

static void finish(void)
{
	for (unsigned i = 0; i < DEAD; i++) {
		int status = -1;
		pid_t pid = waitpid(dead[i].pid, &status, 0);
		expect(pid == dead[i].pid && status == dead[i].status, "%s: waitpid gave %d, status %x", dead[i].name, pid, status);
		expect(kill(dead[i].pid, 0) == -1 && errno == ESRCH, "%s: is still there", dead[i].name);
	}
	does(parent, 1);
	kill(parent->pid, SIGKILL);
	ended(parent->pid, SIGKILL);
	expect(wait(NULL) == -1 && errno == ECHILD, "a child more");
}

int main(void)
{
	begin();
	parent = other(act);
	for (unsigned i = 0; i < DEAD; i++) {
		if ((dead[i].pid = fork()) == 0)
			dead[i].body(dead[i].arg);
		check(waitid(P_PID, dead[i].pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT) == 0, "waitid");
	}
	serve(look, finish);
}
