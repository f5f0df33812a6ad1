/* hugepages [shared]: private memory of hugetlbfs (MAP_HUGETLB), reserved and not; or what
 * is shared, which cannot be saved. */
#include "state.h"

#define HUGE (2UL << 20)

static unsigned char *reserved, *unreserved, *readable;

static void fill(unsigned char *p, int with)
{
	for (size_t i = 0; i < HUGE; i += 512)
		p[i] = with + i / 4096;
}

static void contents_of(const char *name, unsigned char *p, int with)
{
	size_t bad = 0;
	for (size_t i = 0; i < HUGE; i++)
		bad += p[i] != (i % 512 ? 0 : (unsigned char)(with + i / 4096));
	expect(bad == 0, "%s: %zu bytes are others", name, bad);
}

/* What smaps tells of the mapping at p. */
static void mapping(const char *name, void *p)
{
	char at[32], is[64], *smaps = contents("/proc/self/smaps");
	sprintf(at, "%lx-", (unsigned long)p);
	char *from = strstr(smaps, at);
	if (!from) {
		fact(name, "not at the beginning of a mapping");
		return;
	}
	fact(name, "%.*s", (int)strcspn(from, " "), from);
	for (const char *const *k = (const char *const[]){ "Size:", "KernelPageSize:", "Private_Hugetlb:", "VmFlags:", NULL }; *k; k++) {
		char *line = strstr(from, *k);
		snprintf(is, sizeof(is), "%s: %s", name, *k);
		fact(is, "%.*s", line ? (int)strcspn(line, "\n") : 0, line);
	}
}

static void look(void)
{
	mapping("reserved", reserved);
	mapping("unreserved", unreserved);
	mapping("readable", readable);
	contents_of("reserved, first", reserved, 1);
	contents_of("reserved, third", reserved + 2 * HUGE, 2);
	contents_of("unreserved, second", unreserved + HUGE, 3);
	contents_of("readable", readable, 4);
}

static void finish(void)
{
	fill(reserved + HUGE, 7); /* it was kept for this */
	contents_of("reserved, second", reserved + HUGE, 7);
	check(munmap(reserved, HUGE) == 0, "munmap");
}

static unsigned char *map(size_t pages, int flags) /* MAP_PRIVATE or MAP_SHARED, and more */
{
	unsigned char *p = mmap(NULL, pages * HUGE, PROT_READ | PROT_WRITE,
		MAP_ANONYMOUS | MAP_HUGETLB | 21 << MAP_HUGE_SHIFT | flags, -1, 0);
	check(p != MAP_FAILED, "mmap");
	return p;
}

int main(int argc, char **argv)
{
	begin();
	if (argc > 1) {
		map(1, MAP_SHARED | MAP_NORESERVE);
		say("ready\n");
		for (;;)
			pause();
	}
	reserved = map(3, MAP_PRIVATE), unreserved = map(4, MAP_PRIVATE | MAP_NORESERVE), readable = map(1, MAP_PRIVATE);
	fill(reserved, 1), fill(reserved + 2 * HUGE, 2), fill(unreserved + HUGE, 3), fill(readable, 4);
	check(mprotect(readable, HUGE, PROT_READ) == 0, "mprotect");
	serve(look, finish);
}
