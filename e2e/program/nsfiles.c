/*
 * nsfiles: descriptors of namespaces: those that all are in, and those of a
 * child which has made some.
 */
#include "state.h"
#include <sched.h>
#include <sys/utsname.h>

static const struct { const char *name; int flag; } sorts[] = {
	{ "cgroup", CLONE_NEWCGROUP }, { "ipc", CLONE_NEWIPC }, { "mnt", CLONE_NEWNS }, { "net", CLONE_NEWNET },
	{ "pid", CLONE_NEWPID }, { "time", 0x80 /* CLONE_NEWTIME */ }, { "user", CLONE_NEWUSER }, { "uts", CLONE_NEWUTS },
};
#define SORTS (int)(sizeof(sorts) / sizeof(*sorts))

static int own[SORTS], by_path, childs = -1, users;
static char child_pid[16];

/* Whether fd is of the namespace that a process is in. */
static int is(int fd, const char *who, const char *sort)
{
	char path[64];
	struct stat a, b;
	snprintf(path, sizeof(path), "/proc/%s/ns/%s", who, sort);
	check(fstat(fd, &a) == 0 && stat(path, &b) == 0, "stat %s", path);
	return a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static void look(void)
{
	char name[64];
	for (int i = 0; i < SORTS; i++) {
		expect(is(own[i], "self", sorts[i].name), "fd %d is not of the %s namespace", own[i], sorts[i].name);
		snprintf(name, sizeof(name), "%s: flags", sorts[i].name);
		fact(name, "descriptor %x, description %o", fcntl(own[i], F_GETFD), fcntl(own[i], F_GETFL));
	}
	expect(is(by_path, "self", "net"), "O_PATH");
	fact("O_PATH: flags", "%o", fcntl(by_path, F_GETFL));
	expect(is(users, child_pid, "user"), "fd %d is not of the child's user namespace", users);
	if (childs < 0)
		return;
	expect(is(childs, child_pid, "uts"), "fd %d is not of the child's uts namespace", childs);
	/* In the child's world and back. */
	struct utsname u;
	works(setns(childs, CLONE_NEWUTS), "setns to the child's");
	works(uname(&u), "uname");
	fact("child's name", "%s", u.nodename);
	works(setns(own[SORTS - 1], CLONE_NEWUTS), "setns back");
	works(uname(&u), "uname");
	fact("own name", "%s", u.nodename);
}

int main(void)
{
	begin();
	for (int i = 0; i < SORTS; i++) {
		char path[64];
		snprintf(path, sizeof(path), "/proc/self/ns/%s", sorts[i].name);
		own[i] = open(path, O_RDONLY | (i % 2 ? O_CLOEXEC : 0));
		check(own[i] >= 0, "open %s", path);
	}
	check((by_path = open("/proc/self/ns/net", O_PATH)) >= 0, "open with O_PATH");
	int *ready = shared(sizeof(*ready));
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		int named = unshare(CLONE_NEWUTS) == 0 && sethostname("childs", 6) == 0;
		check(unshare(CLONE_NEWUSER) == 0, "unshare");
		*ready = named ? 1 : -1;
		for (;;)
			pause();
	}
	while (*(volatile int *)ready == 0)
		usleep(1000);
	char path[64];
	snprintf(child_pid, sizeof(child_pid), "%d", child);
	snprintf(path, sizeof(path), "/proc/%d/ns/user", child);
	check((users = open(path, O_RDONLY | O_CLOEXEC)) >= 0, "open %s", path);
	if (*ready > 0) { /* an ordinary user may not */
		snprintf(path, sizeof(path), "/proc/%d/ns/uts", child);
		check((childs = open(path, O_RDONLY)) >= 0, "open %s", path);
	}
	serve(look, NULL);
}
