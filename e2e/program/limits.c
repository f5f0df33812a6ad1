/*
 * limits: a program that may have hardly more memory than it has (setrlimit(2)):
 * no more data, a small stack, little address space, nothing locked.
 */
#include "state.h"
#include <sys/resource.h>

static char *locked;

static void look(void)
{
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		char name[32];
		struct rlimit r;
		sprintf(name, "limit %d", i);
		check(getrlimit(i, &r) == 0, "getrlimit");
		fact(name, "%lx of %lx", r.rlim_cur, r.rlim_max);
	}
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fact("more data", "%d", p == MAP_FAILED);
	fact("more address space", "%d", mmap(NULL, 8 << 20, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	fact("more of it locked", "%d", mlock(look, 4096));
	fact("locked", "%d %s", *locked, line_of("/proc/self/status", "VmLck:"));
}

static void limit(int which, unsigned long to)
{
	struct rlimit r = { to, to };
	check(setrlimit(which, &r) == 0, "setrlimit");
}

int main(void)
{
	begin();
	for (int i = 0; i < 2; i++) { /* what the facts take is there already */
		char *facts[64];
		for (int k = 0; k < 64; k++)
			check(facts[k] = malloc(200), "malloc");
		for (int k = 0; k < 64; k++)
			free(facts[k]);
	}
	locked = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(locked != MAP_FAILED && mlock(locked, 4096) == 0, "mlock");
	*locked = 1;
	unsigned long kb;
	check(sscanf(line_of("/proc/self/status", "VmSize:"), "%lu", &kb) == 1, "VmSize");
	limit(RLIMIT_AS, (kb << 10) + (2 << 20));
	limit(RLIMIT_DATA, 0);
	limit(RLIMIT_STACK, 1 << 20);
	limit(RLIMIT_MEMLOCK, 0);
	serve(look, NULL);
}
