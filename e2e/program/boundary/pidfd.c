/*
 * pidfd: descriptors of processes: of itself, of a child, of a zombie, of
 * pid 1, of threads, of who has been waited for, in an epoll set; and what they
 * are good for.
 */
#include "../state.h"
#include "other.h"
#include <linux/sched.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#define PIDFD_THREAD O_EXCL /* from Linux 6.9 on */

/* PIDFD_GET_INFO of Linux 6.13 (linux/pidfd.h), in its first version. */
struct info {
	uint64_t mask, cgroup;
	uint32_t pid, tgid, ppid, ids[8], exit;
};
#define PIDFD_GET_INFO _IOWR(0xFF, 11, struct info)
#define INFO_EXIT 8 /* 6.15 */

static struct other *child;
static pid_t zombie;
static int epoll;
static struct held {
	const char *name;
	int fd;
} held[20];
static int n;

static struct other *self;
static void on_signal(int sig) { self->word[0] = gettid(); }
static void act(struct other *o, int order)
{
	if (order == 0) {
		self = o;
		signal(SIGRTMIN, on_signal);
		o->word[1] = resting();
	}
}

static int get(const char *name)
{
	for (int i = 0; i < n; i++)
		if (strcmp(held[i].name, name) == 0)
			return held[i].fd;
	return -1;
}
static void hold(const char *name, pid_t pid, int flags)
{
	int fd = syscall(SYS_pidfd_open, pid, flags);
	if (fd < 0 && errno == EINVAL && flags & PIDFD_THREAD)
		return; /* an older kernel */
	check(fd >= 0 && n < 20, "pidfd of %s", name);
	held[n++] = (struct held){ name, fd };
}

static void look_fd(struct held *h)
{
	char is[64], path[64];
	sprintf(path, "/proc/self/fdinfo/%d", h->fd);
	snprintf(is, sizeof(is), "%s: Pid", h->name);
	fact(is, "%s", line_of(path, "Pid:"));
	snprintf(is, sizeof(is), "%s: NSpid", h->name);
	fact(is, "%s", line_of(path, "NSpid:"));
	snprintf(is, sizeof(is), "%s: flags", h->name);
	fact(is, "%x %x", fcntl(h->fd, F_GETFD), fcntl(h->fd, F_GETFL));
	struct pollfd p = { h->fd, POLLIN };
	poll(&p, 1, 0);
	snprintf(is, sizeof(is), "%s: poll", h->name);
	fact(is, "%x", p.revents);
	struct info i = { .mask = 1 };
	snprintf(is, sizeof(is), "%s: PIDFD_GET_INFO", h->name);
	if (ioctl(h->fd, PIDFD_GET_INFO, &i) == 0)
		fact(is, "pid %u of %u, parent %u", i.pid, i.tgid, i.ppid);
	else
		fact(is, "%s", strerrorname_np(errno));
	i = (struct info){ .mask = INFO_EXIT };
	snprintf(is, sizeof(is), "%s: how it ended", h->name);
	if (ioctl(h->fd, PIDFD_GET_INFO, &i) == 0)
		fact(is, "%s, status %x", i.mask & INFO_EXIT ? "told" : "not told", i.exit);
	else
		fact(is, "%s", strerrorname_np(errno));
	struct stat st = { 0 }, other = { 0 };
	fstat(h->fd, &st);
	snprintf(is, sizeof(is), "%s: of the same process", h->name);
	unsigned same = 0; /* bit by bit */
	for (int k = 0; k < n; k++)
		same |= (fstat(held[k].fd, &other) == 0 && other.st_ino == st.st_ino) << k;
	fact(is, "%x", same);
	snprintf(is, sizeof(is), "%s: may be sent signals", h->name);
	fact(is, "%s", syscall(SYS_pidfd_send_signal, h->fd, 0, NULL, 0) == 0 ? "yes" : strerrorname_np(errno));
}

static void sends(const char *name, long tid)
{
	if (get(name) < 0)
		return;
	self = child;
	child->word[0] = 0;
	works(syscall(SYS_pidfd_send_signal, get(name), SIGRTMIN, NULL, 0), "%s: pidfd_send_signal", name);
	for (int ms = 0; child->word[0] == 0 && ms < 20000; ms++)
		usleep(1000);
	expect(tid ? child->word[0] == tid : child->word[0] != 0, "%s: the signal came to thread %ld", name, child->word[0]);
}

static void look(void)
{
	for (int i = 0; i < n; i++)
		look_fd(&held[i]);
	sends("child", 0);
	sends("child's thread", child->word[1]);
	siginfo_t si = { 0 };
	works(waitid(P_PIDFD, get("zombie"), &si, WEXITED | WNOWAIT), "waitid(P_PIDFD)");
	fact("waitid(P_PIDFD)", "pid %d status %d", si.si_pid, si.si_status);
	si.si_pid = 0;
	works(waitid(P_PIDFD, get("child"), &si, WEXITED | WNOHANG), "waitid(P_PIDFD) of the living");
	expect(si.si_pid == 0, "waitid(P_PIDFD) says that the child has ended");
	int fd = syscall(SYS_pidfd_getfd, get("child"), 1, 0);
	expect(fd >= 0, "pidfd_getfd: %s", strerror(errno));
	close(fd);
	struct iovec v = { child, 1 }; /* of a page that both have there */
	long got_bytes = syscall(SYS_process_madvise, get("child"), &v, 1, MADV_COLD, 0);
	fact("process_madvise", "%s", got_bytes < 0 ? strerrorname_np(errno) : "yes");
	struct epoll_event e[4];
	int got = epoll_wait(epoll, e, 4, 0);
	expect(got == 1 && e[0].data.u64 == 2, "epoll tells of %d processes", got);
}

static void finish(void)
{
	kill(child->pid, SIGKILL);
	struct epoll_event e[4];
	int got = 0;
	for (int ms = 0; got < 2 && ms < 20000; ms++) {
		usleep(1000);
		got = epoll_wait(epoll, e, 4, 0);
	}
	expect(got == 2, "epoll does not tell of the child's end");
	siginfo_t si = { 0 };
	expect(waitid(P_PIDFD, get("child"), &si, WEXITED) == 0 && si.si_pid == child->pid && si.si_status == SIGKILL, "waitid(P_PIDFD): pid %d", si.si_pid);
	expect(waitid(P_PIDFD, get("zombie"), &si, WEXITED) == 0 && si.si_pid == zombie && si.si_status == 5, "waitid(P_PIDFD): pid %d", si.si_pid);
	expect(syscall(SYS_pidfd_send_signal, get("child"), 0, NULL, 0) == -1 && errno == ESRCH, "the child can be sent signals");
}

/* Ends with an exit code, or by a signal, and is waited for. */
static void hold_reaped(const char *name, const char *again, int code, int sig)
{
	pid_t pid = fork();
	check(pid >= 0, "fork");
	if (pid == 0) {
		if (code >= 0)
			_exit(code);
		for (;;)
			pause();
	}
	hold(name, pid, 0);
	if (again)
		hold(again, pid, O_NONBLOCK);
	if (sig)
		kill(pid, sig);
	check(waitpid(pid, NULL, 0) == pid, "waitpid");
}

static pthread_t brief;
static volatile pid_t brief_tid;
static void *ends_soon(void *until)
{
	brief_tid = gettid();
	while (!*(volatile int *)until)
		usleep(1000);
	return NULL;
}
/* A thread that is no more. */
static void hold_ended_thread(void)
{
	volatile int end = 0;
	check(pthread_create(&brief, NULL, ends_soon, (void *)&end) == 0, "thread");
	while (brief_tid == 0)
		usleep(1000);
	hold("ended thread", brief_tid, PIDFD_THREAD);
	end = 1;
	pthread_join(brief, NULL); /* a moment before it is gone */
	char path[64];
	sprintf(path, "/proc/self/fdinfo/%d", get("ended thread"));
	for (int ms = 0; get("ended thread") >= 0 && strcmp(line_of(path, "Pid:"), "-1") != 0; ms++) {
		check(ms < 20000, "the thread does not end");
		usleep(1000);
	}
}

int main(void)
{
	begin();
	child = other(act);
	pid_t mine = resting();
	if ((zombie = fork()) == 0)
		_exit(5);
	check(waitid(P_PID, zombie, &(siginfo_t){ 0 }, WEXITED | WNOWAIT) == 0, "waitid");
	hold("itself", getpid(), 0);
	hold("child", child->pid, 0);
	hold("child, not waiting", child->pid, O_NONBLOCK);
	hold("zombie", zombie, 0);
	hold("pid 1", 1, 0);
	hold("own thread", mine, PIDFD_THREAD);
	hold("own leader", getpid(), PIDFD_THREAD);
	hold("child's thread", child->word[1], PIDFD_THREAD);
	hold_reaped("reaped", "reaped, not waiting", 7, 0);
	hold_reaped("reaped too", NULL, 0, 0);
	hold_reaped("killed and reaped", NULL, -1, SIGTERM);
	hold_ended_thread();
	fcntl(get("zombie"), F_SETFD, 0);
	epoll = epoll_create1(0);
	struct epoll_event one = { EPOLLIN, { .u64 = 1 } }, two = { EPOLLIN, { .u64 = 2 } };
	check(epoll_ctl(epoll, EPOLL_CTL_ADD, get("child"), &one) == 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, get("zombie"), &two) == 0, "epoll_ctl");
	serve(look, finish);
}
