/*
 * calls GROUP: every system call of a group waits in a thread of its own, some
 * for their own timeout, some for what another thread does to end them, all of
 * it at known times WAIT milliseconds after the start. When a call has
 * returned, a line on standard output tells what it gave and when:
 *
 *   {"call":"poll","ret":0,"errno":0,"late_ms":1,"event":false}
 *
 * late_ms is the time on CLOCK_MONOTONIC past the moment when it had to
 * return: for a call with "event" the moment when it was given its reason to.
 * "ready" tells that every thread is about to wait, "done" that all returned.
 */
#include "step.h"
#include <fcntl.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>

#define WAIT 3000 /* ms */
#define MS 1000000LL

static int64_t start; /* CLOCK_MONOTONIC */

static struct timespec after(clockid_t clock, int ms)
{
	int64_t t = now(clock) + ms * MS - (now(CLOCK_MONOTONIC) - start);
	return (struct timespec){ t / 1000000000, t % 1000000000 };
}

/* A call: prepare makes what it needs, wait is the call, event is what ends
 * it (NULL: its own timeout). a and b are the call's own descriptors or ids. */
struct call {
	const char *name, *group;
	void (*prepare)(struct call *);
	long (*wait)(struct call *);
	void (*event)(struct call *);
	int a, b;
	uint32_t word;
	pthread_t thread;
	pid_t tid;
	int64_t ended; /* when event ended it */
};

/* --- sleeping --- */
static const struct timespec three = { WAIT / 1000, WAIT % 1000 * MS };

static long w_nanosleep(struct call *c)
{
	struct timespec rem;
	return syscall(SYS_nanosleep, &three, &rem);
}
static long w_nanosleep_norem(struct call *c) { return syscall(SYS_nanosleep, &three, NULL); }
static long w_clock_rel(struct call *c) { return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &three, NULL); }
static long w_clock_realtime(struct call *c) { return syscall(SYS_clock_nanosleep, CLOCK_REALTIME, 0, &three, NULL); }
static long w_clock_abs(struct call *c)
{
	struct timespec t = after(CLOCK_MONOTONIC, WAIT);
	return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}
static long w_clock_boot_abs(struct call *c)
{
	struct timespec t = after(CLOCK_BOOTTIME, WAIT);
	return syscall(SYS_clock_nanosleep, CLOCK_BOOTTIME, TIMER_ABSTIME, &t, NULL);
}
static long w_clock_real_abs(struct call *c)
{
	struct timespec t = after(CLOCK_REALTIME, WAIT);
	return syscall(SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL);
}
static long w_select_sleep(struct call *c)
{
	struct timeval t = { WAIT / 1000, WAIT % 1000 * 1000 };
	return select(0, NULL, NULL, NULL, &t);
}

/* --- futex --- */
static long w_futex(struct call *c) { return syscall(SYS_futex, &c->word, FUTEX_WAIT, 0, &three, NULL, 0); }
static long w_futex_private(struct call *c) { return syscall(SYS_futex, &c->word, FUTEX_WAIT_PRIVATE, 0, &three, NULL, 0); }
static long w_futex_abs(struct call *c)
{
	struct timespec t = after(CLOCK_MONOTONIC, WAIT);
	return syscall(SYS_futex, &c->word, FUTEX_WAIT_BITSET_PRIVATE, 0, &t, NULL, FUTEX_BITSET_MATCH_ANY);
}
static long w_futex_real(struct call *c)
{
	struct timespec t = after(CLOCK_REALTIME, WAIT);
	return syscall(SYS_futex, &c->word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &t, NULL, FUTEX_BITSET_MATCH_ANY);
}
static long w_futex_event(struct call *c) { return syscall(SYS_futex, &c->word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0); }
/* Woken without a change of the word: only a thread that still waits sees it. */
static void e_futex(struct call *c) { syscall(SYS_futex, &c->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }
static void p_lock_pi(struct call *c) { check(syscall(SYS_futex, &c->word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0, "FUTEX_LOCK_PI"); }
static long w_lock_pi(struct call *c) { return syscall(SYS_futex, &c->word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0); }
static void e_lock_pi(struct call *c) { syscall(SYS_futex, &c->word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0); }

/* --- poll and its relatives; a is read, b is written --- */
static void p_pipe(struct call *c)
{
	int p[2];
	check(pipe(p) == 0, "pipe");
	c->a = p[0], c->b = p[1];
}
static void e_write(struct call *c) { check(write(c->b, "x", 1) == 1, "write"); }
static long w_poll(struct call *c)
{
	struct pollfd p = { c->a, POLLIN };
	return poll(&p, 1, WAIT);
}
static long w_poll_event(struct call *c)
{
	struct pollfd p = { c->a, POLLIN };
	return poll(&p, 1, -1);
}
static long w_ppoll(struct call *c)
{
	struct pollfd p = { c->a, POLLIN };
	struct timespec t = three;
	sigset_t none;
	sigemptyset(&none);
	return ppoll(&p, 1, &t, &none);
}
static long w_ppoll_event(struct call *c)
{
	struct pollfd p = { c->a, POLLIN };
	return ppoll(&p, 1, NULL, NULL);
}
static long do_select(struct call *c, struct timeval *t)
{
	fd_set r;
	FD_ZERO(&r);
	FD_SET(c->a, &r);
	return select(c->a + 1, &r, NULL, NULL, t);
}
static long w_select(struct call *c)
{
	struct timeval t = { WAIT / 1000, WAIT % 1000 * 1000 };
	return do_select(c, &t);
}
static long w_select_event(struct call *c) { return do_select(c, NULL); }
static long w_pselect(struct call *c)
{
	fd_set r;
	FD_ZERO(&r);
	FD_SET(c->a, &r);
	sigset_t none;
	sigemptyset(&none);
	return pselect(c->a + 1, &r, NULL, NULL, &three, &none);
}
static void p_epoll(struct call *c)
{
	p_pipe(c);
	int ep = epoll_create1(0);
	struct epoll_event e = { EPOLLIN };
	check(ep >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, c->a, &e) == 0, "epoll_ctl");
	c->a = ep;
}
static long w_epoll(struct call *c)
{
	struct epoll_event e;
	return epoll_wait(c->a, &e, 1, WAIT);
}
static long w_epoll_event(struct call *c)
{
	struct epoll_event e;
	return epoll_wait(c->a, &e, 1, -1);
}
static long w_epoll_pwait2(struct call *c)
{
	struct epoll_event e;
	return syscall(SYS_epoll_pwait2, c->a, &e, 1, &three, NULL, 0);
}

/* --- reading and writing --- */
static long w_read(struct call *c)
{
	char b[8];
	return read(c->a, b, sizeof(b));
}
static void p_full_pipe(struct call *c)
{
	static char page[65536];
	p_pipe(c);
	check(write(c->b, page, sizeof(page)) == sizeof(page), "fill a pipe");
}
static long w_write(struct call *c) { return write(c->b, "x", 1); }
static void e_drain(struct call *c)
{
	static char page[65536];
	check(read(c->a, page, sizeof(page)) > 0, "drain a pipe");
}
static void p_eventfd(struct call *c) { c->a = c->b = eventfd(0, 0); }
static void e_eventfd(struct call *c)
{
	uint64_t one = 1;
	check(write(c->a, &one, 8) == 8, "write");
}
static void p_timerfd(struct call *c) { c->a = timerfd_create(CLOCK_MONOTONIC, 0); }
static long w_timerfd(struct call *c)
{
	int64_t due = start + WAIT * MS;
	struct itimerspec t = { .it_value = { due / 1000000000, due % 1000000000 } };
	check(timerfd_settime(c->a, TFD_TIMER_ABSTIME, &t, NULL) == 0, "timerfd_settime");
	return w_read(c);
}
static void p_signalfd(struct call *c)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	c->a = signalfd(-1, &set, 0);
}
static long w_read_signal(struct call *c)
{
	struct signalfd_siginfo si;
	return read(c->a, &si, sizeof(si)) == sizeof(si) ? (int)si.ssi_signo : -1;
}
static void e_usr2(struct call *c) { kill(getpid(), SIGUSR2); }
static void p_inotify(struct call *c)
{
	c->a = inotify_init1(0);
	check(mkdir("watched", 0700) == 0, "mkdir");
	check(inotify_add_watch(c->a, "watched", IN_CREATE) > 0, "inotify_add_watch");
}
static long w_inotify(struct call *c)
{
	char b[4096];
	return read(c->a, b, sizeof(b)) > 0;
}
static void e_create(struct call *c)
{
	int fd = open("watched/made", O_CREAT | O_WRONLY, 0600);
	check(fd >= 0, "create a file");
	close(fd);
	unlink("watched/made");
}
static void p_fifo(struct call *c) { check(mkfifo("fifo", 0600) == 0, "mkfifo"); }
static long w_open_fifo(struct call *c) { return open("fifo", O_RDONLY) > 0; }
static void e_open_fifo(struct call *c) { check(open("fifo", O_WRONLY | O_NONBLOCK) > 0, "open"); }

/* --- sockets --- */
static void p_pair(struct call *c)
{
	int p[2];
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0, "socketpair");
	c->a = p[0], c->b = p[1];
}
static void p_pair_timeout(struct call *c)
{
	p_pair(c);
	struct timeval t = { WAIT / 1000, WAIT % 1000 * 1000 };
	check(setsockopt(c->a, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)) == 0, "SO_RCVTIMEO");
}
static long w_recv(struct call *c)
{
	char b[8];
	return recv(c->a, b, sizeof(b), 0);
}
static long w_recvmsg(struct call *c)
{
	char b[8];
	struct iovec v = { b, sizeof(b) };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	return recvmsg(c->a, &m, 0);
}
static void p_full_pair(struct call *c)
{
	static char block[4096];
	p_pair(c);
	while (send(c->a, block, sizeof(block), MSG_DONTWAIT) > 0)
		;
}
static long w_send(struct call *c) { return send(c->a, "x", 1, 0); }
static void e_recv_all(struct call *c)
{
	static char block[65536];
	while (recv(c->b, block, sizeof(block), MSG_DONTWAIT) > 0)
		;
}
static void p_listen_unix(struct call *c)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	strcpy(a.sun_path, "socket");
	c->a = socket(AF_UNIX, SOCK_STREAM, 0);
	c->b = socket(AF_UNIX, SOCK_STREAM, 0);
	check(bind(c->a, (void *)&a, sizeof(a)) == 0 && listen(c->a, 5) == 0, "listen");
}
static long w_accept(struct call *c) { return accept(c->a, NULL, NULL) > 0; }
static void e_connect_unix(struct call *c)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	strcpy(a.sun_path, "socket");
	check(connect(c->b, (void *)&a, sizeof(a)) == 0, "connect");
}
static void p_listen_tcp(struct call *c)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	c->a = socket(AF_INET, SOCK_STREAM, 0);
	check(bind(c->a, (void *)&a, sizeof(a)) == 0 && listen(c->a, 5) == 0, "listen");
}
static void e_connect_tcp(struct call *c)
{
	struct sockaddr_in a;
	socklen_t n = sizeof(a);
	check(getsockname(c->a, (void *)&a, &n) == 0, "getsockname");
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	check(connect(fd, (void *)&a, sizeof(a)) == 0, "connect");
}
static void p_udp(struct call *c)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(a);
	c->a = socket(AF_INET, SOCK_DGRAM, 0);
	c->b = socket(AF_INET, SOCK_DGRAM, 0);
	check(bind(c->a, (void *)&a, sizeof(a)) == 0 && getsockname(c->a, (void *)&a, &n) == 0, "bind");
	check(connect(c->b, (void *)&a, sizeof(a)) == 0, "connect");
}

/* --- SysV IPC and message queues --- */
static void p_sem(struct call *c) { check((c->a = semget(IPC_PRIVATE, 1, 0600)) >= 0, "semget"); }
static long w_semop(struct call *c)
{
	struct sembuf down = { 0, -1, 0 };
	return semop(c->a, &down, 1);
}
static void e_semop(struct call *c)
{
	struct sembuf up = { 0, 1, 0 };
	check(semop(c->a, &up, 1) == 0, "semop");
}
static long w_semtimedop(struct call *c)
{
	struct sembuf down = { 0, -1, 0 };
	return semtimedop(c->a, &down, 1, &three);
}
struct message {
	long type;
	char text[4096];
};
static void p_msg(struct call *c) { check((c->a = msgget(IPC_PRIVATE, 0600)) >= 0, "msgget"); }
static long w_msgrcv(struct call *c)
{
	struct message m;
	return msgrcv(c->a, &m, sizeof(m.text), 0, 0);
}
static void e_msgsnd(struct call *c)
{
	struct message m = { 1, "x" };
	check(msgsnd(c->a, &m, 1, 0) == 0, "msgsnd");
}
static void p_full_msg(struct call *c)
{
	struct message m = { 1 };
	p_msg(c);
	while (msgsnd(c->a, &m, sizeof(m.text), IPC_NOWAIT) == 0)
		;
}
static long w_msgsnd(struct call *c)
{
	struct message m = { 1 };
	return msgsnd(c->a, &m, sizeof(m.text), 0);
}
static void e_msgrcv(struct call *c)
{
	struct message m;
	check(msgrcv(c->a, &m, sizeof(m.text), 0, 0) >= 0, "msgrcv");
}
static void p_mq(struct call *c)
{
	struct mq_attr at = { .mq_maxmsg = 4, .mq_msgsize = 64 };
	char name[64];
	snprintf(name, sizeof(name), "/ckpt-calls-%s", c->name);
	check((c->a = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &at)) >= 0, "mq_open");
	mq_unlink(name);
}
static long w_mq(struct call *c)
{
	char b[64];
	return mq_receive(c->a, b, sizeof(b), NULL);
}
static void e_mq(struct call *c) { check(mq_send(c->a, "x", 1, 0) == 0, "mq_send"); }
static long w_mq_timed(struct call *c)
{
	char b[64];
	struct timespec t = after(CLOCK_REALTIME, WAIT);
	return mq_timedreceive(c->a, b, sizeof(b), NULL, &t);
}

/* --- locks on files --- */
static void p_flock(struct call *c)
{
	c->a = open("flock", O_CREAT | O_RDWR, 0600);
	c->b = open("flock", O_RDWR);
	check(flock(c->b, LOCK_EX) == 0, "flock");
}
static long w_flock(struct call *c) { return flock(c->a, LOCK_EX); }
static void e_flock(struct call *c) { flock(c->b, LOCK_UN); }
static void p_ofd(struct call *c)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	c->a = open("ofd", O_CREAT | O_RDWR, 0600);
	c->b = open("ofd", O_RDWR);
	check(fcntl(c->b, F_OFD_SETLK, &l) == 0, "F_OFD_SETLK");
}
static long w_ofd(struct call *c)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	return fcntl(c->a, F_OFD_SETLKW, &l);
}
static void e_ofd(struct call *c)
{
	struct flock l = { .l_type = F_UNLCK, .l_whence = SEEK_SET };
	check(fcntl(c->b, F_OFD_SETLK, &l) == 0, "F_OFD_SETLK");
}

/* --- children and signals --- */
static void p_child(struct call *c)
{
	p_pipe(c);
	c->word = fork();
	if (c->word == 0) {
		char b;
		close(c->b);
		_exit(read(c->a, &b, 1) == 1 ? 42 : 43);
	}
}
static long w_wait4(struct call *c)
{
	int status = 0;
	pid_t r = wait4(c->word, &status, 0, NULL);
	return r == (pid_t)c->word && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
static long w_waitid(struct call *c)
{
	siginfo_t si = { 0 };
	return waitid(P_PID, c->word, &si, WEXITED) == 0 && si.si_pid == (pid_t)c->word ? si.si_status : -1;
}
static sigset_t rt(int n)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + n);
	return set;
}
static long w_sigtimedwait(struct call *c)
{
	sigset_t set = rt(1);
	return sigtimedwait(&set, NULL, &three);
}
static long w_sigwait(struct call *c)
{
	sigset_t set = rt(2);
	siginfo_t si;
	return sigwaitinfo(&set, &si) - SIGRTMIN;
}
static void e_sigwait(struct call *c) { syscall(SYS_tgkill, getpid(), c->tid, SIGRTMIN + 2); }
static void nothing(int sig) {}
static void p_handler(struct call *c)
{
	struct sigaction sa = { .sa_handler = nothing };
	check(sigaction(SIGUSR1, &sa, NULL) == 0, "sigaction");
}
static long w_pause(struct call *c)
{
	return pause();
}
static long w_sigsuspend(struct call *c)
{
	sigset_t none;
	sigfillset(&none);
	sigdelset(&none, SIGUSR1);
	return sigsuspend(&none);
}
static void e_usr1(struct call *c) { syscall(SYS_tgkill, getpid(), c->tid, SIGUSR1); }

#define TIMEOUT(group, name, prepare, wait) { name, group, prepare, wait, NULL }
#define EVENT(group, name, prepare, wait, event) { name, group, prepare, wait, event }
static struct call calls[] = {
	TIMEOUT("sleep", "nanosleep", NULL, w_nanosleep),
	TIMEOUT("sleep", "nanosleep_norem", NULL, w_nanosleep_norem),
	TIMEOUT("sleep", "clock_nanosleep", NULL, w_clock_rel),
	TIMEOUT("sleep", "clock_nanosleep_realtime", NULL, w_clock_realtime),
	TIMEOUT("sleep", "clock_nanosleep_abs", NULL, w_clock_abs),
	TIMEOUT("sleep", "clock_nanosleep_boottime_abs", NULL, w_clock_boot_abs),
	TIMEOUT("sleep", "clock_nanosleep_realtime_abs", NULL, w_clock_real_abs),
	TIMEOUT("sleep", "select_nothing", NULL, w_select_sleep),
	TIMEOUT("futex", "futex", NULL, w_futex),
	TIMEOUT("futex", "futex_private", NULL, w_futex_private),
	TIMEOUT("futex", "futex_abs", NULL, w_futex_abs),
	TIMEOUT("futex", "futex_realtime", NULL, w_futex_real),
	EVENT("futex", "futex_wake", NULL, w_futex_event, e_futex),
	EVENT("futex", "futex_lock_pi", p_lock_pi, w_lock_pi, e_lock_pi),
	TIMEOUT("poll", "poll", p_pipe, w_poll),
	EVENT("poll", "poll_event", p_pipe, w_poll_event, e_write),
	TIMEOUT("poll", "ppoll", p_pipe, w_ppoll),
	EVENT("poll", "ppoll_event", p_pipe, w_ppoll_event, e_write),
	TIMEOUT("poll", "select", p_pipe, w_select),
	EVENT("poll", "select_event", p_pipe, w_select_event, e_write),
	TIMEOUT("poll", "pselect", p_pipe, w_pselect),
	TIMEOUT("poll", "epoll_wait", p_epoll, w_epoll),
	EVENT("poll", "epoll_wait_event", p_epoll, w_epoll_event, e_write),
	TIMEOUT("poll", "epoll_pwait2", p_epoll, w_epoll_pwait2),
	EVENT("file", "read_pipe", p_pipe, w_read, e_write),
	EVENT("file", "write_pipe", p_full_pipe, w_write, e_drain),
	EVENT("file", "read_eventfd", p_eventfd, w_read, e_eventfd),
	TIMEOUT("file", "read_timerfd", p_timerfd, w_timerfd),
	EVENT("file", "read_signalfd", p_signalfd, w_read_signal, e_usr2),
	EVENT("file", "read_inotify", p_inotify, w_inotify, e_create),
	EVENT("file", "open_fifo", p_fifo, w_open_fifo, e_open_fifo),
	EVENT("socket", "recv", p_pair, w_recv, e_write),
	TIMEOUT("socket", "recv_timeout", p_pair_timeout, w_recv),
	EVENT("socket", "recvmsg", p_pair, w_recvmsg, e_write),
	EVENT("socket", "send", p_full_pair, w_send, e_recv_all),
	EVENT("socket", "accept_unix", p_listen_unix, w_accept, e_connect_unix),
	EVENT("tcp", "accept_tcp", p_listen_tcp, w_accept, e_connect_tcp),
	EVENT("tcp", "recv_udp", p_udp, w_recv, e_write),
	EVENT("ipc", "semop", p_sem, w_semop, e_semop),
	TIMEOUT("ipc", "semtimedop", p_sem, w_semtimedop),
	EVENT("ipc", "msgrcv", p_msg, w_msgrcv, e_msgsnd),
	EVENT("ipc", "msgsnd", p_full_msg, w_msgsnd, e_msgrcv),
	EVENT("mqueue", "mq_receive", p_mq, w_mq, e_mq),
	TIMEOUT("mqueue", "mq_timedreceive", p_mq, w_mq_timed),
	EVENT("lock", "flock", p_flock, w_flock, e_flock),
	EVENT("lock", "ofd_lock", p_ofd, w_ofd, e_ofd),
	EVENT("wait", "wait4", p_child, w_wait4, e_write),
	EVENT("wait", "waitid", p_child, w_waitid, e_write),
	TIMEOUT("signal", "sigtimedwait", NULL, w_sigtimedwait),
	EVENT("signal", "sigwaitinfo", NULL, w_sigwait, e_sigwait),
	EVENT("signal", "pause", p_handler, w_pause, e_usr1),
	EVENT("signal", "sigsuspend", p_handler, w_sigsuspend, e_usr1),
};
#define N (sizeof(calls) / sizeof(*calls))

static pthread_barrier_t together;

static void *run(void *arg)
{
	struct call *c = arg;
	c->tid = gettid();
	pthread_barrier_wait(&together); /* every tid is known */
	pthread_barrier_wait(&together); /* start is known */
	errno = 0;
	long ret = c->wait(c);
	int err = ret < 0 ? errno : 0;
	int64_t t = now(CLOCK_MONOTONIC), due = c->event ? c->ended : start + WAIT * MS;
	say("{\"call\":\"%s\",\"ret\":%ld,\"errno\":%d,\"late_ms\":%lld,\"event\":%s}\n", c->name, ret, err,
	    c->event && c->ended == 0 ? -99999LL : (long long)(t - due) / 1000000, c->event ? "true" : "false");
	return NULL;
}

int main(int argc, char **argv)
{
	check(argc == 2, "usage: calls GROUP");
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGRTMIN + 1);
	sigaddset(&set, SIGRTMIN + 2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int n = 0;
	start = now(CLOCK_MONOTONIC);
	for (unsigned i = 0; i < N; i++)
		n += strcmp(calls[i].group, argv[1]) == 0;
	check(n > 0, "no group named %s", argv[1]);
	pthread_barrier_init(&together, NULL, n + 1);
	for (unsigned i = 0; i < N; i++) {
		struct call *c = &calls[i];
		if (strcmp(c->group, argv[1]) != 0)
			continue;
		if (c->prepare)
			c->prepare(c);
		check(pthread_create(&c->thread, NULL, run, c) == 0, "pthread_create");
	}
	pthread_barrier_wait(&together);
	start = now(CLOCK_MONOTONIC);
	pthread_barrier_wait(&together);
	say("ready\n");
	/* The events come a little after the timeouts. */
	struct timespec t = after(CLOCK_MONOTONIC, WAIT + 100);
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0)
		;
	for (unsigned i = 0; i < N; i++) {
		struct call *c = &calls[i];
		if (c->thread && c->event) {
			c->ended = now(CLOCK_MONOTONIC);
			c->event(c);
		}
	}
	for (unsigned i = 0; i < N; i++)
		if (calls[i].thread)
			pthread_join(calls[i].thread, NULL);
	say("done\n");
	for (;;)
		pause();
}
