/*
 * events: more of epoll, timerfd and eventfd than queues.c has.
 */
#include "state.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

/* linux/eventpoll.h of Linux 6.9 */
struct params {
	uint32_t usecs;
	uint16_t budget;
	uint8_t prefer, pad;
};
#define SET_PARAMS _IOW(0x8a, 1, struct params)
#define GET_PARAMS _IOR(0x8a, 2, struct params)

static void add(int in, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event e = { events, { .u64 = data } };
	check(epoll_ctl(in, EPOLL_CTL_ADD, fd, &e) == 0, "epoll_ctl");
}

/* What an instance watches, in the order of numbers and data. */
static int by_line(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

static void fact_watches(const char *name, int ep)
{
	char path[64], *line[64], out[4096] = "";
	int n = 0;
	sprintf(path, "/proc/self/fdinfo/%d", ep);
	for (char *l = strtok(contents(path), "\n"); l; l = strtok(NULL, "\n"))
		if (strncmp(l, "tfd:", 4) == 0)
			*strstr(l, "pos:") = 0, line[n++] = l;
	qsort(line, n, sizeof(*line), by_line);
	for (int i = 0; i < n; i++)
		strcat(strcat(out, line[i]), "\n");
	fact(name, "%s", out);
}

/* Which watches tell of something now, as a sum of bits. */
static uint64_t tells(int ep)
{
	struct epoll_event e[64];
	uint64_t all = 0;
	int n = epoll_wait(ep, e, 64, 0);
	for (int i = 0; i < n; i++)
		all |= e[i].data.u64;
	return all;
}

static int top, middle, bottom, moved, flags, tuned, has_params, pipes[6][2], once, alone;

static void epolls(void)
{
	for (int i = 0; i < 6; i++)
		check(pipe2(pipes[i], O_NONBLOCK) == 0, "pipe");
	top = epoll_create1(0);
	middle = epoll_create1(EPOLL_CLOEXEC);
	bottom = epoll_create1(0);
	add(bottom, pipes[0][0], EPOLLIN, 1);
	add(middle, bottom, EPOLLIN | EPOLLET, 2);
	add(top, middle, EPOLLIN, 4);
	add(top, bottom, EPOLLIN, 8);

	/* Numbers that are closed, that are another file now, and the same
	 * description under several. */
	moved = epoll_create1(0);
	int d = fcntl(pipes[1][0], F_DUPFD, 500), d2 = fcntl(pipes[1][0], F_DUPFD, 510);
	add(moved, d, EPOLLIN, 1);
	add(moved, d2, EPOLLIN, 2);
	add(moved, pipes[1][0], EPOLLIN, 4);
	close(d);
	check(dup2(pipes[2][0], d2) == d2, "dup2");
	add(moved, d2, EPOLLIN, 8); /* the same number a second time */

	/* Held by a child alone. */
	int k[2];
	check(pipe2(k, O_NONBLOCK) == 0, "pipe");
	add(moved, k[0], EPOLLIN, 16);
	if (fork() == 0)
		for (;;)
			pause();
	close(k[0]);
	alone = k[1];

	flags = epoll_create1(0);
	add(flags, pipes[3][0], EPOLLIN | EPOLLEXCLUSIVE, 1);
	add(flags, pipes[4][0], EPOLLIN | EPOLLEXCLUSIVE | EPOLLET, 2);
	add(flags, pipes[5][0], EPOLLIN | EPOLLWAKEUP, 4); /* dropped without CAP_BLOCK_SUSPEND */
	once = eventfd(0, EFD_NONBLOCK);
	add(flags, once, EPOLLIN | EPOLLONESHOT | EPOLLET, 8);
	uint64_t v = 1;
	check(write(once, &v, 8) == 8 && tells(flags) == 8 && read(once, &v, 8) == 8, "EPOLLONESHOT");

	tuned = epoll_create1(0);
	struct params p = { 64, 16, 1 };
	has_params = ioctl(tuned, SET_PARAMS, &p) == 0;
}

static void rings(const char *what, int ep, int fd, uint64_t want)
{
	char b[8];
	works(write(fd, "x", 1), "%s: write", what);
	uint64_t all = tells(ep);
	expect(all == want, "%s: %lx, want %lx", what, all, want);
	int end = -1;
	for (int i = 0; i < 6; i++)
		if (pipes[i][1] == fd)
			end = pipes[i][0];
	if (end >= 0)
		expect(read(end, b, sizeof(b)) == 1, "%s: read", what);
}

static void look_epolls(void)
{
	fact_fd("middle", middle);
	fact_watches("top: watches", top);
	fact_watches("middle: watches", middle);
	fact_watches("bottom: watches", bottom);
	fact_watches("moved: watches", moved);
	fact_watches("flags: watches", flags);
	struct params p = { 0 };
	if (has_params) {
		works(ioctl(tuned, GET_PARAMS, &p), "EPIOCGPARAMS");
		fact("parameters", "%d us, %d packets, prefer %d", p.usecs, p.budget, p.prefer);
	}
	expect(tells(top) == 0 && tells(moved) == 0, "something is ready");
	works(write(pipes[0][1], "x", 1), "write");
	expect(tells(top) == 12 && tells(middle) == 2 && tells(middle) == 0 && tells(bottom) == 1, "nested");
	char b[4];
	expect(read(pipes[0][0], b, 4) == 1 && tells(top) == 0 && tells(bottom) == 0, "nested: not over");
	rings("several numbers", moved, pipes[1][1], 7);
	rings("the same number", moved, pipes[2][1], 8);
	rings("exclusive", flags, pipes[3][1], 1);
	rings("exclusive, edge", flags, pipes[4][1], 2);
	rings("wakeup", flags, pipes[5][1], 4);
	uint64_t v = 1;
	works(write(once, &v, 8), "write");
	expect(tells(flags) == 0, "EPOLLONESHOT tells again");
	works(read(once, &v, 8), "read");
}

static void finish_epolls(void)
{
	rings("held by a child", moved, alone, 16);
	struct epoll_event e = { EPOLLIN | EPOLLONESHOT, { .u64 = 8 } };
	works(epoll_ctl(flags, EPOLL_CTL_MOD, once, &e), "EPOLL_CTL_MOD");
	uint64_t v = 1;
	works(write(once, &v, 8), "write");
	expect(tells(flags) == 8 && tells(flags) == 0, "EPOLLONESHOT");
	works(epoll_ctl(moved, EPOLL_CTL_DEL, pipes[1][0], NULL), "EPOLL_CTL_DEL");
	e.events = EPOLLIN;
	expect(epoll_ctl(bottom, EPOLL_CTL_ADD, top, &e) == -1 && errno == ELOOP, "a loop: %s", strerror(errno));
}

/* Expirations that nobody has read, on each clock. */
static struct {
	clockid_t clock;
	const char *name;
	int fd;
} clocks[] = {
	{ CLOCK_MONOTONIC, "monotonic" },
	{ CLOCK_REALTIME, "realtime" },
	{ CLOCK_BOOTTIME, "boottime" },
	{ CLOCK_REALTIME_ALARM, "realtime alarm" },
	{ CLOCK_BOOTTIME_ALARM, "boottime alarm" },
};

static int set_fd, far_alarm;

static void timers(void)
{
	struct itimerspec it = { { 1000, 0 }, { 0, 1000000 } };
	for (int i = 0; i < 5; i++) {
		clocks[i].fd = timerfd_create(clocks[i].clock, TFD_NONBLOCK);
		if (i > 2 && clocks[i].fd < 0) {
			clocks[i].fd = -1; /* CAP_WAKE_ALARM, a clock that can wake */
			continue;
		}
		check(timerfd_settime(clocks[i].fd, 0, &it, NULL) == 0, "timerfd_settime: %s", clocks[i].name);
		struct pollfd p = { clocks[i].fd, POLLIN };
		check(poll(&p, 1, 10000) == 1, "%s", clocks[i].name);
	}
	it.it_value.tv_sec = now(CLOCK_REALTIME) / 1000000000 + 100000, it.it_interval.tv_sec = 0;
	set_fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	check(timerfd_settime(set_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &it, NULL) == 0, "TFD_TIMER_CANCEL_ON_SET");
	far_alarm = timerfd_create(CLOCK_BOOTTIME_ALARM, 0);
	it.it_value.tv_sec = 100000;
	if (far_alarm >= 0)
		check(timerfd_settime(far_alarm, 0, &it, NULL) == 0, "timerfd_settime");
}

static void look_timers(void)
{
	for (int i = 0; i < 5; i++) {
		if (clocks[i].fd < 0)
			continue;
		char path[64];
		fact_fd(clocks[i].name, clocks[i].fd);
		struct itimerspec it = { 0 };
		works(timerfd_gettime(clocks[i].fd, &it), "%s", clocks[i].name);
		expect(it.it_interval.tv_sec == 1000 && it.it_value.tv_sec < 1000 && it.it_value.tv_sec > 900, "%s: %ld s left", clocks[i].name, it.it_value.tv_sec);
		sprintf(path, "/proc/self/fdinfo/%d", clocks[i].fd);
		fact(clocks[i].name, "ticks %s, clock %s", strdup(line_of(path, "ticks:")), line_of(path, "clockid:"));
	}
	char path[64];
	sprintf(path, "/proc/self/fdinfo/%d", set_fd);
	fact("cancel on set", "%s", line_of(path, "settime flags:"));
	if (far_alarm >= 0) {
		struct itimerspec it = { 0 };
		works(timerfd_gettime(far_alarm, &it), "alarm");
		expect(it.it_value.tv_sec > 99000 && it.it_value.tv_sec <= 100000, "alarm: %ld s left", it.it_value.tv_sec);
	}
}

static void finish_timers(void)
{
	for (int i = 0; i < 5; i++) {
		uint64_t n = 0;
		if (clocks[i].fd < 0)
			continue;
		expect(read(clocks[i].fd, &n, 8) == 8 && n == 1, "%s: %lu expirations", clocks[i].name, n);
		expect(read(clocks[i].fd, &n, 8) == -1 && errno == EAGAIN, "%s: one more", clocks[i].name);
	}
}

static void look(void)
{
	look_epolls();
	look_timers();
}

static void finish(void)
{
	finish_epolls();
	finish_timers();
}

int main(void)
{
	begin();
	epolls();
	timers();
	serve(look, finish);
}
