/*
 * entered: the namespaces of a process are entered by a pidfd of it, and ids
 * are translated by its pid namespace.
 */
#include "../state.h"
#include <linux/sched.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

/* Of linux/pidfd.h (6.11) and linux/nsfs.h (6.11). */
#define PIDFD_GET_PID_NAMESPACE _IO(0xFF, 5)
#define NS_GET_PID_FROM_PIDNS _IOR(0xb7, 6, int)
#define NS_GET_PID_IN_PIDNS _IOR(0xb7, 8, int)

#define SORTS (CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNS | CLONE_NEWPID)

static const char *const sorts[] = { "uts", "ipc", "mnt", "pid_for_children" };
static const char name[] = "by-pidfd";
static pid_t there;
static int pidfd;

/* The first process of the namespaces. */
static void first(int told)
{
	check(getpid() == 1 && sethostname(name, strlen(name)) == 0 && write(told, "x", 1) == 1, "the first process");
	for (;;)
		pause();
}

/* Who is born in the namespaces. */
static int born(void)
{
	char host[64] = "";
	gethostname(host, sizeof(host));
	expect(strcmp(host, name) == 0, "the host's name is %s", host);
	expect(getpid() > 1 && getppid() == 0 && kill(1, 0) == 0, "pid %d, parent %d", getpid(), getppid());
	return 0;
}

static int enter(void)
{
	works(setns(pidfd, SORTS), "setns");
	for (size_t i = 0; i < sizeof(sorts) / sizeof(*sorts); i++) {
		char own[64], its[64];
		struct stat a = { 0 }, b = { .st_ino = 1 };
		sprintf(own, "/proc/self/ns/%s", sorts[i]);
		sprintf(its, "/proc/%d/ns/%s", there, sorts[i]);
		works(stat(own, &a), "%s", own);
		works(stat(its, &b), "%s", its);
		expect(a.st_ino == b.st_ino, "the %s namespace is another", sorts[i]);
	}
	pid_t pid = fork();
	if (pid == 0)
		_exit(born());
	waitpid(pid, NULL, 0);
	return 0;
}

static void translate(void)
{
	int ns = ioctl(pidfd, PIDFD_GET_PID_NAMESPACE, 0);
	if (ns < 0) { /* an older kernel */
		fact("PIDFD_GET_PID_NAMESPACE", "%s", strerrorname_np(errno));
		return;
	}
	int from = ioctl(ns, NS_GET_PID_FROM_PIDNS, 1), in = ioctl(ns, NS_GET_PID_IN_PIDNS, there);
	expect(from == there && in == 1, "its pid 1 is %d, and %d is %d there", from, there, in);
	close(ns);
}

static void look(void)
{
	translate();
	pid_t pid = fork();
	if (pid == 0)
		_exit(enter());
	int status;
	expect(waitpid(pid, &status, 0) == pid && status == 0, "who enters ends with %x", status);
}

int main(void)
{
	begin();
	int p[2];
	char x;
	check(pipe(p) == 0, "pipe");
	there = syscall(SYS_clone, SORTS | SIGCHLD, 0, 0, 0, 0);
	check(there >= 0, "clone");
	if (there == 0)
		first(p[1]);
	check(read(p[0], &x, 1) == 1, "the first process");
	pidfd = syscall(SYS_pidfd_open, there, 0);
	check(pidfd >= 0, "pidfd_open");
	serve(look, NULL);
}
