/*
 * clock [once]: tells CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME and
 * /proc/uptime, all in ns, whenever SIGUSR1 asks; or once.
 */
#include "step.h"
#include <signal.h>

int main(int argc, char **argv)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (int n = 0, sig;; n++) {
		double uptime = 0;
		FILE *f = fopen("/proc/uptime", "r");
		check(f && fscanf(f, "%lf", &uptime) == 1, "/proc/uptime");
		fclose(f);
		say("{\"n\":%d,\"mono\":%lld,\"boot\":%lld,\"real\":%lld,\"uptime\":%lld}\n", n, (long long)now(CLOCK_MONOTONIC),
		    (long long)now(CLOCK_BOOTTIME), (long long)now(CLOCK_REALTIME), (long long)(uptime * 1e9));
		if (argc > 1)
			return 0;
		sigwait(&set, &sig);
	}
}
