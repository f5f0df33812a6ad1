/*
 * mlockall [onfault]: what is true of memory that is yet to be mapped: it is
 * locked (mlockall(2) with MCL_FUTURE), and may be merged with memory of the
 * same contents (PR_SET_MEMORY_MERGE).
 */
#include "state.h"
#include <sys/prctl.h>

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67 /* 6.4 */
#define PR_GET_MEMORY_MERGE 68
#endif

/* The flags of the mapping at p, as the kernel shows them. */
static char *flags_of(void *p)
{
	char start[32];
	snprintf(start, sizeof(start), "%lx-", (long)p);
	char *at = strstr(contents("/proc/self/smaps"), start);
	char *flags = at ? strstr(at, "VmFlags:") : NULL;
	if (!flags)
		return "(no such mapping)";
	*strchr(flags, '\n') = 0;
	return flags;
}

static char *before;

static void look(void)
{
	void *new = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(new != MAP_FAILED, "mmap");
	fact("new mapping", "%s", flags_of(new));
	munmap(new, 4096);
	fact("mapping made before", "%s", flags_of(before));
	fact("merging", "%d", prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0));
}

int main(int argc, char **argv)
{
	begin();
	before = mmap(NULL, 4096, PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(before != MAP_FAILED, "mmap");
	prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0); /* if the kernel has it */
	check(mlockall(MCL_FUTURE | (argc > 1 ? MCL_ONFAULT : 0)) == 0, "mlockall");
	serve(look, NULL);
}
