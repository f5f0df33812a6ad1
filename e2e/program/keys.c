/*
 * keys: memory under protection keys (pkeys(7)), what each thread may do with it,
 * and memory that may only be executed, which the kernel puts under a key of its
 * own. Without a processor that has keys, memory without any.
 */
#include "state.h"
#include <pthread.h>
#include <setjmp.h>

static char *written, *readable, *executed, *freed;
static int one, two, given;
static volatile int seen[2]; /* rights of the other thread; -2: not yet */

static sigjmp_buf back;
static void hit(int sig) { siglongjmp(back, sig); }

/* 0, or the signal of writing there, after which a handler has other rights. */
static int writing(volatile char *p)
{
	volatile int first = pkey_get(one), second = pkey_get(two);
	int sig = sigsetjmp(back, 1);
	if (!sig)
		*p = *p + 1;
	else if (one > 0)
		pkey_set(one, first), pkey_set(two, second);
	return sig;
}

static const char *key_of(void *p)
{
	char start[32];
	sprintf(start, "%08lx-", (unsigned long)p);
	char *at = strstr(contents("/proc/self/smaps"), start), *key = at ? strstr(at, "ProtectionKey:") : NULL;
	if (!key)
		return "no key";
	*strchr(key, '\n') = 0;
	return key;
}

static void *other(void *unused)
{
	if (one > 0)
		pkey_set(one, PKEY_DISABLE_ACCESS);
	for (;;) {
		seen[0] = pkey_get(one), seen[1] = pkey_get(two);
		usleep(1000);
	}
	return unused;
}

static void look(void)
{
	fact("key of what is written", "%s", key_of(written));
	fact("key of what is read", "%s", key_of(readable));
	fact("key of what is executed", "%s", key_of(executed));
	fact("key that was freed", "%s", key_of(freed));
	fact("rights", "%d %d", pkey_get(one), pkey_get(two));
	seen[0] = seen[1] = -2;
	while (seen[0] == -2 || seen[1] == -2)
		usleep(1000);
	fact("rights of another thread", "%d %d", seen[0], seen[1]);
	int next = pkey_alloc(0, 0);
	fact("next key", "%d", next);
	pkey_free(next);
	fact("contents", "%d %d %d", written[1], readable[1], freed[1]);
	fact("writing", "%d %d", writing(written), writing(readable));
}

static void finish(void)
{
	if (one > 0) {
		works(pkey_set(two, 0), "pkey_set");
		expect(writing(readable) == 0, "there is no writing where the key allows it");
		works(pkey_mprotect(readable, 4096, PROT_READ | PROT_WRITE, one), "pkey_mprotect");
		works(pkey_free(two), "pkey_free");
	}
	works(mprotect(executed, 4096, PROT_READ), "mprotect");
	expect(executed[1] == 3, "what could be executed holds %d", executed[1]);
}

static char *map(int with)
{
	char *p = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(p != MAP_FAILED && mprotect(p + 4096, 4096, PROT_NONE) == 0, "mmap");
	p[1] = with;
	return p;
}

int main(void)
{
	begin();
	signal(SIGSEGV, hit);
	given = pkey_alloc(0, 0), one = pkey_alloc(0, 0), two = pkey_alloc(0, PKEY_DISABLE_WRITE);
	written = map(1), readable = map(2), executed = map(3), freed = map(4);
	check(mprotect(executed, 4096, PROT_EXEC) == 0, "mprotect");
	if (one > 0) {
		check(pkey_mprotect(written, 4096, PROT_READ | PROT_WRITE, one) == 0, "pkey_mprotect");
		check(pkey_mprotect(readable, 4096, PROT_READ | PROT_WRITE, two) == 0, "pkey_mprotect");
		check(pkey_mprotect(freed, 4096, PROT_READ | PROT_WRITE, given) == 0 && pkey_free(given) == 0, "pkey_mprotect");
	} else {
		check(mprotect(readable, 4096, PROT_READ) == 0, "mprotect");
	}
	pthread_t thread;
	check(pthread_create(&thread, NULL, other, NULL) == 0, "pthread_create");
	serve(look, finish);
}
