/*
 * locks: what the kernel does for pthreads: robust mutexes whose owner dies
 * after a restore, mutexes that lend priority, joining (clear_child_tid),
 * cancelling, waiting; and handlers that were running on an alternate stack.
 */
#include "state.h"
#include "mutex.h"
#include <semaphore.h>
#include <sys/syscall.h>

static struct {
	pthread_mutex_t robust, robust_pi, pi, held;
	pthread_cond_t cond;
	pthread_barrier_t barrier;
	pthread_rwlock_t rwlock;
	sem_t sem;
	volatile int owns, through;
} *sh;

static pthread_t joined, detached, cancelled, owner, waiter[5];
static volatile int go, started, cleaned, freed, woken[5];
static pthread_key_t key;
static pid_t child;

static void hold_on(void)
{
	started++;
	while (!go)
		usleep(1000);
}

static void freeing(void *p) { freed++; }
static void *returns(void *arg)
{
	pthread_setspecific(key, arg);
	hold_on();
	return (void *)0x1234;
}
static void clean(void *p) { cleaned = 1; }
static void *sleeps(void *arg)
{
	pthread_cleanup_push(clean, NULL);
	started++;
	for (;;)
		pause();
	pthread_cleanup_pop(0);
	return NULL;
}
static void *owns_pi(void *arg)
{
	pthread_mutex_lock(&sh->pi);
	hold_on();
	pthread_mutex_unlock(&sh->pi);
	return NULL;
}

static void *w_pi(void *arg)
{
	while (started < 1)
		usleep(1000);
	woken[0] = 1 + pthread_mutex_lock(&sh->pi);
	pthread_mutex_unlock(&sh->pi);
	return NULL;
}
static void *w_cond(void *arg)
{
	pthread_mutex_lock(&sh->held);
	while (!go)
		pthread_cond_wait(&sh->cond, &sh->held);
	pthread_mutex_unlock(&sh->held);
	woken[1] = 1;
	return NULL;
}
static void *w_barrier(void *arg)
{
	int r = pthread_barrier_wait(&sh->barrier);
	woken[2] = r == 0 || r == PTHREAD_BARRIER_SERIAL_THREAD;
	return NULL;
}
static void *w_rwlock(void *arg)
{
	woken[3] = 1 + pthread_rwlock_wrlock(&sh->rwlock);
	pthread_rwlock_unlock(&sh->rwlock);
	return NULL;
}
static void *w_sem(void *arg)
{
	int r;
	while ((r = sem_wait(&sh->sem)) && errno == EINTR)
		;
	woken[4] = 1 + r;
	return NULL;
}
static void *(*const waits[])(void *) = { w_pi, w_cond, w_barrier, w_rwlock, w_sem };
static const char *const wait_name[] = { "PI mutex", "condition", "barrier", "rwlock", "semaphore" };

/* --- a thread that is in a handler, and one in a handler in that --- */
static volatile int depth, leave, left;
static char alt[65536] __attribute__((aligned(4096)));
static stack_t within;
static int on_alt(void) { char here; return &here >= alt && &here < alt + sizeof(alt); }
static void inner(int sig, siginfo_t *si, void *context)
{
	depth = 2;
	check(on_alt(), "on the alternate stack");
	while (!leave) /* without a system call */
		;
	expect(on_alt(), "inner handler: not on its stack");
	sigaltstack(NULL, &within);
	expect(within.ss_flags == SS_ONSTACK && within.ss_sp == alt, "inner handler: its stack is %p, flags %x", within.ss_sp,
	       within.ss_flags);
	uint64_t mask;
	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
	expect(mask >> (SIGHUP - 1) & 1 && mask >> (SIGWINCH - 1) & 1, "inner handler: its mask is %lx", mask);
	expect(si->si_code == SI_TKILL && si->si_pid == getpid(), "inner handler: its siginfo changed");
}
static void outer(int sig, siginfo_t *si, void *context)
{
	depth = 1;
	double d = 1.5;
	asm volatile("" : "+x"(d));
	syscall(SYS_tgkill, getpid(), gettid(), SIGWINCH);
	expect(d == 1.5, "outer handler: lost a register");
}
static void *handles(void *arg)
{
	stack_t st = { .ss_sp = alt, .ss_size = sizeof(alt) }, now_st;
	sigaltstack(&st, NULL);
	double d = 2.5;
	asm volatile("" : "+x"(d));
	syscall(SYS_tgkill, getpid(), gettid(), SIGHUP);
	expect(d == 2.5, "thread: lost a register");
	sigaltstack(NULL, &now_st);
	expect(now_st.ss_flags == 0 && now_st.ss_sp == alt && now_st.ss_size == sizeof(alt), "thread: its stack is %p, flags %x",
	       now_st.ss_sp, now_st.ss_flags);
	uint64_t mask;
	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
	expect(!(mask >> (SIGHUP - 1) & 1), "thread: its mask is %lx", mask);
	left = 1;
	return NULL;
}

static void look(void)
{
	fact("started", "%d", started);
	fact("in handlers", "%d", depth);
	for (int i = 0; i < 5; i++)
		expect(!woken[i], "%s: was woken", wait_name[i]);
	expect(pthread_mutex_trylock(&sh->robust) == EBUSY, "robust: not held");
	expect(pthread_mutex_trylock(&sh->robust_pi) == EBUSY, "robust PI: not held");
	expect(pthread_mutex_trylock(&sh->pi) == EBUSY, "PI: not held");
	expect(pthread_kill(joined, 0) == 0, "pthread_kill");
}

static void finish(void)
{
	/* Owners of robust mutexes: a process that is killed. */
	kill(child, SIGKILL);
	int r = pthread_mutex_lock(&sh->robust);
	expect(r == EOWNERDEAD, "robust: lock gave %d (%s)", r, strerror(r));
	r = pthread_mutex_lock(&sh->robust_pi);
	expect(r == EOWNERDEAD, "robust PI: lock gave %d (%s)", r, strerror(r));
	pthread_mutex_consistent(&sh->robust);
	pthread_mutex_unlock(&sh->robust);
	int status;
	expect(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "child: status %x", status);

	void *ret = NULL;
	pthread_mutex_lock(&sh->held);
	go = 1;
	pthread_cond_broadcast(&sh->cond);
	pthread_mutex_unlock(&sh->held);
	expect(pthread_join(joined, &ret) == 0 && ret == (void *)0x1234, "join gave %p", ret);
	pthread_join(owner, NULL);
	pthread_rwlock_unlock(&sh->rwlock);
	sem_post(&sh->sem);
	pthread_barrier_wait(&sh->barrier);
	for (int i = 0; i < 5; i++) {
		expect(comes(&woken[i], 1), "%s: woken %d", wait_name[i], woken[i]);
		pthread_join(waiter[i], NULL);
	}
	expect(comes(&freed, 2), "destructors of thread-local data ran %d times", freed);
	pthread_cancel(cancelled);
	expect(pthread_join(cancelled, &ret) == 0 && ret == PTHREAD_CANCELED && cleaned, "cancel: gave %p, cleaned %d", ret, cleaned);
	leave = 1;
	expect(comes(&left, 1), "the handlers do not return");
}

static void locks(void)
{
	init(&sh->robust, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
	init(&sh->robust_pi, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_INHERIT);
	init(&sh->pi, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT);
	init(&sh->held, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
	pthread_cond_init(&sh->cond, NULL);
	pthread_barrier_init(&sh->barrier, NULL, 2);
	pthread_rwlock_init(&sh->rwlock, NULL);
	pthread_rwlock_wrlock(&sh->rwlock);
	sem_init(&sh->sem, 0, 0);
}

int main(void)
{
	begin();
	sh = shared(sizeof(*sh));
	locks();
	child = fork();
	if (child == 0) {
		pthread_mutex_lock(&sh->robust);
		pthread_mutex_lock(&sh->robust_pi);
		sh->owns = 1;
		for (;;)
			pause();
	}
	check(comes(&sh->owns, 1), "the child owns");
	pthread_key_create(&key, freeing);
	pthread_create(&owner, NULL, owns_pi, NULL);
	for (int i = 0; i < 5; i++)
		pthread_create(&waiter[i], NULL, waits[i], NULL);
	check(comes(&started, 1), "owner");
	pthread_create(&joined, NULL, returns, "");
	check(comes(&started, 2), "joined");
	pthread_create(&detached, NULL, returns, "");
	pthread_detach(detached);
	check(comes(&started, 3), "detached");
	pthread_create(&cancelled, NULL, sleeps, NULL);
	check(comes(&started, 4), "cancelled");
	struct sigaction sa = { .sa_sigaction = outer, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	sigaction(SIGHUP, &sa, NULL);
	sa.sa_sigaction = inner;
	sigaction(SIGWINCH, &sa, NULL);
	pthread_t h;
	pthread_create(&h, NULL, handles, NULL);
	check(comes(&depth, 2), "handlers");
	usleep(20000); /* all are in their calls */
	serve(look, finish);
}
