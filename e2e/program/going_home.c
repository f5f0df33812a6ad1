/*
 * going_home: counts, and has a child that stands in what looks like the code
 * of a killed ckpt in its vDSO, until SIGUSR1 comes; then it counts, too.
 */
#include "step.h"
#include <signal.h>
#include <sys/mman.h>

/* As tracee/site.go has it, with other code. */
static const char block[] = "ckptcode________________________"
			    "\xb8\x22\x00\x00\x00" /* mov $SYS_pause, %eax */
			    "\x0f\x05"             /* syscall */
			    "\xc3";                /* ret */
#define CODE 32
#define ROOM 1024

static pid_t child;

static void pass_on(int sig)
{
	if (child)
		kill(child, sig);
}

static void stand_there(void)
{
	char *vdso = NULL, *end = NULL, line[256];
	FILE *maps = fopen("/proc/self/maps", "r");
	while (maps && !vdso && fgets(line, sizeof(line), maps))
		if (strstr(line, "[vdso]"))
			sscanf(line, "%p-%p", (void **)&vdso, (void **)&end);
	check(vdso, "find the vDSO");
	fclose(maps);
	check(mprotect(vdso, end - vdso, PROT_READ | PROT_WRITE | PROT_EXEC) == 0, "mprotect");
	memcpy(end - ROOM, block, sizeof(block));
	check(mprotect(vdso, end - vdso, PROT_READ | PROT_EXEC) == 0, "mprotect");
	int n = 0;
	told("there", &n, 0, "");
	((void (*)(void))(end - ROOM + CODE))();
}

static void count(const char *who)
{
	struct timespec t = { 0, 20000000 };
	for (int n = 0;;) {
		told(who, &n, 0, "");
		nanosleep(&t, NULL); /* SIGUSR1 ends it early */
	}
}

int main(void)
{
	signal(SIGUSR1, pass_on);
	child = fork();
	if (child == 0) {
		stand_there();
		count("child");
	}
	count("main");
}
