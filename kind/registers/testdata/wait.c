// wait CALL: makes one call that waits 600 ms for nothing, as raw as can be,
// and tells "RESULT ERRNO MILLISECONDS DELAY": the last is how many more
// milliseconds it waited for a CPU (sched-stats.rst), 0 if that is not counted.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/personality.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MS 600

/* The clock the call waits by: how much of a CPU there is to be had does not matter. */
static clockid_t measured = CLOCK_MONOTONIC;

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(measured, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static long delay(void)
{
	long long run, wait = 0;
	FILE *f = fopen("/proc/thread-self/schedstat", "r");
	if (f && fscanf(f, "%lld %lld", &run, &wait) != 2)
		wait = 0;
	if (f)
		fclose(f);
	return wait / 1000000;
}

static struct timespec in(clockid_t c)
{
	struct timespec t;
	clock_gettime(c, &t);
	t.tv_nsec += MS * 1000000l;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}

static void *burn(void *p)
{
	for (;;)
		;
	return p;
}

static const struct timespec constant = {0, MS * 1000000l};

int main(int argc, char **argv)
{
	const char *m = argv[1];
	struct timespec rel = constant, rest, *abs = &rel, at;
	struct timeval tv = {0, MS * 1000};
	int p[2], sem = -1, ep = epoll_create1(0), word = 0;
	struct pollfd pf;
	struct epoll_event ev;
	struct io_event ioev;
	struct sembuf op = {0, -1, 0};
	aio_context_t aio = 0;
	sigset_t set;
	char buf[100];
	long r;
	fd_set fds;
	pthread_t t;
	(void)abs;
	(void)argc;

	if (pipe(p))
		return 1;
	pf = (struct pollfd){p[0], POLLIN, 0};
	FD_ZERO(&fds);
	FD_SET(p[0], &fds);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (strstr(m, "futex"))
		syscall(SYS_io_setup, 1, &aio);
	if (!strcmp(m, "io_getevents") || !strcmp(m, "io_pgetevents"))
		syscall(SYS_io_setup, 1, &aio);
	if (!strcmp(m, "semtimedop"))
		sem = semget(IPC_PRIVATE, 1, 0600);
	if (strstr(m, "cpu"))
		measured = CLOCK_PROCESS_CPUTIME_ID;
	printf("start\n");
	fflush(stdout);
	long delayed = delay();
	int64_t began = now();
	errno = 0;
	if (!strcmp(m, "nanosleep"))
		r = syscall(SYS_nanosleep, &rel, NULL);
	else if (!strcmp(m, "nanosleep rest"))
		r = syscall(SYS_nanosleep, &rel, &rest);
	else if (!strcmp(m, "nanosleep inline"))
		__asm__ volatile("syscall" : "=a"(r) : "a"(SYS_nanosleep), "D"(&rel), "S"(NULL) : "rcx", "r11", "memory");
	else if (!strcmp(m, "clock_nanosleep"))
		r = syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &rel, NULL);
	else if (!strcmp(m, "clock_nanosleep realtime"))
		r = syscall(SYS_clock_nanosleep, CLOCK_REALTIME, 0, &rel, NULL);
	else if (!strcmp(m, "clock_nanosleep abs"))
		at = in(CLOCK_MONOTONIC), r = syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
	else if (!strcmp(m, "clock_nanosleep cpu rest"))
		pthread_create(&t, NULL, burn, NULL), r = syscall(SYS_clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, 0, &rel, &rest);
	else if (!strcmp(m, "clock_nanosleep cpu"))
		pthread_create(&t, NULL, burn, NULL), r = syscall(SYS_clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, 0, &rel, NULL);
	else if (!strcmp(m, "poll"))
		r = syscall(SYS_poll, &pf, 1, MS);
	else if (!strcmp(m, "poll nothing"))
		r = syscall(SYS_poll, NULL, 0, MS);
	else if (!strcmp(m, "ppoll"))
		r = syscall(SYS_ppoll, &pf, 1, &rel, NULL, 8);
	else if (!strcmp(m, "select"))
		r = syscall(SYS_select, p[0] + 1, &fds, NULL, NULL, &tv);
	else if (!strcmp(m, "pselect6"))
		r = syscall(SYS_pselect6, p[0] + 1, &fds, NULL, NULL, &rel, NULL);
	else if (!strcmp(m, "epoll_wait"))
		r = syscall(SYS_epoll_wait, ep, &ev, 1, MS);
	else if (!strcmp(m, "epoll_pwait"))
		r = syscall(SYS_epoll_pwait, ep, &ev, 1, MS, &set, 8);
	else if (!strcmp(m, "epoll_pwait2"))
		r = syscall(SYS_epoll_pwait2, ep, &ev, 1, &constant, NULL, 8);
	else if (!strcmp(m, "rt_sigtimedwait"))
		r = syscall(SYS_rt_sigtimedwait, &set, NULL, &constant, 8);
	else if (!strcmp(m, "semtimedop"))
		r = syscall(SYS_semtimedop, sem, &op, 1, &constant);
	else if (!strcmp(m, "io_getevents"))
		r = syscall(SYS_io_getevents, aio, 1, 1, &ioev, &constant);
	else if (!strcmp(m, "io_pgetevents"))
		r = syscall(SYS_io_pgetevents, aio, 1, 1, &ioev, &constant, NULL);
	else if (!strcmp(m, "futex"))
		r = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &constant, NULL, 0);
	else if (!strcmp(m, "futex private"))
		r = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &constant, NULL, 0);
	else if (!strcmp(m, "futex bitset"))
		at = in(CLOCK_MONOTONIC), r = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, &at, NULL, -1);
	else if (!strcmp(m, "mq_timedreceive")) {
		struct mq_attr a = {.mq_maxmsg = 1, .mq_msgsize = 100};
		mqd_t q = mq_open("/ckpt-registers-test", O_RDWR | O_CREAT, 0600, &a);
		mq_unlink("/ckpt-registers-test");
		at = in(CLOCK_REALTIME), r = syscall(SYS_mq_timedreceive, q, buf, 100, NULL, &at);
	} else if (!strcmp(m, "recv")) {
		int s[2];
		socketpair(AF_UNIX, SOCK_STREAM, 0, s);
		setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
		r = syscall(SYS_recvfrom, s[0], buf, 1, 0, NULL, NULL);
	} else
		return 2;
	if (r < -1)
		errno = -r, r = -1;
	long took = now() - began;
	const char *error = errno ? strerrorname_np(errno) : "0";
	printf("%ld %s %ld %ld\n", r, error, took, delay() - delayed);
	fflush(stdout);
	if (sem >= 0)
		semctl(sem, 0, IPC_RMID);
	for (;;)
		pause(); /* a stop may come late, and shall find it */
}
