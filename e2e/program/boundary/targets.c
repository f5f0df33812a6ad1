/*
 * targets: the ids that calls return, and every call that takes one to say
 * whom it means: the same numbers, and the same targets.
 */
#include "../state.h"
#include "other.h"
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static struct other *it;
static pid_t me;
static volatile int number; /* at the same address in every process */

enum { WHO = 1, PRIORITY, AFFINITY, POLICY, LIMIT, NUMBER };

/* --- the other process, which has a thread and a group of its own --- */
static struct other *self;
static void got(int sig, siginfo_t *si, void *context)
{
	self->word[0] = si->si_pid;
	self->word[1] = gettid();
	self->word[2] = si->si_value.sival_int;
	self->up = 1 + sig;
}
static void act(struct other *o, int order)
{
	struct rlimit r;
	cpu_set_t cpus;
	switch (order) {
	case 0:
		self = o;
		setpgid(0, 0);
		struct sigaction sa = { .sa_sigaction = got, .sa_flags = SA_SIGINFO | SA_RESTART };
		for (int s = SIGRTMIN; s < SIGRTMIN + 6; s++)
			sigaction(s, &sa, NULL);
		o->word[3] = resting();
		break;
	case WHO:
		o->word[0] = getpid(), o->word[1] = getppid(), o->word[2] = getpgrp(), o->word[4] = getsid(0);
		break;
	case PRIORITY:
		o->word[0] = getpriority(PRIO_PROCESS, 0);
		break;
	case AFFINITY:
		sched_getaffinity(0, sizeof(cpus), &cpus);
		o->word[0] = CPU_COUNT(&cpus), o->word[1] = CPU_ISSET(0, &cpus);
		break;
	case POLICY:
		o->word[0] = sched_getscheduler(0);
		break;
	case LIMIT:
		getrlimit(RLIMIT_CORE, &r);
		o->word[0] = r.rlim_cur;
		break;
	case NUMBER:
		o->word[0] = number;
		break;
	}
}

/* --- signals: who gets them, and from whom --- */
#define arrives(sig, tid, call, name)                                                                                  \
	do {                                                                                                           \
		it->up = 0;                                                                                            \
		works(call, name);                                                                                     \
		expect(comes(&it->up, 1 + (sig)), "%s: does not arrive", name);                                        \
		expect(it->word[0] == me, "%s: comes from pid %ld", name, it->word[0]);                                \
		expect((tid) == 0 || it->word[1] == (tid), "%s: comes to thread %ld, not %d", name, it->word[1], tid); \
	} while (0)

static void signals(void)
{
	int of_it = it->word[3];
	siginfo_t si = { .si_code = SI_QUEUE };
	si.si_pid = me, si.si_uid = getuid(), si.si_value.sival_int = 4711;
	arrives(SIGRTMIN, 0, kill(it->pid, SIGRTMIN), "kill");
	arrives(SIGRTMIN + 1, 0, kill(-it->pid, SIGRTMIN + 1), "kill of the group");
	arrives(SIGRTMIN + 2, of_it, syscall(SYS_tgkill, it->pid, of_it, SIGRTMIN + 2), "tgkill");
	arrives(SIGRTMIN + 2, it->pid, syscall(SYS_tkill, it->pid, SIGRTMIN + 2), "tkill");
	arrives(SIGRTMIN + 3, 0, syscall(SYS_rt_sigqueueinfo, it->pid, SIGRTMIN + 3, &si), "rt_sigqueueinfo");
	arrives(SIGRTMIN + 4, of_it, syscall(SYS_rt_tgsigqueueinfo, it->pid, of_it, SIGRTMIN + 4, &si), "rt_tgsigqueueinfo");
	expect(it->word[2] == 4711, "rt_tgsigqueueinfo: value %ld", it->word[2]);
	expect(kill(30000, 0) == -1 && errno == ESRCH, "kill finds a pid that nobody has");
	expect(syscall(SYS_tgkill, me, of_it, 0) == -1 && errno == ESRCH, "tgkill finds the thread in another process");
}

static void ids(void)
{
	fact("own ids", "pid %d tid %d ppid %d group %d %d session %d", getpid(), gettid(), getppid(), getpgrp(), getpgid(0), getsid(0));
	does(it, WHO);
	expect(it->word[0] == it->pid && it->word[1] == me && it->word[2] == it->pid && it->word[4] == getsid(0),
	       "its ids are pid %ld, ppid %ld, group %ld, session %ld", it->word[0], it->word[1], it->word[2], it->word[4]);
	fact("its ids", "pid %d thread %ld group %d session %d", it->pid, it->word[3], getpgid(it->pid), getsid(it->pid));
	works(setpgid(it->pid, getpgrp()), "setpgid");
	expect(getpgid(it->pid) == getpgrp(), "setpgid: group %d", getpgid(it->pid));
	works(setpgid(it->pid, it->pid), "setpgid");
}

/* fork, clone and wait give the number that the child has itself. */
static void births(void)
{
	pid_t parent_says = 0, child_says = 0, *own = shared(sizeof(*own)), pid;
	siginfo_t si;
	pid = syscall(SYS_clone, SIGCHLD | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID, NULL, &parent_says, &child_says, 0);
	if (pid == 0) {
		*own = getpid();
		_exit(child_says == getpid() && getppid() == me ? 3 : 4);
	}
	expect(pid == parent_says, "clone gave %d, and %d", pid, parent_says);
	works(waitid(P_PID, pid, &si, WEXITED | WNOWAIT), "waitid");
	expect(si.si_pid == pid && si.si_status == 3 && *own == pid, "waitid: pid %d (%d), status %d", si.si_pid, *own, si.si_status);
	expect(wait(NULL) == pid, "wait gave another pid");
	if ((pid = fork()) == 0) {
		setpgid(0, 0);
		_exit(getpid() & 127);
	}
	setpgid(pid, pid); /* or it has done so itself */
	int status = 0;
	works(waitid(P_PGID, pid, &si, WEXITED | WNOWAIT), "waitid for a group");
	expect(waitpid(-pid, &status, 0) == pid && WEXITSTATUS(status) == (pid & 127), "waitpid for a group: status %x", status);
	expect(waitpid(getppid(), NULL, WNOHANG) == -1 && errno == ECHILD, "waitpid finds one that is no child");
	munmap(own, sizeof(*own));
}

static void scheduling(void)
{
	static int nice;
	works(setpriority(PRIO_PROCESS, it->word[3], ++nice), "setpriority of a thread");
	does(it, PRIORITY);
	expect(it->word[0] == nice - 1 && getpriority(PRIO_PROCESS, it->word[3]) == nice, "setpriority of a thread: of another");
	works(setpriority(PRIO_PROCESS, it->pid, nice), "setpriority");
	does(it, PRIORITY);
	expect(it->word[0] == nice && getpriority(PRIO_PROCESS, it->pid) == nice, "setpriority: %ld, not %d", it->word[0], nice);
	works(setpriority(PRIO_PGRP, it->pid, ++nice), "setpriority of the group");
	does(it, PRIORITY);
	expect(it->word[0] == nice && getpriority(PRIO_PGRP, it->pid) == nice, "setpriority of the group: %ld, not %d", it->word[0], nice);

	cpu_set_t all, one;
	works(sched_getaffinity(it->pid, sizeof(all), &all), "sched_getaffinity");
	fact("affinity", "%d CPUs", CPU_COUNT(&all));
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	works(sched_setaffinity(it->pid, sizeof(one), &one), "sched_setaffinity");
	does(it, AFFINITY);
	expect(it->word[0] == 1 && it->word[1], "sched_setaffinity: %ld CPUs", it->word[0]);
	works(sched_setaffinity(it->pid, sizeof(all), &all), "sched_setaffinity");

	struct sched_param p = { 0 };
	struct timespec slice;
	int other = sched_getscheduler(it->pid) == SCHED_BATCH ? SCHED_OTHER : SCHED_BATCH;
	works(sched_setscheduler(it->pid, other, &p), "sched_setscheduler");
	does(it, POLICY);
	expect(it->word[0] == other && sched_getscheduler(it->pid) == other, "sched_setscheduler: %ld, not %d", it->word[0], other);
	works(sched_getparam(it->pid, &p), "sched_getparam");
	works(sched_rr_get_interval(it->pid, &slice), "sched_rr_get_interval");

	static int level = 7;
	level = 4 + (level + 1) % 4;
	works(syscall(SYS_ioprio_set, 1, it->pid, 2 << 13 | level), "ioprio_set");
	expect(syscall(SYS_ioprio_get, 1, it->pid) == (2 << 13 | level), "ioprio_get");
	works(syscall(SYS_ioprio_set, 2, it->pid, 2 << 13 | level), "ioprio_set of the group");
	expect(syscall(SYS_ioprio_get, 2, it->pid) == (2 << 13 | level), "ioprio_get of the group");
}

static void memory(void)
{
	int value = number + 1, back = 0;
	struct iovec here = { &value, sizeof(value) }, there = { (void *)&number, sizeof(number) };
	works(process_vm_writev(it->pid, &here, 1, &there, 1, 0), "process_vm_writev");
	does(it, NUMBER);
	expect(it->word[0] == value, "process_vm_writev: %ld, not %d", it->word[0], value);
	here.iov_base = &back;
	works(process_vm_readv(it->pid, &here, 1, &there, 1, 0), "process_vm_readv");
	expect(back == value, "process_vm_readv: %d, not %d", back, value);

	works(ptrace(PTRACE_SEIZE, it->pid, NULL, NULL), "PTRACE_SEIZE");
	works(ptrace(PTRACE_INTERRUPT, it->pid, NULL, NULL), "PTRACE_INTERRUPT");
	int status = 0;
	expect(waitpid(it->pid, &status, __WALL) == it->pid && WIFSTOPPED(status), "wait for a traced process: status %x", status);
	errno = 0;
	long word = ptrace(PTRACE_PEEKDATA, it->pid, &number, NULL);
	expect(errno == 0 && (int)word == value, "PTRACE_PEEKDATA: %d, not %d", (int)word, value);
	works(ptrace(PTRACE_DETACH, it->pid, NULL, NULL), "PTRACE_DETACH");
	number = value;

	void *page = (void *)((uintptr_t)&number & ~4095UL);
	int node = -1;
	works(syscall(SYS_move_pages, it->pid, 1, &page, NULL, &node, 0), "move_pages");
	fact("move_pages", "node %d", node);
	fact("kcmp", "file %ld, memory %d", syscall(SYS_kcmp, me, it->pid, KCMP_FILE, 1, 1), syscall(SYS_kcmp, me, it->pid, KCMP_VM, 0, 0) != 0);
	works(syscall(SYS_kcmp, me, it->pid, KCMP_VM, 0, 0), "kcmp");
}

static void limits(void)
{
	static struct rlimit r;
	works(prlimit(it->pid, RLIMIT_CORE, NULL, &r), "prlimit");
	r.rlim_cur = r.rlim_cur == 8192 ? 4096 : 8192;
	works(prlimit(it->pid, RLIMIT_CORE, &r, NULL), "prlimit");
	does(it, LIMIT);
	expect(it->word[0] == (long)r.rlim_cur, "prlimit: %ld, not %lu", it->word[0], r.rlim_cur);
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, it->pid };
	struct __user_cap_data_struct d[2];
	works(syscall(SYS_capget, &h, d), "capget");
	fact("its capabilities", "%x %x", d[0].effective, d[1].effective);
	void *head, *head_of_thread;
	size_t len;
	works(syscall(SYS_get_robust_list, it->pid, &head, &len), "get_robust_list");
	works(syscall(SYS_get_robust_list, it->word[3], &head_of_thread, &len), "get_robust_list of a thread");
	fact("robust lists", "%p %p", head, head_of_thread);
	clockid_t clock; /* made of the pid */
	struct timespec t;
	works(clock_getcpuclockid(it->pid, &clock) ? -1 : 0, "clock_getcpuclockid");
	works(clock_gettime(clock, &t), "its CPU time");
	fact("its clock", "%d", clock);
}

static void look(void)
{
	int thread = it->word[3];
	ids();
	births();
	signals();
	scheduling();
	memory();
	limits();
	expect(it->word[3] == thread, "the thread's id changed");
}

static void finish(void)
{
	works(kill(-it->pid, SIGKILL), "kill of the group");
	ended(it->pid, SIGKILL);
	expect(kill(it->pid, 0) == -1 && errno == ESRCH, "it is still there");
}

int main(void)
{
	begin();
	me = getpid();
	it = other(act);
	serve(look, finish);
}
