/*
 * inner HOW PROGRAM [ARG...] runs a program in a user namespace, as a container
 * tool would. HOW are letters:
 *
 *   p  the program is pid 1 of a pid namespace, with a /proc; else it is inner
 *   i  with host name, System V objects and mounts of its own, too
 *   o  its user is 0 inside, and nobody else has a number (unshare -r)
 *   s  its user keeps his number, and nobody else has one
 *   m  4000000 users have numbers, the first is host id 100000 (root only), who
 *      gets a directory
 *   t  twice: a user namespace in a user namespace
 *   w  with t: the outer one has host name, System V objects and mounts, too,
 *      and a process that stays in it
 *   n  by nobody (root only)
 *
 * Without o, s and m nobody has a number. SIGUSR1 and SIGUSR2 are passed on.
 */
#include "step.h"
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static const char *how;
static int has(char c) { return strchr(how, c) != NULL; }

static void put(pid_t pid, const char *file, const char *text)
{
	char path[64];
	sprintf(path, "/proc/%d/%s", pid, file);
	int fd = open(path, O_WRONLY);
	check(fd >= 0, "open %s", path);
	check(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "write %s to %s", text, path);
	close(fd);
}

/* Written from outside, by who has the rights to. */
static void maps(pid_t pid, uid_t uid, gid_t gid)
{
	char text[64];
	if (has('m')) {
		put(pid, "uid_map", "0 100000 4000000");
		put(pid, "gid_map", "0 100000 4000000");
	} else if (has('o') || has('s')) {
		put(pid, "setgroups", "deny");
		sprintf(text, "%d %d 1", has('o') ? 0 : uid, uid);
		put(pid, "uid_map", text);
		sprintf(text, "%d %d 1", has('o') ? 0 : gid, gid);
		put(pid, "gid_map", text);
	}
}

static void make(int flags)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int made[2];
	char c;
	check(pipe(made) == 0, "pipe");
	pid_t of = getpid(), writer = fork();
	if (writer == 0) {
		check(read(made[0], &c, 1) == 1, "read");
		maps(of, uid, gid);
		_exit(0);
	}
	check(unshare(CLONE_NEWUSER | flags) == 0, "unshare");
	check(write(made[1], "x", 1) == 1, "write");
	int status;
	check(waitpid(writer, &status, 0) == writer && status == 0, "the maps");
	close(made[0]), close(made[1]);
	if (has('m')) {
		check(setgroups(0, NULL) == 0, "setgroups");
		check(setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0, "setresuid");
	}
}

int main(int argc, char **argv)
{
	check(argc > 2, "usage");
	how = argv[1];
	if (has('m'))
		check(mkdir("inner", 0755) == 0 && chown("inner", 100000, 100000) == 0 && chdir("inner") == 0, "a directory");
	const int all = CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNS;
	if (has('n'))
		check(setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0, "nobody");
	if (has('t'))
		make(has('w') ? all : 0);
	if (has('w') && fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	int others = has('i') ? all : 0;
	if (!has('p')) {
		make(others);
		execv(argv[2], argv + 2);
		fail("execv");
	}
	sigset_t passed, old;
	sigemptyset(&passed);
	sigaddset(&passed, SIGUSR1);
	sigaddset(&passed, SIGUSR2);
	sigaddset(&passed, SIGCHLD);
	sigprocmask(SIG_BLOCK, &passed, &old);
	make(CLONE_NEWPID | CLONE_NEWNS | others);
	pid_t first = fork();
	if (first == 0) {
		sigprocmask(SIG_SETMASK, &old, NULL);
		check(setsid() == 1, "setsid");
		check(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "mount /");
		check(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0, "mount /proc");
		if (has('i'))
			check(sethostname("inner", 5) == 0, "sethostname");
		execv(argv[2], argv + 2);
		fail("execv");
	}
	for (;;) {
		int sig, status;
		sigwait(&passed, &sig);
		if (sig != SIGCHLD)
			kill(first, sig);
		else if (waitpid(first, &status, WNOHANG) == first)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
}
