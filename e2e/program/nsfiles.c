/*
 * nsfiles: descriptors of namespaces: those that all are in, and those of
 * children which have made some.
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
static char child_pid[16], named_pid[16];

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
	expect(is(childs, named_pid, "uts"), "fd %d is not of the child's uts namespace", childs);
	/* In the child's world and back. */
	struct utsname u;
	works(setns(childs, CLONE_NEWUTS), "setns to the child's");
	works(uname(&u), "uname");
	fact("child's name", "%s", u.nodename);
	works(setns(own[SORTS - 1], CLONE_NEWUTS), "setns back");
	works(uname(&u), "uname");
	fact("own name", "%s", u.nodename);
}

/* A child in a namespace of its own; 0 if that is not permitted. */
static pid_t born(int flag)
{
	int *ready = shared(sizeof(*ready));
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		*ready = unshare(flag) == 0 && (flag != CLONE_NEWUTS || sethostname("childs", 6) == 0) ? 1 : -1;
		while (*ready == 1)
			pause();
		_exit(0);
	}
	while (*(volatile int *)ready == 0)
		usleep(1000);
	if (*ready > 0)
		return child;
	check(waitpid(child, NULL, 0) == child, "waitpid");
	return 0;
}

static int of(pid_t pid, const char *sort)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, sort);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	check(fd >= 0, "open %s", path);
	return fd;
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
	pid_t child = born(CLONE_NEWUSER);
	snprintf(child_pid, sizeof(child_pid), "%d", child);
	users = of(child, "user");
	pid_t named = born(CLONE_NEWUTS); /* an ordinary user may not */
	if (named > 0) {
		snprintf(named_pid, sizeof(named_pid), "%d", named);
		childs = of(named, "uts");
	}
	serve(look, NULL);
}
