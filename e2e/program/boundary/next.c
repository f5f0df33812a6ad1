/*
 * next: the next pid is the one after the last that was given, whoever asks:
 * in fork, in a thread's birth, and in the kernel's own words.
 */
#include "../state.h"
#include <pthread.h>
#include <sys/syscall.h>

static int last; /* that was given */

static void *thread(void *arg)
{
	*(pid_t *)arg = gettid();
	return NULL;
}

/* Somebody who has been given pids meanwhile says what the last of them was
 * in a file (boundary_test.go). */
static void others(void)
{
	int fd = open("last", O_RDONLY);
	if (fd < 0)
		return;
	char b[16] = "";
	check(read(fd, b, sizeof(b) - 1) > 0, "last");
	close(fd);
	unlink("last");
	expect(atoi(b) > last && atoi(b) <= last + 2, "another was given %d after %d", atoi(b), last);
	last = atoi(b);
}

static void next(const char *what, int got)
{
	expect(got == last + 1, "%s: %d after %d", what, got, last);
	last = got;
}

static void look(void)
{
	others();
	int n = -1;
	char *s = contents("/proc/sys/kernel/ns_last_pid");
	sscanf(s, "%d", &n);
	expect(n == last, "ns_last_pid: %d, not %d", n, last);
	s = strrchr(contents("/proc/loadavg"), ' ');
	expect(s && atoi(s) == last, "/proc/loadavg: %s, not %d", s, last);
	for (int i = 0; i < 3; i++) {
		pid_t pid = fork(), tid = 0;
		if (pid == 0)
			_exit(0);
		waitpid(pid, NULL, 0);
		next("fork", pid);
		pthread_t t;
		check(pthread_create(&t, NULL, thread, &tid) == 0 && pthread_join(t, NULL) == 0, "thread");
		next("thread", tid);
	}
}

int main(void)
{
	begin();
	if ((last = fork()) == 0)
		_exit(0);
	waitpid(last, NULL, 0);
	serve(look, NULL);
}
