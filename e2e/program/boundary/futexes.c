/*
 * futexes: words of memory that hold a thread's id for the kernel or for the
 * C library: mutexes that lend priority, robust ones, recursive ones, and the
 * word by which a thread is joined.
 */
#include "../state.h"
#include "../mutex.h"
#include "other.h"
#include <linux/futex.h>
#include <sys/syscall.h>

static struct {
	pthread_mutex_t pi, robust, robust_pi, dead, dead_pi;
	uint32_t raw; /* a PI futex without a C library */
} *sh;
static pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP, errorcheck = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
static struct other *owner;
static pthread_t joined;
static volatile pid_t joined_tid;
static volatile int go;

static void act(struct other *o, int order)
{
	switch (order) {
	case 0:
		pthread_mutex_lock(&sh->pi);
		pthread_mutex_lock(&sh->robust);
		pthread_mutex_lock(&sh->robust_pi);
		works(syscall(SYS_futex, &sh->raw, FUTEX_LOCK_PI, 0, NULL, NULL, 0), "FUTEX_LOCK_PI");
		break;
	case 1: /* who holds a lock gives it back, and takes it again */
		o->word[0] = syscall(SYS_futex, &sh->raw, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
		o->word[1] = sh->raw;
		o->word[2] = syscall(SYS_futex, &sh->raw, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
		o->word[3] = pthread_mutex_unlock(&sh->pi) || pthread_mutex_lock(&sh->pi);
		break;
	}
}
static void dying_act(struct other *o, int order)
{
	if (order == 0) {
		pthread_mutex_lock(&sh->dead);
		pthread_mutex_lock(&sh->dead_pi);
	}
}

static void *thread(void *arg)
{
	joined_tid = gettid();
	while (!go)
		usleep(1000);
	return (void *)0x4321;
}

static void look(void)
{
	fact("words", "PI %x, robust %x, robust PI %x", sh->pi.__data.__lock, sh->robust.__data.__lock, sh->robust_pi.__data.__lock);
	fact("words of the dead", "%x %x", sh->dead.__data.__lock, sh->dead_pi.__data.__lock);
	fact("owners in memory", "%d %d, of %d", recursive.__data.__owner, errorcheck.__data.__owner, gettid());
	expect((sh->raw & FUTEX_TID_MASK) == (uint32_t)owner->pid, "the owner in the word is %u", sh->raw & FUTEX_TID_MASK);
	does(owner, 1);
	expect(owner->word[0] == 0 && owner->word[1] == 0 && owner->word[2] == 0 && owner->word[3] == 0, "the owner's lock and unlock: %ld %lx %ld %ld",
	       owner->word[0], owner->word[1], owner->word[2], owner->word[3]);
	expect(syscall(SYS_futex, &sh->raw, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0) == -1 && errno == EWOULDBLOCK, "FUTEX_TRYLOCK_PI: %s", strerror(errno));
	struct timespec soon;
	clock_gettime(CLOCK_REALTIME, &soon);
	expect(syscall(SYS_futex, &sh->raw, FUTEX_LOCK_PI, 0, &soon, NULL, 0) == -1 && errno == ETIMEDOUT, "FUTEX_LOCK_PI: %s", strerror(errno));
	expect(pthread_mutex_trylock(&sh->robust) == EBUSY && pthread_mutex_trylock(&sh->robust_pi) == EBUSY, "a robust mutex is free");
	expect(pthread_mutex_lock(&recursive) == 0 && pthread_mutex_unlock(&recursive) == 0, "a recursive mutex is not its owner's");
	expect(pthread_mutex_lock(&errorcheck) == EDEADLK, "a checking mutex does not know its owner");
	expect(pthread_kill(joined, 0) == 0 && pthread_tryjoin_np(joined, NULL) == EBUSY, "the thread is gone");
	fact("the thread", "%d", joined_tid);
}

static void died(const char *name, pthread_mutex_t *m)
{
	int r = pthread_mutex_lock(m);
	expect(r == EOWNERDEAD, "%s: lock gave %s", name, strerror(r));
	expect(pthread_mutex_consistent(m) == 0 && pthread_mutex_unlock(m) == 0, "%s: cannot be mended", name);
}

static void finish(void)
{
	void *ret = NULL;
	died("robust, of who died before", &sh->dead);
	died("robust PI, of who died before", &sh->dead_pi);
	kill(owner->pid, SIGKILL);
	died("robust", &sh->robust);
	died("robust PI", &sh->robust_pi);
	ended(owner->pid, SIGKILL);
	go = 1;
	expect(pthread_join(joined, &ret) == 0 && ret == (void *)0x4321, "pthread_join gave %p", ret);
	expect(pthread_mutex_unlock(&recursive) == 0 && pthread_mutex_unlock(&errorcheck) == 0, "unlock");
}

int main(void)
{
	begin();
	sh = shared(sizeof(*sh));
	init(&sh->pi, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT);
	init(&sh->robust, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
	init(&sh->robust_pi, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_INHERIT);
	init(&sh->dead, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
	init(&sh->dead_pi, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_INHERIT);
	struct other *dying = other(dying_act);
	kill(dying->pid, SIGKILL);
	ended(dying->pid, SIGKILL);
	owner = other(act);
	pthread_mutex_lock(&recursive);
	pthread_mutex_lock(&errorcheck);
	check(pthread_create(&joined, NULL, thread, NULL) == 0, "thread");
	while (!joined_tid)
		usleep(1000);
	serve(look, finish);
}
