/*
 * execs: whose group a parent may change (setpgid(2)): that of a child which has
 * not called execve(2) yet.
 */
#include "../state.h"
#include "other.h"

/* One that has executed this program, with one thread or two, and tells. */
static pid_t executed(const char *threads)
{
	int p[2];
	check(pipe(p) == 0, "pipe");
	pid_t pid = fork();
	if (pid == 0) {
		dup2(p[1], 1);
		close(p[0]), close(p[1]);
		execl("/proc/self/exe", "rests", threads, NULL);
		_exit(1);
	}
	char c;
	close(p[1]);
	check(read(p[0], &c, 1) == 1, "it executes nothing");
	close(p[0]);
	return pid;
}

static struct child {
	const char *name;
	pid_t pid;
	int executed;
} children[] = { { "forked" }, { "executed", .executed = 1 }, { "executed, two threads", .executed = 1 } };
#define CHILDREN (sizeof(children) / sizeof(*children))

static void idle(struct other *o, int order) {}

static void look(void)
{
	for (struct child *c = children; c < children + CHILDREN; c++) {
		int r = setpgid(c->pid, getpgid(c->pid)) == 0 ? 0 : errno;
		fact(c->name, "setpgid %s", strerrorname_np(r) ?: "works");
		expect(r == (c->executed ? EACCES : 0), "%s: setpgid: %s", c->name, strerror(r));
		char path[64], *s;
		unsigned long flags = 0;
		sprintf(path, "/proc/%d/stat", c->pid);
		if ((s = strrchr(contents(path), ')')))
			sscanf(s + 2, "%*c %*d %*d %*d %*d %*d %lu", &flags);
		expect(((flags & 0x40 /* PF_FORKNOEXEC */) == 0) == c->executed, "%s: flags %lx", c->name, flags);
	}
}

/* It can be waited for, and its group is its own to change. */
static void finish(void)
{
	for (struct child *c = children; c < children + CHILDREN; c++) {
		kill(c->pid, SIGKILL);
		ended(c->pid, SIGKILL);
	}
}

int main(int argc, char **argv)
{
	if (strcmp(argv[0], "rests") == 0) {
		if (argc > 1 && strcmp(argv[1], "2") == 0)
			resting();
		check(write(1, "x", 1) == 1, "write");
		for (;;)
			pause();
	}
	begin();
	children[0].pid = other(idle)->pid;
	children[1].pid = executed("1");
	children[2].pid = executed("2");
	serve(look, finish);
}
