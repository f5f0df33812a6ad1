/*
 * seccomp: threads and processes that have given up system calls, each in
 * another way, and go on being denied them.
 */
#include "state.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

/* A filter that answers one system call. */
static long deny(int nr, uint32_t answer, unsigned flags)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, answer),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = { 4, f };
	long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p);
	check(r >= 0, "seccomp");
	return r;
}

enum { ALL, FREE, ONE, TWO, TRAP, TRACE, SYNC, SYNCED, STRICT, N };
static struct self {
	const char *name;
	volatile int turn;
	int denied[5]; /* uname, getpriority, getcpu, getrlimit, sched_yield: errno */
	char status[64];
} *selves;
static const char *const names[N] = { "main", "free thread", "one filter", "two filters", "trap", "trace", "synchronised", "its thread", "strict" };
static volatile int trapped;

static void on_sys(int sig, siginfo_t *si, void *context)
{
	trapped = si->si_syscall;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX] = -123;
}

static int denied(long r) { return r == -1 ? errno : 0; }

static void look_self(struct self *s)
{
	struct utsname u;
	s->denied[0] = denied(syscall(SYS_uname, &u));
	s->denied[1] = denied(syscall(SYS_getpriority, 0, 0));
	s->denied[2] = denied(syscall(SYS_getcpu, NULL, NULL, NULL));
	s->denied[3] = denied(syscall(SYS_getrlimit, 0, NULL)); /* EFAULT, unless denied */
	s->denied[4] = denied(syscall(SYS_sched_yield));
	char path[64], is[64] = "";
	sprintf(path, "/proc/%d/task/%d/status", getpid(), gettid());
	strncat(is, line_of(path, "Seccomp:"), 8);
	strcat(is, ", filters ");
	strncat(is, line_of(path, "Seccomp_filters:"), 8);
	strcat(is, ", no_new_privs ");
	strncat(is, line_of(path, "NoNewPrivs:"), 8);
	strcpy(s->status, is);
}

static void turns(int i)
{
	for (;;) {
		while (selves[i].turn != 1)
			usleep(2000);
		look_self(&selves[i]);
		selves[i].turn = 2;
	}
}
static void synchronised(void)
{
	while (selves[SYNC].turn != 3) {
		if (selves[SYNC].turn == 1) {
			look_self(&selves[SYNC]);
			selves[SYNC].turn = 2;
		}
		usleep(2000);
	}
	selves[SYNC].turn = deny(SYS_getcpu, SECCOMP_RET_ERRNO | 95, SECCOMP_FILTER_FLAG_TSYNC) == 0 ? 2 : 4;
	for (;;)
		pause();
}
static void *run(void *arg)
{
	turns((long)arg);
	return NULL;
}
static void *one(void *arg)
{
	deny(SYS_getpriority, SECCOMP_RET_ERRNO | 91, SECCOMP_FILTER_FLAG_LOG);
	selves[ONE].turn = 2;
	turns(ONE);
	return NULL;
}
/* Only read(2), write(2) and exit: it answers by a pipe. */
static int strict_in[2], strict_out[2];
static void *strict(void *arg)
{
	char c;
	check(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0, "strict");
	for (;;) {
		read(strict_in[0], &c, 1);
		write(strict_out[1], &c, 1);
		if (c == 'u')
			syscall(SYS_uname, NULL); /* the end of it */
	}
	return NULL;
}

static void look(void)
{
	look_self(&selves[ALL]);
	for (int i = FREE; i < STRICT; i++) {
		selves[i].turn = 1;
		expect(comes(&selves[i].turn, 2), "%s: does not run", names[i]);
	}
	for (int i = 0; i < STRICT; i++) {
		char name[64];
		sprintf(name, "%s: calls", names[i]);
		int *d = selves[i].denied;
		fact(name, "%d %d %d %d %d", d[0], d[1], d[2], d[3], d[4]);
		sprintf(name, "%s: Seccomp", names[i]);
		fact(name, "%s", selves[i].status);
	}
	trapped = 0;
	int r = syscall(SYS_sched_yield);
	fact("trap", "%d, errno %d, call %d", r, errno, trapped);
	char c = 'x';
	write(strict_in[1], &c, 1);
	read(strict_out[0], &c, 1);
	expect(c == 'x', "strict: no answer");
}

static pid_t strict_child;
static void finish(void)
{
	/* A child inherits all filters. */
	pid_t pid = fork();
	if (pid == 0) {
		struct self s;
		look_self(&s);
		_exit(memcmp(s.denied, selves[ALL].denied, sizeof(s.denied)) != 0 || strcmp(s.status, selves[ALL].status) != 0);
	}
	int status;
	waitpid(pid, &status, 0);
	expect(status == 0, "a child is denied other calls");
	/* One more for all threads of a process: to the kernel they must still have
	 * the same filters, not such that read the same. */
	selves[SYNC].turn = 3;
	expect(comes(&selves[SYNC].turn, 2), "SECCOMP_FILTER_FLAG_TSYNC is refused");
	selves[SYNCED].turn = 1;
	expect(comes(&selves[SYNCED].turn, 2) && selves[SYNCED].denied[2] == 95, "getcpu in the other thread gives %d",
	       selves[SYNCED].denied[2]);
	char c = 'u';
	write(strict_in[1], &c, 1);
	waitpid(strict_child, &status, 0);
	expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "strict: uname gave status %x", status);
}

int main(int argc, char **argv)
{
	begin();
	selves = shared(sizeof(*selves) * N);
	if (argc > 1)
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	check(pipe(strict_in) == 0 && pipe(strict_out) == 0, "pipe");
	if ((strict_child = fork()) == 0)
		strict(NULL);
	struct sigaction sa = { .sa_sigaction = on_sys, .sa_flags = SA_SIGINFO };
	sigaction(SIGSYS, &sa, NULL);
	pthread_t t;
	check(pthread_create(&t, NULL, run, (void *)FREE) == 0, "pthread_create");
	deny(SYS_uname, SECCOMP_RET_ERRNO | 90, SECCOMP_FILTER_FLAG_TSYNC);
	check(pthread_create(&t, NULL, one, NULL) == 0, "pthread_create");
	check(comes(&selves[ONE].turn, 2), "one");
	if (fork() == 0) {
		deny(SYS_getpriority, SECCOMP_RET_ERRNO | 92, 0);
		deny(SYS_getcpu, SECCOMP_RET_ERRNO | 93, SECCOMP_FILTER_FLAG_SPEC_ALLOW);
		turns(TWO);
	}
	if (fork() == 0) {
		deny(SYS_getrlimit, SECCOMP_RET_TRAP, 0);
		turns(TRAP);
	}
	if (fork() == 0) {
		deny(SYS_getrlimit, SECCOMP_RET_TRACE, 0); /* nobody traces it: ENOSYS */
		turns(TRACE);
	}
	if (fork() == 0) {
		check(pthread_create(&t, NULL, run, (void *)SYNCED) == 0, "pthread_create");
		deny(SYS_getrlimit, SECCOMP_RET_ERRNO | 96, SECCOMP_FILTER_FLAG_TSYNC);
		synchronised();
	}
	deny(SYS_sched_yield, SECCOMP_RET_TRAP, 0);
	serve(look, finish);
}
