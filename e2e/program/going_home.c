/*
 * going_home: looks as if the handler of a signal will return into code that
 * a killed ckpt has left in its vDSO, until SIGUSR1 comes; and counts.
 */
#include "step.h"
#include <signal.h>
#include <sys/mman.h>

/* As tracee/site.go has it. */
#define MARK "ckptcode"
#define ROOM 1024

static void *volatile *saved;

static void back(int sig)
{
	*saved = NULL;
}

int main(void)
{
	void *volatile on_stack;
	char *vdso = NULL, *end = NULL, line[256];
	FILE *maps = fopen("/proc/self/maps", "r");
	while (maps && !vdso && fgets(line, sizeof(line), maps))
		if (strstr(line, "[vdso]"))
			sscanf(line, "%p-%p", (void **)&vdso, (void **)&end);
	check(vdso, "find the vDSO");
	fclose(maps);
	size_t len = end - vdso;
	check(mprotect(vdso, len, PROT_READ | PROT_WRITE | PROT_EXEC) == 0, "mprotect");
	memcpy(end - ROOM, MARK, 8);
	check(mprotect(vdso, len, PROT_READ | PROT_EXEC) == 0, "mprotect");
	saved = &on_stack;
	on_stack = end - ROOM + 64;
	signal(SIGUSR1, back);
	struct timespec t = { 0, 20000000 };
	for (int n = 0;;) {
		told("main", &n, 0, "");
		nanosleep(&t, NULL); /* SIGUSR1 ends it early */
	}
}
