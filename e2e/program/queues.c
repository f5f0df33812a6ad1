/*
 * queues: pipes, FIFOs and the descriptors that are made of nothing but the
 * kernel: eventfd, epoll, timerfd, signalfd, memfd, pidfd, inotify.
 */
#include "state.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

static int waiting(int fd)
{
	int n = -1;
	ioctl(fd, FIONREAD, &n);
	return n;
}
static short ready(int fd)
{
	struct pollfd p = { fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP };
	poll(&p, 1, 0);
	return p.revents;
}
static void queue(const char *name, int fd)
{
	char what[64];
	sprintf(what, "%s: queue", name);
	fact(what, "%d, poll %x, size %d", waiting(fd), ready(fd), fcntl(fd, F_GETPIPE_SZ));
	fact_fd(name, fd);
}
/* Fills with a pattern. Whether there is room for more depends on how much
 * came at once, and no one can tell that later: chunks of a page fill a pipe. */
static long fill(int fd, int most, int chunk)
{
	static char b[1 << 20];
	for (int i = 0; i < most; i++)
		b[i] = i * 7 + i / 251;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	long n = 0, r;
	while (n < most && (r = write(fd, b + n, most - n > chunk ? chunk : most - n)) > 0)
		n += r;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	return n;
}
static void drain(const char *name, int fd, long n)
{
	static char b[1 << 20];
	long at = 0, r;
	while (at < n && (r = read(fd, b + at, n - at)) > 0)
		at += r;
	expect(at == n, "%s: %ld of %ld bytes", name, at, n);
	for (int i = 0; i < at; i++)
		if (b[i] != (char)(i * 7 + i / 251)) {
			wrong("%s: byte %d of %ld differs", name, i, n);
			break;
		}
}

/* --- pipes --- */
static int plain[2], full[2], big[2], packets[2], no_writer[2], no_reader[2], with_child[2], fifo_r, fifo_w, fifo_rw;
static long in_plain, in_full, in_big, in_fifo;
static struct {
	volatile int turn, got;
} *child;

static void pipes(void)
{
	check(pipe2(plain, O_CLOEXEC) == 0 && pipe(full) == 0 && pipe2(big, O_NONBLOCK) == 0 && pipe2(packets, O_DIRECT) == 0 &&
		      pipe(no_writer) == 0 && pipe(no_reader) == 0 && pipe(with_child) == 0, "pipe");
	in_plain = fill(plain[1], 12345, 5000);
	in_full = fill(full[1], 1 << 20, 4096);
	/* Odd: there is a limit for each user. */
	fcntl(big[1], F_SETPIPE_SZ, 1 << 18);
	in_big = fill(big[1], 200000, 5000);
	check(write(packets[1], "one", 3) == 3 && write(packets[1], "three", 5) == 5 && write(packets[1], "x", 1) == 1, "packets");
	check(write(no_writer[1], "last words", 10) == 10, "write");
	close(no_writer[1]);
	close(no_reader[0]);
	check(mkfifo("fifo", 0640) == 0, "mkfifo");
	fifo_r = open("fifo", O_RDONLY | O_NONBLOCK);
	fifo_w = open("fifo", O_WRONLY);
	fifo_rw = open("fifo", O_RDWR);
	in_fifo = fill(fifo_w, 10000, 777);
	child = shared(sizeof(*child));
	if (fork() == 0) {
		char b[8];
		close(with_child[1]);
		for (;;) {
			int r = read(with_child[0], b, sizeof(b));
			if (r <= 0)
				_exit(r < 0);
			child->got += r;
		}
	}
	close(with_child[0]);
}

static void look_pipes(void)
{
	queue("pipe", plain[0]);
	queue("pipe, writer", plain[1]);
	queue("full pipe", full[1]);
	queue("big pipe", big[0]);
	queue("packets", packets[0]);
	queue("pipe without writer", no_writer[0]);
	queue("pipe without reader", no_reader[1]);
	queue("FIFO", fifo_r);
	queue("FIFO, writer", fifo_w);
	queue("FIFO, both", fifo_rw);
	char c;
	fcntl(full[1], F_SETFL, O_NONBLOCK);
	expect(write(full[1], "x", 1) == -1 && errno == EAGAIN, "full pipe: has room");
	fcntl(full[1], F_SETFL, 0);
	int had = child->got;
	works(write(with_child[1], "abc", 3), "write to the child");
	expect(comes(&child->got, had + 3), "the child got %d bytes of 3", child->got - had);
	signal(SIGPIPE, SIG_IGN);
	expect(write(no_reader[1], "x", 1) == -1 && errno == EPIPE, "pipe without reader: can be written");
	(void)c;
}

static void finish_pipes(void)
{
	char b[64];
	drain("pipe", plain[0], in_plain);
	drain("full pipe", full[0], in_full);
	drain("big pipe", big[0], in_big);
	drain("FIFO", fifo_rw, in_fifo);
	expect(read(packets[0], b, 64) == 3 && read(packets[0], b, 2) == 2 && read(packets[0], b, 64) == 1, "packets: are cut another way");
	expect(read(no_writer[0], b, 64) == 10 && read(no_writer[0], b, 64) == 0, "pipe without writer: no end");
	close(with_child[1]);
	int status;
	expect(wait(&status) > 0 && status == 0, "the child did not see the end of its pipe");
}

/* --- counters and the like --- */
static int counter, semaphore, counter_full, sfd, mem, sealed, pidfd;
static void counters(void)
{
	uint64_t most = ~0ULL - 1;
	counter = eventfd(41, EFD_NONBLOCK);
	semaphore = eventfd(3, EFD_SEMAPHORE | EFD_CLOEXEC);
	counter_full = eventfd(0, 0);
	check(write(counter_full, &most, 8) == 8, "eventfd");
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	sigaddset(&set, SIGHUP);
	sfd = signalfd(-1, &set, SFD_NONBLOCK);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 1234 });
	kill(getpid(), SIGHUP);
	mem = memfd_create("a name", MFD_CLOEXEC);
	check(write(mem, "0123456789", 10) == 10 && lseek(mem, 3, SEEK_SET) == 3, "memfd");
	sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
	check(write(sealed, "0123456789", 10) == 10 && fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK) == 0, "seals");
	pidfd = syscall(SYS_pidfd_open, getpid(), 0);
	check(pidfd >= 0, "pidfd_open");
}
static void look_counters(void)
{
	queue("eventfd", counter);
	queue("eventfd, semaphore", semaphore);
	queue("eventfd, full", counter_full);
	queue("signalfd", sfd);
	fact_fd("memfd", mem);
	fact_fd("memfd, sealed", sealed);
	fact_fd("pidfd", pidfd);
	char path[64];
	static const char *const keys[] = { "eventfd-count:", "eventfd-semaphore:", "sigmask:", "Pid:" };
	int fds[] = { counter, counter_full, semaphore, sfd, pidfd };
	for (int i = 0; i < 5; i++)
		for (int k = 0; k < 4; k++) {
			char name[64];
			sprintf(path, "/proc/self/fdinfo/%d", fds[i]);
			sprintf(name, "descriptor %d: %s", i, keys[k]);
			fact(name, "%s", line_of(path, keys[k]));
		}
	fact("seals", "%x %x", fcntl(mem, F_GET_SEALS), fcntl(sealed, F_GET_SEALS));
	expect(syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0, "pidfd: %s", strerror(errno));
}
static void finish_counters(void)
{
	uint64_t v = 0;
	expect(read(counter, &v, 8) == 8 && v == 41 && read(counter, &v, 8) == -1 && errno == EAGAIN, "eventfd: %lu", v);
	for (int i = 0; i < 3; i++)
		expect(read(semaphore, &v, 8) == 8 && v == 1, "eventfd, semaphore: %lu", v);
	expect(ready(semaphore) == POLLOUT, "eventfd, semaphore: is not empty");
	struct signalfd_siginfo si[3];
	int r = read(sfd, si, sizeof(si));
	expect(r == 2 * sizeof(*si), "signalfd: read gave %d", r);
	expect(si[0].ssi_signo == SIGHUP && si[1].ssi_signo == (uint32_t)SIGRTMIN + 1 && si[1].ssi_int == 1234 && si[1].ssi_pid == (uint32_t)getpid(),
	       "signalfd: signals %u, %u with %d", si[0].ssi_signo, si[1].ssi_signo, si[1].ssi_int);
	expect(write(sealed, "x", 1) == -1 && errno == EPERM, "memfd, sealed: can be written");
	char b[16] = "";
	expect(read(mem, b, 16) == 7 && memcmp(b, "3456789", 7) == 0, "memfd: %s", b);
}

/* --- timerfd: the moment at which it runs out never moves --- */
static struct tfd {
	const char *name;
	clockid_t clock;
	int flags;
	int64_t first, interval;
	int fd;
	int64_t due, start, ticks;
} tfds[] = {
	{ "timerfd", CLOCK_MONOTONIC, 0, 100000, 0 },
	{ "timerfd, periodic", CLOCK_BOOTTIME, 0, 50000, 333 },
	{ "timerfd, absolute", CLOCK_MONOTONIC, TFD_TIMER_ABSTIME, 200000, 0 },
	{ "timerfd, of the day", CLOCK_REALTIME, TFD_TIMER_ABSTIME, 300000, 0 },
	{ "timerfd, watching the day", CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, 300000, 0 },
	{ "timerfd, disarmed", CLOCK_MONOTONIC, 0, 0, 0 },
	{ "timerfd, often", CLOCK_MONOTONIC, 0, 7, 7 },
	{ "timerfd, run out", CLOCK_MONOTONIC, 0, 1, 0 },
};
#define TFDS (int)(sizeof(tfds) / sizeof(*tfds))
#define MSEC 1000000LL
static struct timespec ms(int64_t n) { return (struct timespec){ n / 1000, n % 1000 * MSEC }; }
static void timers(void)
{
	for (int i = 0; i < TFDS; i++) {
		struct tfd *t = &tfds[i];
		t->fd = timerfd_create(t->clock, i & 1 ? TFD_NONBLOCK : TFD_CLOEXEC);
		struct itimerspec it = { ms(t->interval), ms(t->first) };
		if (t->flags & TFD_TIMER_ABSTIME)
			it.it_value = ms(t->first + now(t->clock) / MSEC);
		t->start = now(t->clock);
		check(t->fd >= 0 && timerfd_settime(t->fd, t->flags, &it, NULL) == 0, "%s", t->name);
	}
	usleep(3000);
}
static int64_t left(struct tfd *t)
{
	struct itimerspec it;
	int64_t best = 0, window = 1LL << 62;
	for (int i = 0; i < 20 && window > MSEC / 10; i++) {
		int64_t from = now(t->clock);
		works(timerfd_gettime(t->fd, &it), "%s", t->name);
		int64_t took = now(t->clock) - from;
		if (took < window)
			window = took, best = from + took / 2 + it.it_value.tv_sec * 1000 * MSEC + it.it_value.tv_nsec;
	}
	return it.it_value.tv_sec == 0 && it.it_value.tv_nsec == 0 ? 0 : best;
}
static void look_timers(void)
{
	for (int i = 0; i < TFDS; i++) {
		struct tfd *t = &tfds[i];
		char path[64], name[64];
		fact_fd(t->name, t->fd);
		sprintf(path, "/proc/self/fdinfo/%d", t->fd);
		sprintf(name, "%s: settime", t->name);
		fact(name, "%s", line_of(path, "settime flags:"));
		int64_t is = left(t);
		if (!t->due)
			t->due = is;
		if (t->interval != 7) {
			int64_t off = is - t->due;
			if (t->interval)
				off %= t->interval * MSEC;
			expect(off > -5 * MSEC && off < 5 * MSEC, "%s: off by %lld us", t->name, (long long)off / 1000);
			sprintf(name, "%s: poll", t->name);
			fact(name, "%x", ready(t->fd));
			continue;
		}
		uint64_t n = 0;
		expect(read(t->fd, &n, 8) == 8 && n > 0, "%s: read", t->name);
		t->ticks += n;
		int64_t most = (now(t->clock) - t->start) / MSEC / 7;
		expect(t->ticks <= most && t->ticks >= most - 1, "%s: ran out %lld times of %lld", t->name, (long long)t->ticks, (long long)most);
	}
}
static void finish_timers(void)
{
	uint64_t n = 0;
	expect(read(tfds[7].fd, &n, 8) == 8 && n == 1, "timerfd, run out: %lu times", n);
	struct itimerspec it = { { 0 }, { 0, 1 } };
	works(timerfd_settime(tfds[0].fd, 0, &it, NULL), "timerfd_settime");
	expect(read(tfds[0].fd, &n, 8) == 8 && n == 1, "timerfd: does not run out");
}

/* --- epoll --- */
static int ep, inner, edge, oneshot, level[2], ep_edge[2], ep_once[2];
static void add(int in, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event e = { events, { .u64 = data } };
	check(epoll_ctl(in, EPOLL_CTL_ADD, fd, &e) == 0, "epoll_ctl");
}
static void epolls(void)
{
	check(pipe(level) == 0 && pipe(ep_edge) == 0 && pipe(ep_once) == 0, "pipe");
	ep = epoll_create1(EPOLL_CLOEXEC);
	inner = epoll_create1(0);
	edge = epoll_create1(0);
	oneshot = epoll_create1(0);
	add(ep, level[0], EPOLLIN, 0x1111111111111111);
	add(ep, plain[1], EPOLLOUT | EPOLLET, 2);
	add(inner, level[0], EPOLLIN | EPOLLRDHUP, 3);
	add(inner, dup(level[0]), EPOLLIN, 33); /* the same file under another number */
	add(ep, inner, EPOLLIN, 4);
	add(ep, tfds[2].fd, EPOLLIN, 5);
	add(ep, sfd, 0, 6);
	add(edge, ep_edge[0], EPOLLIN | EPOLLET, 7);
	add(oneshot, ep_once[0], EPOLLIN | EPOLLONESHOT, 8);
	check(write(level[1], "x", 1) == 1 && write(ep_edge[1], "x", 1) == 1 && write(ep_once[1], "x", 1) == 1, "write");
	struct epoll_event e[8];
	check(epoll_wait(edge, e, 8, 0) == 1 && epoll_wait(oneshot, e, 8, 0) == 1, "epoll_wait"); /* told once */
	check(epoll_wait(ep, e, 8, 0) == 3, "epoll_wait");
}
static void look_epolls(void)
{
	fact_fd("epoll", ep);
	fact_fd("epoll, inner", inner);
	char path[64];
	for (int i = 0; i < 4; i++) {
		int fd = (int[]){ ep, inner, edge, oneshot }[i];
		sprintf(path, "/proc/self/fdinfo/%d", fd);
		char name[64], *line = strstr(contents(path), "tfd:");
		int n = 0;
		/* without inode and device of what is watched; in any order */
		for (; line && *line == 't'; line = strchr(line, '\n') + 1, n++) {
			int tfd, events;
			unsigned long data;
			sscanf(line, "tfd: %d events: %x data: %lx", &tfd, &events, &data);
			sprintf(name, "epoll %d: watch of %d", i, tfd);
			fact(name, "%x %lx", events, data);
		}
		sprintf(name, "epoll %d: watches", i);
		fact(name, "%d", n);
	}
	struct epoll_event e[8];
	/* What was ready may be told once more, also with EPOLLET. */
	int n = epoll_wait(ep, e, 8, 0), sum = 0;
	for (int i = 0; i < n; i++)
		sum += e[i].data.u64 & 15;
	expect((n == 2 && sum == 5) || (n == 3 && sum == 7), "epoll: %d events, sum %d", n, sum);
	n = epoll_wait(ep, e, 8, 0);
	expect(n == 2, "epoll: %d events the second time", n);
	n = epoll_wait(inner, e, 8, 0);
	expect(n == 2 && e[0].data.u64 + e[1].data.u64 == 36, "epoll, inner: %d events", n);
}
static void finish_epolls(void)
{
	struct epoll_event e[8];
	int n = epoll_wait(oneshot, e, 8, 0);
	expect(n == 0, "epoll, once: tells again");
	struct epoll_event again = { EPOLLIN | EPOLLONESHOT, { .u64 = 9 } };
	works(epoll_ctl(oneshot, EPOLL_CTL_MOD, ep_once[0], &again), "epoll_ctl");
	expect(epoll_wait(oneshot, e, 8, 0) == 1 && e[0].data.u64 == 9, "epoll, once: does not tell");
	works(write(ep_edge[1], "x", 1), "write");
	epoll_wait(edge, e, 8, 0);
	works(write(ep_edge[1], "x", 1), "write");
	expect(epoll_wait(edge, e, 8, 0) == 1 && e[0].data.u64 == 7 && epoll_wait(edge, e, 8, 0) == 0, "epoll, edge: tells of nothing new");
	works(epoll_ctl(ep, EPOLL_CTL_DEL, level[0], NULL), "epoll_ctl");
}

/* --- inotify --- */
static int in, wd_dir, wd_file;
static void watches(void)
{
	check(mkdir("watched", 0755) == 0 && close(open("file", O_CREAT | O_WRONLY, 0600)) == 0, "mkdir");
	in = inotify_init1(IN_NONBLOCK);
	check(inotify_add_watch(in, "fifo", IN_ATTRIB) == 1, "inotify_add_watch");
	wd_dir = inotify_add_watch(in, "watched", IN_CREATE | IN_DELETE | IN_ONLYDIR);
	wd_file = inotify_add_watch(in, "file", IN_MODIFY | IN_DELETE_SELF);
	check(wd_dir == 2 && wd_file == 3 && inotify_rm_watch(in, 1) == 0, "inotify");
	char b[4096];
	check(read(in, b, sizeof(b)) > 0, "inotify: read"); /* IN_IGNORED */
}
static void look_watches(void)
{
	queue("inotify", in);
	char path[64], b[4096];
	sprintf(path, "/proc/self/fdinfo/%d", in);
	fact("inotify: watches", "%s", strstr(contents(path), "inotify"));
	check(close(open("watched/new", O_CREAT | O_WRONLY, 0600)) == 0 && unlink("watched/new") == 0, "create");
	int fd = open("file", O_WRONLY);
	works(write(fd, "x", 1), "write");
	close(fd);
	int n = read(in, b, sizeof(b)), at = 0;
	static const struct { int wd; uint32_t mask; const char *name; } want[] = { { 2, IN_CREATE, "new" }, { 2, IN_DELETE, "new" }, { 3, IN_MODIFY, "" } };
	for (int i = 0; i < 3; i++) {
		struct inotify_event *e = (void *)(b + at);
		expect(at < n && e->wd == want[i].wd && e->mask == want[i].mask && (!e->len || strcmp(e->name, want[i].name) == 0),
		       "inotify: event %d is %x of %d", i, at < n ? e->mask : 0, at < n ? e->wd : 0);
		at += sizeof(*e) + e->len;
	}
	expect(at == n, "inotify: %d bytes more", n - at);
}

static void look(void)
{
	look_pipes();
	look_counters();
	look_timers();
	look_epolls();
	look_watches();
}
static void finish(void)
{
	finish_epolls();
	finish_pipes();
	finish_counters();
	finish_timers();
	works(inotify_rm_watch(in, wd_file), "inotify_rm_watch");
	expect(inotify_add_watch(in, "fifo", IN_ATTRIB) > 3, "inotify: a number comes again");
}

int main(void)
{
	begin();
	check(mkdir("queues", 0755) == 0 && chdir("queues") == 0, "mkdir");
	pipes();
	counters();
	timers();
	epolls();
	watches();
	serve(look, finish);
}
