/* Steps of a C program, told on standard output (Go: ckpt/e2e/step). */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static inline int64_t now(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* The name of the test: what it leaves below /dev/shm as NAME.* goes with it. */
static inline const char *test_name(void)
{
	const char *dir = getenv("CKPT_E2E");
	return dir && strrchr(dir, '/') ? strrchr(dir, '/') + 1 : "ckpt-e2e-alone";
}

/* Writes one line at one stroke. */
static inline void say(const char *format, ...)
{
	char line[1024];
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	if (write(1, line, n) != n)
		_exit(71);
}

#define fail(format, ...)                                                      \
	do {                                                                   \
		say("error: pid %d, line %d: " format ": %s\n", getpid(),      \
		    __LINE__, ##__VA_ARGS__, strerror(errno));                 \
		_exit(70);                                                     \
	} while (0)

#define check(ok, format, ...)                                                 \
	do {                                                                   \
		if (!(ok))                                                     \
			fail(format, ##__VA_ARGS__);                           \
	} while (0)

/* The next step of who; *n counts them. */
static inline void told(const char *who, int *n, int count, const char *ids)
{
	++*n;
	int64_t mono = now(CLOCK_MONOTONIC), real = now(CLOCK_REALTIME);
	say("{\"who\":\"%s\",\"n\":%d,\"mono\":%lld,\"real\":%lld,"
	    "\"ids\":\"pid %d ppid %d pgid %d sid %d %s\",\"count\":%d}\n",
	    who, *n, (long long)mono, (long long)real, getpid(), getppid(),
	    getpgrp(), getsid(0), ids, count);
}
