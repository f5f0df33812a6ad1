/* big MB: that much memory, every page of it another, checked while it counts. */
#include "step.h"

int main(int argc, char **argv)
{
	check(argc == 2, "usage: big MB");
	size_t pages = atol(argv[1]) * 256, at = 0;
	uint64_t *mem = malloc(pages * 4096);
	check(mem != NULL, "malloc");
	for (size_t i = 0; i < pages; i++)
		for (int k = 0; k < 512; k += 64)
			mem[i * 512 + k] = i * 1000003 + k;
	struct timespec t = { 0, 20000000 };
	for (int n = 0;;) {
		for (int j = 0; j < 1000; j++, at = (at + 7919) % pages)
			for (int k = 0; k < 512; k += 64)
				check(mem[at * 512 + k] == at * 1000003 + k, "page %zu changed", at);
		told("main", &n, 0, "");
		check(nanosleep(&t, NULL) == 0, "nanosleep");
	}
}
