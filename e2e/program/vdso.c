/*
 * vdso WHAT: a program that has done something to the kernel's own mappings in
 * its memory (vdso(7)): moved apart, in part unmapped, without access, sealed.
 */
#include "state.h"
#include <sys/syscall.h>

static const char *const names[] = { "[vvar]", "[vvar_vclock]", "[vdso]" };

/* What the kernel lists of one; NULL: it is not there. */
static char *find(const char *name, size_t *size)
{
	char *maps = contents("/proc/self/maps"), *at = strstr(maps, name);
	if (!at)
		return NULL;
	while (at > maps && at[-1] != '\n')
		at--;
	unsigned long from, to;
	check(sscanf(at, "%lx-%lx", &from, &to) == 2, "maps");
	*size = to - from;
	return (char *)from;
}

static void look(void)
{
	for (int i = 0; i < 3; i++) {
		char start[32];
		size_t size = 0;
		char *p = find(names[i], &size);
		sprintf(start, "%08lx-", (unsigned long)p);
		char *at = p ? strstr(contents("/proc/self/smaps"), start) : NULL, *flags = at ? strstr(at, "VmFlags:") : NULL;
		fact(names[i], "%p %zx %.*s %.*s", p, size, at ? (int)strcspn(at, "\n") : 0, at, flags ? (int)strcspn(flags, "\n") : 0, flags);
	}
}

int main(int argc, char **argv)
{
	begin();
	const char *what = argc > 1 ? argv[1] : "";
	size_t size = 0;
	char *code = find("[vdso]", &size);
	check(code, "no vDSO");
	if (strcmp(what, "moved") == 0) { /* below its data */
		check(mremap(code, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, 0x20000000L) != MAP_FAILED, "mremap");
	} else if (strcmp(what, "data") == 0) { /* only the rest of the data is left */
		check(munmap(code, size) == 0, "munmap");
		code = find("[vvar]", &size);
		check(munmap(code, size) == 0, "munmap");
	} else if (strcmp(what, "none") == 0) {
		for (int i = 0; i < 3; i++)
			if ((code = find(names[i], &size)))
				check(munmap(code, size) == 0, "munmap");
	} else if (strcmp(what, "closed") == 0) {
		check(madvise(code, size, MADV_DONTFORK) == 0 && mprotect(code, size, PROT_READ) == 0, "mprotect");
		syscall(462, code, size, 0); /* mseal(2), 6.10 */
	} else {
		fail("what?");
	}
	serve(look, NULL);
}
