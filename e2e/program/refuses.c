/*
 * refuses WHAT: holds one thing that cannot be saved, and says "step" again and
 * again.
 */
#include "step.h"
#include <asm/ldt.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/syscall.h>

static int secret(void)
{
	int fd = syscall(SYS_memfd_secret, 0);
	check(fd >= 0 && ftruncate(fd, 4096) == 0, "memfd_secret");
	return fd;
}
static void secret_file(void) { secret(); }
static void secret_memory(void)
{
	int fd = secret();
	check(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED && close(fd) == 0, "mmap");
}

/* All calls are let through, by this byte. */
static char allow = SYSCALL_DISPATCH_FILTER_ALLOW;
static void dispatch(void) { check(prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &allow) == 0, "PR_SET_SYSCALL_USER_DISPATCH"); }

static void ldt(void)
{
	struct user_desc d = { .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1, .useable = 1 };
	check(syscall(SYS_modify_ldt, 1, &d, sizeof(d)) == 0, "modify_ldt");
}

/* Of getuid(2) somebody else decides. */
static int listener(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getuid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = { sizeof(f) / sizeof(*f), f };
	int fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &p);
	check(fd >= 0, "seccomp");
	return fd;
}
static void notifier(void) { listener(); }
static void notifier_gone(void) { close(listener()); }

/* A child with the same list of undo values, in memory of its own. */
static void undo(void)
{
	struct sembuf down = { 0, 1, SEM_UNDO };
	int set = semget(IPC_PRIVATE, 1, 0600);
	check(set >= 0, "semget");
	pid_t pid = syscall(SYS_clone, CLONE_SYSVSEM | SIGCHLD, 0, 0, 0, 0);
	check(pid >= 0, "clone");
	if (pid == 0)
		for (;;)
			pause();
	check(semop(set, &down, 1) == 0, "semop");
}

/* A terminal's slave is cut off from it, the master is not. */
static void hung_up(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	check(master >= 0 && unlockpt(master) == 0, "posix_openpt");
	signal(SIGHUP, SIG_IGN);
	check((getpid() == getsid(0) || setsid() >= 0) && open(ptsname(master), O_RDWR) >= 0 && vhangup() == 0, "vhangup");
}

static const struct { const char *name; void (*hold)(void); } things[] = {
	{ "secret file", secret_file }, { "secret memory", secret_memory }, { "dispatch", dispatch }, { "ldt", ldt },
	{ "notifier", notifier }, { "notifier gone", notifier_gone }, { "undo", undo }, { "hung up", hung_up },
};

int main(int argc, char **argv)
{
	unsigned i = 0;
	while (argc > 1 && i < sizeof(things) / sizeof(*things) && strcmp(things[i].name, argv[1]) != 0)
		i++;
	check(argc > 1 && i < sizeof(things) / sizeof(*things), "what?");
	things[i].hold();
	struct timespec t = { 0, 20000000 };
	for (int n = 0;;) {
		told("main", &n, 0, "");
		check(nanosleep(&t, NULL) == 0, "nanosleep");
	}
}
