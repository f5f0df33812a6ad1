/*
 * crowd: a process of tens of thousands of mappings, of which each holds
 * something else.
 */
#include "state.h"

#define P 4096UL
#define MAPPINGS 40000UL /* of 65530 that there may be (vm.max_map_count) */

static char *all;

/* What the kernel lists of them, as a number (FNV-1a). */
static uint64_t listed(int *lines)
{
	char line[512], end[32];
	uint64_t hash = 0xcbf29ce484222325;
	unsigned long from;
	FILE *f = fopen("/proc/self/maps", "r");
	check(f, "maps");
	snprintf(end, sizeof(end), "%lx", (unsigned long)all + MAPPINGS * P);
	for (*lines = 0; fgets(line, sizeof(line), f);) {
		if (sscanf(line, "%lx", &from) != 1 || from < (unsigned long)all || from >= (unsigned long)all + MAPPINGS * P)
			continue;
		++*lines;
		for (char *c = line; *c; c++)
			hash = (hash ^ (unsigned char)*c) * 0x100000001b3;
	}
	fclose(f);
	return hash;
}

static void look(void)
{
	int lines;
	uint64_t hash = listed(&lines);
	fact("mappings", "%d, %lx", lines, hash);
	unsigned long bad = 0;
	for (unsigned long i = 0; i < MAPPINGS; i++)
		bad += *(unsigned *)(all + i * P) != i;
	expect(bad == 0, "%lu mappings hold something else", bad);
}

static void finish(void)
{
	works(mprotect(all, MAPPINGS * P, PROT_READ | PROT_WRITE), "mprotect");
	int lines;
	listed(&lines);
	expect(lines == 1, "they do not become one, but %d", lines);
}

int main(void)
{
	begin();
	all = mmap(NULL, MAPPINGS * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(all != MAP_FAILED, "mmap");
	for (unsigned long i = 0; i < MAPPINGS; i++)
		*(unsigned *)(all + i * P) = i;
	for (unsigned long i = 0; i < MAPPINGS; i += 2)
		check(mprotect(all + i * P, P, PROT_READ) == 0, "mprotect");
	serve(look, finish);
}
