/*
 * thread: what belongs to a thread and not to its process, different in each
 * of several threads, told by the thread itself.
 */
#include "state.h"
#include <linux/prctl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/syscall.h>

/* sched_setattr(2), which no header of glibc has. */
struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
};

static struct self {
	const char *name;
	struct attributes sched; /* policy, flags, nice, priority */
	unsigned long cpus;
	unsigned long slack; /* ns */
	int ioprio;
	int alt_flags; /* SS_DISABLE: no alternate stack */
	int alt_size;
	int blocked; /* a signal */
	int privileged;
	unsigned long personality;
	int pdeath;

	pthread_t thread;
	int tid;
	int skip; /* not permitted to be so */
	volatile int turn;
	char *alt;
} selves[] = {
	{ .name = "plain", .alt_flags = SS_DISABLE },
	{ .name = "a long name, cut", .cpus = 1, .slack = 1, .alt_size = 16384, .blocked = 34 },
	{ .name = "batch", .sched = { .policy = SCHED_BATCH, .nice = 5 }, .cpus = 2, .slack = 123456789, .alt_size = 65536,
	  .alt_flags = 1 << 31 /* SS_AUTODISARM */, .ioprio = 2 << 13 | 3 },
	{ .name = "idle\n\\", .sched = { .policy = SCHED_IDLE, .nice = 19 }, .ioprio = 3 << 13, .blocked = SIGALRM },
	{ .name = "nice", .sched = { .nice = 10 }, .ioprio = 2 << 13 | 7, .personality = READ_IMPLIES_EXEC | SHORT_INODE },
	{ .name = "(reset) on fork", .sched = { .flags = 1, .nice = 3 }, .personality = PER_LINUX32 | ADDR_COMPAT_LAYOUT | MMAP_PAGE_ZERO },
	{ .name = "eager", .sched = { .nice = -7 }, .privileged = 1 },
	{ .name = "fifo", .sched = { .policy = SCHED_FIFO, .priority = 3 }, .privileged = 1, .cpus = 1 },
	{ .name = "rr", .sched = { .policy = SCHED_RR, .priority = 99, .flags = 1 }, .privileged = 1, .ioprio = 1 << 13 | 4 },
	{ .name = "deadline", .sched = { .policy = 6, .runtime = 1000000, .deadline = 50000000, .period = 100000000 }, .privileged = 1 },
};
#define N (sizeof(selves) / sizeof(*selves))
static int counted[N]; /* a signal's handler that ran in the thread */
static __thread int who;

/* Names a fact by its thread. */
#define told_as(s, what) (snprintf(name, sizeof(name), "%.6s: %s", (s)->name, what), name)

static void on_signal(int sig) { counted[who]++; }

static void become(struct self *s)
{
	check(prctl(PR_SET_NAME, s->name) == 0, "name");
	unsigned long cpus = s->cpus;
	if (cpus && sysconf(_SC_NPROCESSORS_ONLN) > 1)
		check(syscall(SYS_sched_setaffinity, 0, sizeof(cpus), &cpus) == 0, "sched_setaffinity");
	if (s->slack)
		check(prctl(PR_SET_TIMERSLACK, s->slack) == 0, "timer slack");
	if (s->ioprio && syscall(SYS_ioprio_set, 1, 0, s->ioprio) != 0)
		check(errno == EPERM, "ioprio_set");
	if (s->alt_size) {
		s->alt = mmap(NULL, s->alt_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		stack_t st = { .ss_sp = s->alt, .ss_size = s->alt_size, .ss_flags = s->alt_flags };
		check(sigaltstack(&st, NULL) == 0, "sigaltstack");
	}
	if (s->blocked) {
		sigset_t set;
		sigemptyset(&set);
		sigaddset(&set, s->blocked);
		pthread_sigmask(SIG_BLOCK, &set, NULL);
	}
	if (s->personality)
		check(personality(s->personality) >= 0, "personality");
	s->sched.size = sizeof(s->sched);
	check(syscall(SYS_sched_setattr, 0, &s->sched, 0) == 0 || s->privileged, "sched_setattr for %s", s->name);
}

/* rseq's area says on which CPU the thread runs, and goes on saying so. */
static void look_rseq(struct self *s)
{
	char *area = (char *)__builtin_thread_pointer() + __rseq_offset;
	volatile struct rseq *r = (void *)area;
	char name[64];
	fact(told_as(s, "rseq"), "%p, size %u, flags %x", area, __rseq_size, __rseq_flags);
	unsigned long had = 0;
	syscall(SYS_sched_getaffinity, 0, sizeof(had), &had);
	for (int cpu = 0; cpu < 2 && s->sched.policy != 6; cpu++) {
		unsigned long one = 1UL << cpu;
		if (syscall(SYS_sched_setaffinity, 0, sizeof(one), &one) != 0)
			continue; /* there is but one */
		expect((int)r->cpu_id == cpu, "%s: rseq says CPU %d, it runs on %d", s->name, (int)r->cpu_id, cpu);
	}
	if (s->sched.policy != 6)
		works(syscall(SYS_sched_setaffinity, 0, sizeof(had), &had), "%s: sched_setaffinity", s->name);
}

static void look_self(struct self *s)
{
	char name[64], text[64], path[64];
	prctl(PR_GET_NAME, text);
	fact(told_as(s, "name"), "%s", text);
	struct attributes a = { 0 };
	works(syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0), "%s: sched_getattr", s->name);
	fact_bytes(told_as(s, "scheduling"), &a, sizeof(a));
	unsigned long cpus[16] = { 0 };
	syscall(SYS_sched_getaffinity, 0, sizeof(cpus), cpus);
	fact_bytes(told_as(s, "affinity"), cpus, sizeof(cpus));
	fact(told_as(s, "nice"), "%d", getpriority(PRIO_PROCESS, 0));
	fact(told_as(s, "timer slack"), "%d", prctl(PR_GET_TIMERSLACK));
	fact(told_as(s, "ioprio"), "%lx", syscall(SYS_ioprio_get, 1, 0));
	fact(told_as(s, "personality"), "%x", personality(0xffffffff));
	stack_t st;
	works(sigaltstack(NULL, &st), "%s: sigaltstack", s->name);
	fact(told_as(s, "alternate stack"), "%p, size %zu, flags %x", st.ss_sp, st.ss_size, st.ss_flags);
	uint64_t mask;
	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
	fact(told_as(s, "signal mask"), "%lx", mask);
	void *head;
	size_t len;
	works(syscall(SYS_get_robust_list, 0, &head, &len), "%s: get_robust_list", s->name);
	fact(told_as(s, "robust list"), "%p, %zu", head, len);
	fact(told_as(s, "thread id"), "%d of %d", gettid(), getpid());
	/* Not prctl(PR_GET_TID_ADDRESS): kernels need not have it. */
	fact(told_as(s, "pthread_self"), "%lx", (unsigned long)pthread_self());
	fact(told_as(s, "thread-local data"), "%d, %p", who, &who);
	sprintf(path, "/proc/self/task/%d/status", gettid());
	for (const char *const *k = (const char *const[]){ "Name:", "SigPnd:", "SigBlk:", "CapInh:", "CapPrm:", "CapEff:",
		     "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:", "Speculation_Store_Bypass:", "SpeculationIndirectBranch:",
		     "Cpus_allowed:", "Mems_allowed:", NULL }; *k; k++)
		fact(told_as(s, *k), "%s", line_of(path, *k));
	int mode = -1;
	unsigned long nodes = 0;
	if (syscall(SYS_get_mempolicy, &mode, &nodes, 64, NULL, 0) == 0)
		fact(told_as(s, "memory policy"), "%d %lx", mode, nodes);
	look_rseq(s);
	/* A signal meant for this thread runs on its alternate stack. */
	int n = counted[who];
	syscall(SYS_tgkill, getpid(), gettid(), SIGURG);
	expect(counted[who] == n + 1, "%s: its handler ran %d times", s->name, counted[who] - n);
}

static void *run(void *arg)
{
	struct self *s = arg;
	who = s - selves;
	s->tid = gettid();
	become(s);
	s->turn = 2;
	for (;;) {
		while (__atomic_load_n(&s->turn, __ATOMIC_SEQ_CST) != 1) {
			struct timespec t = { 0, 2000000 };
			nanosleep(&t, NULL);
		}
		look_self(s);
		__atomic_store_n(&s->turn, 2, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static void look(void)
{
	for (unsigned i = 0; i < N; i++) {
		selves[i].turn = 1;
		expect(comes(&selves[i].turn, 2), "%s: does not run", selves[i].name);
	}
}

int main(void)
{
	begin();
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
	check(sigaction(SIGURG, &sa, NULL) == 0, "sigaction");
	for (unsigned i = 0; i < N; i++) {
		check(pthread_create(&selves[i].thread, NULL, run, &selves[i]) == 0, "pthread_create");
		check(comes(&selves[i].turn, 2), "%s starts", selves[i].name);
	}
	serve(look, NULL);
}
