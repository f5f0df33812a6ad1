/*
 * prober: counts, by way of each() and never of never(). prober FUNCTION PID: sets
 * a probe (uprobe) at that function of the process, which runs this program, too,
 * for as long as its own standard input is open; of each() at its return as well.
 */
#include "step.h"
#include <linux/perf_event.h>
#include <sys/syscall.h>

static volatile int n;

__attribute__((noinline, noclone)) static void each(void) { n++; }
__attribute__((noinline, noclone)) static void never(void) { n--; }

static int type(void)
{
	int t = -1;
	FILE *f = fopen("/sys/bus/event_source/devices/uprobe/type", "r");
	check(f && fscanf(f, "%d", &t) == 1, "type of uprobes");
	fclose(f);
	return t;
}

static void probe(const void *function, int at_return, pid_t pid)
{
	extern const char __ehdr_start; /* the file's beginning, from which code has its offsets */
	struct perf_event_attr a = { .type = type(), .size = sizeof(a), .config = at_return,
				     .uprobe_path = (uintptr_t)"/proc/self/exe", .probe_offset = (const char *)function - &__ehdr_start };
	check(syscall(SYS_perf_event_open, &a, pid, -1, -1, PERF_FLAG_FD_CLOEXEC) >= 0, "perf_event_open");
}

int main(int argc, char **argv)
{
	if (argc == 3) {
		int is_each = strcmp(argv[1], "each") == 0;
		probe(is_each ? each : never, is_each, atoi(argv[2]));
		say("set\n");
		while (getchar() != EOF)
			;
		return 0;
	}
	struct timespec t = { 0, 20000000 };
	for (int step = 0;;) {
		each();
		if (n < 0)
			never();
		told("main", &step, 0, "");
		check(nanosleep(&t, NULL) == 0, "nanosleep");
	}
}
