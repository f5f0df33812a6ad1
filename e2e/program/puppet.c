/*
 * puppet: processes and threads that do what they are told, one thing at a
 * time, so that a test can build any tree and look at it from inside.
 *
 * Every task has a slot in shared memory (descriptor MEM), where it finds what
 * to do and leaves what came of it. One task, the master, listens on BELL: the
 * number written there, less one, is the slot whose task shall act; when it
 * has, the master writes to ANSWER. See e2e/shapes/puppet_test.go.
 *
 * puppet [threaded]: the master is the first process, or a second thread in it.
 */
#include "step.h"
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { MEM = 100, BELL, ANSWER };
enum { SLOTS = 4096, STACK = 32 << 10 };

/* What a task is told to do; the numbers are known to the test. */
enum {
	FORK = 1, /* slot, clone flags, exit signal: the child's pid */
	SETSID,
	SETPGID, /* pid, group */
	EXIT,    /* code */
	EXIT_THREAD,
	DIE,       /* signal */
	EXEC,      /* itself again, under the same slot */
	WAIT,      /* pid, options: pid, status */
	SUBREAPER, /* on */
	LOOK,      /* pid, tid, parent, group, session, subreaper, pending signals */
	KILL,      /* pid, signal */
	OPEN,      /* a descriptor of that number */
	IS_OPEN,
	UMASK, /* new: old */
	POKE,  /* value: the old one of a variable */
	HANDLE, /* signal, handler (0 default, 1 ignored, 2 another) or -1: the old one */
	IDS,   /* pid: its group, session */
	BLOCK,    /* signal, on */
	TAKE,     /* signal that is pending: itself */
	UNSHARE,  /* flags */
	LAST_PID, /* let the next process have the number after this one, if it is free */
	/* For the master alone. */
	GONE,   /* pid, tid: wait until it runs no more: 0 there is nothing left of it, else its state */
	STATE,  /* pid, tid, state: wait until it is in that state */
	PEEK,   /* pid, tid: its state now */
	PARENT, /* pid: its parent, a zombie's too */
	REAPED, /* pid: wait until init has reaped it, if it is a zombie and init's, and its number is free */
};

struct slot {
	int turn; /* futex: 0 at rest, 1 asked, 2 answered */
	int pid, tid; /* those that the container knows it by */
	int op;
	int levels, self; /* pid namespaces below the container's that it lives in; its pid there */
	long arg[4], ret[8];
};

static struct slot *slots;
static long variable; /* one in each address space */

static long result(long r) { return r == -1 ? -errno : r; }

static void futex_wait(int *word, int value) { syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0); }
static void futex_wake(int *word) { syscall(SYS_futex, word, FUTEX_WAKE, 1 << 30, NULL, NULL, 0); }

static void turn(struct slot *s, int to)
{
	__atomic_store_n(&s->turn, to, __ATOMIC_SEQ_CST);
	futex_wake(&s->turn);
}

static void await(struct slot *s, int value)
{
	int now;
	while ((now = __atomic_load_n(&s->turn, __ATOMIC_SEQ_CST)) != value)
		futex_wait(&s->turn, now);
}

static int serve(void *slot);

static long make(struct slot *s)
{
	struct slot *child = slots + s->arg[0];
	uint64_t flags = s->arg[1];
	int sig = s->arg[2];
	child->turn = -1;
	long pid;
	if (flags & CLONE_VM) { /* a stack of its own, and never an errno at the same time */
		char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
		if (stack == MAP_FAILED)
			return -errno;
		pid = result(clone(serve, stack + STACK, flags | sig, child));
		if (pid < 0)
			munmap(stack, STACK);
	} else {
		struct clone_args a = { .flags = flags, .exit_signal = sig };
		pid = result(syscall(SYS_clone3, &a, sizeof(a)));
		if (pid == 0)
			_exit(serve(child));
	}
	if (pid > 0)
		await(child, 0);
	return pid;
}

static void handler(int sig) {}

static long handle(int sig, long how)
{
	void (*handlers[])(int) = { SIG_DFL, SIG_IGN, handler };
	struct sigaction new = { 0 }, old;
	if (how >= 0)
		new.sa_handler = handlers[how];
	if (sigaction(sig, how >= 0 ? &new : NULL, &old) < 0)
		return -errno;
	return old.sa_handler == handler ? 2 : old.sa_handler == SIG_IGN;
}

static void die(int sig)
{
	sigset_t set;
	handle(sig, 0);
	sigemptyset(&set);
	sigaddset(&set, sig);
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), sig);
	syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, NULL, 8);
}

static void look(long *ret)
{
	int reaper = 0;
	uint64_t pending = 0;
	prctl(PR_GET_CHILD_SUBREAPER, &reaper);
	syscall(SYS_rt_sigpending, &pending, sizeof(pending));
	ret[0] = getpid();
	ret[1] = syscall(SYS_gettid);
	ret[2] = getppid();
	ret[3] = getpgrp();
	ret[4] = getsid(0);
	ret[5] = reaper;
	ret[6] = pending;
}

/* The state of a thread and the threads of its process; 0 if it is gone. */
static int state_of(int pid, int tid, int *threads)
{
	char path[64], text[512];
	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	char state;
	if (sscanf(strrchr(text, ')') + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %d", &state, threads) != 2)
		return -1;
	return state;
}

static int parent_of(int pid)
{
	char path[64], text[512];
	int parent = 0;
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n > 0) {
		text[n] = 0;
		sscanf(strrchr(text, ')') + 1, " %*c %d", &parent);
	}
	return parent;
}

/* How many pid namespaces below that of /proc the caller lives in. */
static int levels(void)
{
	char text[4096];
	int n = -1, fd = open("/proc/thread-self/status", O_RDONLY | O_CLOEXEC);
	ssize_t size = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	close(fd);
	text[size < 0 ? 0 : size] = 0;
	char *at = strstr(text, "\nNSpid:");
	for (at = at ? at + 1 : text; *at && *at != '\n'; at++)
		n += *at == '\t';
	return n;
}

static void moment(void)
{
	struct timespec t = { 0, 200000 };
	nanosleep(&t, NULL);
}

/* The kernel tells the parent of a death under the lock that this takes. */
static void told_parents(void) { syscall(SYS_waitid, P_ALL, 0, NULL, WEXITED | WNOHANG | WNOWAIT, NULL); }

/* What its parent is not told of is a zombie for an instant, then none. */
static int stays_zombie(int pid, int tid)
{
	int threads = 0;
	if (state_of(pid, tid, &threads) != 'Z' || threads > 1)
		return 0;
	told_parents();
	return state_of(pid, tid, &threads) == 'Z';
}

static long gone(int pid, int tid)
{
	int threads;
	for (;; moment()) {
		if (stays_zombie(pid, tid))
			return 'Z';
		if (state_of(pid, tid, &threads) == 0) {
			told_parents();
			return 0;
		}
	}
}

/* Of threads that have ended only the leading one stays. */
static long dead_thread(int pid, int tid)
{
	for (;; moment()) {
		int threads, state = state_of(pid, tid, &threads);
		if (state == 0 || (state == 'Z' && pid == tid))
			return state;
	}
}

static long comes_to(int pid, int tid, int want)
{
	for (;; moment()) {
		int threads, state = state_of(pid, tid, &threads);
		if (state == want || state == 0) {
			told_parents();
			return state;
		}
	}
}

/*
 * A number is free a moment after its process has gone from /proc: the kernel
 * frees it (free_pids() in release_task()) when it no longer holds the lock.
 * Init has done all that once it sleeps again.
 */
static long reaped(int pid)
{
	int threads;
	if (getpid() == 1)
		return 0;
	while (state_of(pid, pid, &threads) == 'Z' && parent_of(pid) == 1)
		moment();
	while (state_of(1, 1, &threads) != 'S')
		moment();
	return 0;
}

static long last_pid(int pid)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d", pid);
	int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	long r = result(write(fd, text, n));
	close(fd);
	return r < 0 ? r : 0;
}

static void act(struct slot *s)
{
	long *a = s->arg, *r = s->ret;
	int status = 0;
	char number[16];
	sigset_t set;
	struct timespec none = { 0, 0 };
	r[0] = 0;
	switch (s->op) {
	case FORK: r[0] = make(s); break;
	case SETSID: r[0] = result(setsid()); break;
	case SETPGID: r[0] = result(setpgid(a[0], a[1])); break;
	case EXIT: _exit(a[0]);
	case EXIT_THREAD: syscall(SYS_exit, 0); break;
	case DIE: die(a[0]); break;
	case EXEC:
		snprintf(number, sizeof(number), "%d", (int)(s - slots));
		r[0] = result(execl("/proc/thread-self/exe", "puppet", "slot", number, NULL));
		break;
	case WAIT:
		r[0] = result(syscall(SYS_wait4, a[0], &status, a[1], NULL));
		r[1] = status;
		break;
	case SUBREAPER: r[0] = result(prctl(PR_SET_CHILD_SUBREAPER, a[0])); break;
	case LOOK: look(r); break;
	case KILL: r[0] = result(kill(a[0], a[1])); break;
	case OPEN: r[0] = result(dup2(MEM, a[0])); break;
	case IS_OPEN: r[0] = fcntl(a[0], F_GETFD) >= 0; break;
	case UMASK: r[0] = umask(a[0]); break;
	case POKE:
		r[0] = variable;
		variable = a[0];
		break;
	case HANDLE: r[0] = handle(a[0], a[1]); break;
	case IDS:
		r[0] = result(getpgid(a[0]));
		r[1] = result(getsid(a[0]));
		break;
	case BLOCK:
		sigemptyset(&set);
		sigaddset(&set, a[0]);
		r[0] = result(syscall(SYS_rt_sigprocmask, a[1] ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL, 8));
		break;
	case TAKE:
		sigemptyset(&set);
		sigaddset(&set, a[0]);
		r[0] = result(syscall(SYS_rt_sigtimedwait, &set, NULL, &none, 8));
		break;
	case UNSHARE: r[0] = result(unshare(a[0])); break;
	case LAST_PID: r[0] = last_pid(a[0]); break;
	case GONE: r[0] = a[2] ? dead_thread(a[0], a[1]) : gone(a[0], a[1]); break;
	case STATE: r[0] = comes_to(a[0], a[1], a[2]); break;
	case PEEK: {
		int count;
		r[0] = state_of(a[0], a[1], &count);
		break;
	}
	case PARENT: r[0] = parent_of(a[0]); break;
	case REAPED: r[0] = reaped(a[0]); break;
	default: r[0] = -ENOSYS;
	}
}

/* /proc is the container's, and gives the container's numbers. */
static void sit(struct slot *s)
{
	char text[64];
	ssize_t n = readlink("/proc/thread-self", text, sizeof(text) - 1);
	text[n < 0 ? 0 : n] = 0;
	if (sscanf(text, "%d/task/%d", &s->pid, &s->tid) != 2)
		_exit(74);
	s->levels = levels();
	s->self = getpid();
	turn(s, 0);
}

static int serve(void *slot)
{
	struct slot *s = slot;
	sit(s);
	for (;;) {
		await(s, 1);
		act(s);
		turn(s, 2);
	}
	return 0;
}

/* These end the task: nothing will answer. */
static int leaves(int op) { return op == EXIT || op == EXIT_THREAD || op == DIE; }

static int rule(void *slot)
{
	struct slot *me = slot;
	sit(me);
	for (;;) {
		uint64_t bell, one = 1;
		if (read(BELL, &bell, sizeof(bell)) != sizeof(bell))
			_exit(72);
		struct slot *s = slots + bell - 1;
		if (s == me) {
			act(s);
		} else {
			turn(s, 1);
			if (s->op == EXEC) {
				int now; /* 2: it failed; 0: the new program sits */
				while ((now = __atomic_load_n(&s->turn, __ATOMIC_SEQ_CST)) == 1)
					futex_wait(&s->turn, now);
				__atomic_store_n(&s->turn, 0, __ATOMIC_SEQ_CST);
			} else if (!leaves(s->op)) {
				await(s, 2);
				__atomic_store_n(&s->turn, 0, __ATOMIC_SEQ_CST);
			}
		}
		if (write(ANSWER, &one, sizeof(one)) != sizeof(one))
			_exit(73);
	}
	return 0;
}

static void share(int create)
{
	if (create) {
		int mem = memfd_create("puppet", 0);
		check(mem >= 0 && ftruncate(mem, SLOTS * sizeof(*slots)) == 0, "memfd_create");
		check(dup2(mem, MEM) == MEM && dup2(eventfd(0, 0), BELL) == BELL && dup2(eventfd(0, 0), ANSWER) == ANSWER, "dup2");
		for (int fd = 3; fd < MEM; fd++)
			close(fd);
	}
	slots = mmap(NULL, SLOTS * sizeof(*slots), PROT_READ | PROT_WRITE, MAP_SHARED, MEM, 0);
	check(slots != MAP_FAILED, "mmap");
}

int main(int argc, char **argv)
{
	sigset_t all;
	sigfillset(&all);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8);
	if (argc == 3)
		share(0);
	else
		share(1);
	if (argc == 3)
		return serve(slots + atoi(argv[2]));
	if (argc == 2) {
		char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
		check(stack != MAP_FAILED, "mmap");
		check(clone(rule, stack + STACK, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, slots + 1) > 0, "clone");
		return serve(slots);
	}
	return rule(slots);
}
