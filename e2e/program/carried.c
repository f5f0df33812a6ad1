/*
 * carried: what CRIU carries, too, in the plain form that most programs have
 * it. Threads and children are part of it: another one must see the same.
 *
 * carried DIR [connected|local|alone]: DIR is a directory to work in; connected:
 * also a TCP connection, both ends of which it has; alone: that, and no children;
 * local: no TCP and no UDP, which criu 4.1 cannot save since Linux 6.17
 * (SO_PASSCRED is of unix sockets alone).
 */
#include "state.h"
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#define P 4096
#define LARGE (512 * P) /* ckpt writes such memory once for both who have it */

/* What the children and the thread do at every look. */
static struct {
	volatile int ask, answer[3];
	volatile int child_sum;
} *sh;

static void *mapped(size_t n, int flags, int fd)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, flags, fd, 0);
	check(p != MAP_FAILED, "mmap");
	return p;
}
static int sum(const char *p, size_t n)
{
	int s = 0;
	for (size_t i = 0; i < n; i++)
		s = s * 31 + p[i];
	return s;
}
static char *fill(char *p, size_t n, int seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = seed + i / P * 7 + i % 251;
	return p;
}

/* --- memory --- */
static char *private, *hole, *file_private, *file_shared, *anon_shared, *memfd_mapped, *segment;
static int memfd, private_sum;

static void make_memory(void)
{
	private = fill(mapped(LARGE, MAP_PRIVATE | MAP_ANONYMOUS, -1), LARGE, 1);
	hole = mapped(64 * P, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	hole[9 * P] = 9;
	mprotect(hole + 20 * P, 4 * P, PROT_NONE);
	int fd = open("mapped", O_RDWR | O_CREAT | O_TRUNC, 0600);
	static char buf[4 * P];
	check(fd >= 0 && write(fd, fill(buf, sizeof(buf), 2), sizeof(buf)) == sizeof(buf), "write");
	file_private = mapped(4 * P, MAP_PRIVATE, fd);
	file_private[P] = 'p';
	file_shared = mapped(4 * P, MAP_SHARED, fd);
	close(fd);
	anon_shared = fill(mapped(6 * P, MAP_SHARED | MAP_ANONYMOUS, -1), 6 * P, 3);
	memfd = memfd_create("carried", 0);
	check(memfd >= 0 && ftruncate(memfd, 3 * P) == 0, "memfd_create");
	memfd_mapped = fill(mapped(3 * P, MAP_SHARED, memfd), 3 * P, 4);
	int id = shmget(IPC_PRIVATE, 2 * P, 0600 | IPC_CREAT);
	segment = shmat(id, NULL, 0);
	check(segment != (void *)-1, "shmat");
	fill(segment, 2 * P, 5);
	fact("segment", "%d", id);
}
static void look_memory(void)
{
	fact("private", "%d %d", sum(private, LARGE), sum(hole, 20 * P));
	fact("file", "%d %d", sum(file_private, 4 * P), sum(file_shared, 4 * P));
	fact("shared", "%d %d %d", sum(anon_shared, 6 * P), sum(memfd_mapped, 3 * P), sum(segment, 2 * P));
	static char buf[3 * P];
	expect(pread(memfd, buf, sizeof(buf), 0) == sizeof(buf) && sum(buf, sizeof(buf)) == sum(memfd_mapped, sizeof(buf)), "memfd: read");
}

/* --- System V --- */
static int sem, msg;
static void make_sysv(void)
{
	sem = semget(IPC_PRIVATE, 3, 0600 | IPC_CREAT);
	msg = msgget(IPC_PRIVATE, 0600 | IPC_CREAT);
	struct { long type; char text[12]; } m = { 7, "hello there" };
	check(sem >= 0 && msg >= 0 && semctl(sem, 1, SETVAL, 5) == 0 && msgsnd(msg, &m, 12, 0) == 0, "System V");
}
static void look_sysv(void)
{
	fact("semaphores", "%d %d %d", semctl(sem, 0, GETVAL), semctl(sem, 1, GETVAL), semctl(sem, 2, GETVAL));
	struct { long type; char text[12]; } m = { 0 };
	expect(msgrcv(msg, &m, 12, 0, IPC_NOWAIT) == 12 && m.type == 7 && strcmp(m.text, "hello there") == 0, "message");
	works(msgsnd(msg, &m, 12, 0), "msgsnd");
}

/* --- files, pipes --- */
static int file, append, deleted, dir, pipes[2], fifo;
static void make_files(void)
{
	file = open("file", O_RDWR | O_CREAT | O_TRUNC, 0640);
	check(write(file, "0123456789", 10) == 10 && lseek(file, 4, SEEK_SET) == 4, "file");
	append = open("file", O_WRONLY | O_APPEND | O_CLOEXEC);
	deleted = open("deleted", O_RDWR | O_CREAT, 0600);
	check(write(deleted, "not lost", 8) == 8 && unlink("deleted") == 0, "deleted");
	dir = open(".", O_RDONLY | O_DIRECTORY);
	mkfifo("fifo", 0600);
	fifo = open("fifo", O_RDWR | O_NONBLOCK);
	check(pipe2(pipes, O_NONBLOCK) == 0 && write(pipes[1], "in the pipe", 11) == 11 && write(fifo, "in the fifo", 11) == 11, "pipes");
	check(dup2(file, 50) == 50, "dup2");
}
static void look_files(void)
{
	struct { const char *name; int fd; } all[] = { { "file", file }, { "duplicate", 50 }, { "append", append }, { "pipe", pipes[0] }, { "fifo", fifo } };
	for (int i = 0; i < 5; i++)
		fact_fd(all[i].name, all[i].fd);
	char buf[16] = "";
	expect(pread(deleted, buf, 16, 0) == 8 && strcmp(buf, "not lost") == 0, "deleted: %s", buf);
	memset(buf, 0, 16);
	expect(read(pipes[0], buf, 16) == 11 && strcmp(buf, "in the pipe") == 0 && write(pipes[1], buf, 11) == 11, "pipe: %s", buf);
	memset(buf, 0, 16);
	expect(read(fifo, buf, 16) == 11 && strcmp(buf, "in the fifo") == 0 && write(fifo, buf, 11) == 11, "fifo: %s", buf);
	lseek(file, 6, SEEK_SET);
	expect(lseek(50, 0, SEEK_CUR) == 6, "one description");
	lseek(file, 4, SEEK_SET);
	expect(faccessat(dir, "fifo", F_OK, 0) == 0, "directory");
}

/* --- sockets --- */
static int pair[2], named, datagram[2], tcp, udp, tcp6, client = -1, server;
static int bound_in(int family, int type)
{
	struct sockaddr_storage a = { .ss_family = family };
	int fd = socket(family, type, 0);
	socklen_t len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	if (family == AF_INET)
		((struct sockaddr_in *)&a)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	check(fd >= 0 && bind(fd, (void *)&a, len) == 0, "bind");
	return fd;
}
static void fact_port(const char *name, int fd)
{
	struct sockaddr_in6 a = { 0 };
	socklen_t len = sizeof(a);
	works(getsockname(fd, (void *)&a, &len), "getsockname");
	fact(name, "%d", ntohs(a.sin6_port));
}
static void make_sockets(void)
{
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, datagram) == 0, "socketpair");
	check(write(pair[0], "stream", 6) == 6 && write(datagram[0], "one", 3) == 3 && write(datagram[0], "three", 5) == 5, "write");
	struct sockaddr_un a = { AF_UNIX, "socket" };
	unlink("socket");
	named = socket(AF_UNIX, SOCK_STREAM, 0);
	check(bind(named, (void *)&a, sizeof(a)) == 0 && listen(named, 3) == 0, "bind");
}
static void make_inet(void)
{
	tcp = bound_in(AF_INET, SOCK_STREAM);
	tcp6 = bound_in(AF_INET6, SOCK_STREAM);
	udp = bound_in(AF_INET, SOCK_DGRAM);
	check(listen(tcp, 5) == 0 && listen(tcp6, 5) == 0, "listen");
}
static void connect_both(void)
{
	struct sockaddr_in in;
	socklen_t len = sizeof(in);
	getsockname(tcp, (void *)&in, &len);
	client = socket(AF_INET, SOCK_STREAM, 0);
	check(connect(client, (void *)&in, sizeof(in)) == 0 && (server = accept(tcp, NULL, NULL)) >= 0, "connect");
	check(write(server, "on its way", 10) == 10, "write");
}
static void look_sockets(void)
{
	char buf[16] = "";
	expect(recv(pair[1], buf, 16, MSG_DONTWAIT) == 6 && strcmp(buf, "stream") == 0 && write(pair[0], buf, 6) == 6, "stream: %s", buf);
	memset(buf, 0, 16);
	expect(recv(datagram[1], buf, 16, MSG_DONTWAIT) == 3 && strcmp(buf, "one") == 0, "datagram: %s", buf);
	memset(buf, 0, 16);
	expect(recv(datagram[1], buf, 16, MSG_DONTWAIT) == 5 && strcmp(buf, "three") == 0, "second datagram: %s", buf);
	expect(write(datagram[0], "one", 3) == 3 && write(datagram[0], "three", 5) == 5, "datagrams");
	struct sockaddr_un a = { AF_UNIX, "socket" };
	int c = socket(AF_UNIX, SOCK_STREAM, 0), s = -1;
	expect(connect(c, (void *)&a, sizeof(a)) == 0 && (s = accept(named, NULL, NULL)) >= 0, "named");
	close(c), close(s);
}
static void look_inet(void)
{
	char buf[16] = "";
	int c, s = -1;
	fact_port("TCP", tcp), fact_port("TCP, IPv6", tcp6), fact_port("UDP", udp);
	struct sockaddr_in in;
	socklen_t len = sizeof(in);
	getsockname(tcp, (void *)&in, &len);
	c = socket(AF_INET, SOCK_STREAM, 0);
	expect(connect(c, (void *)&in, sizeof(in)) == 0 && (s = accept(tcp, NULL, NULL)) >= 0, "listening");
	close(c), close(s);
	getsockname(udp, (void *)&in, &len);
	if (client >= 0) {
		memset(buf, 0, 16);
		expect(read(client, buf, 16) == 10 && strcmp(buf, "on its way") == 0 && write(client, "there", 5) == 5, "connection: %s", buf);
		memset(buf, 0, 16);
		expect(read(server, buf, 16) == 5 && strcmp(buf, "there") == 0 && write(server, "on its way", 10) == 10, "connection, back: %s", buf);
		getsockname(udp, (void *)&in, &len);
	}
	expect(sendto(udp, "self", 4, 0, (void *)&in, sizeof(in)) == 4 && recv(udp, buf, 16, 0) == 4, "UDP");
}

/* --- timers and events --- */
static int event, ep, sfd, tfd, unread;
static timer_t posix;
static volatile int ticks;
static void tick(int sig) { ticks++; }
static void make_events(void)
{
	event = eventfd(41, EFD_NONBLOCK);
	ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e = { EPOLLIN, { .u64 = 0x1234567890 } };
	check(event >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, event, &e) == 0, "epoll_ctl");
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 4);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sfd = signalfd(-1, &set, SFD_NONBLOCK);
	check(sfd >= 0 && sigqueue(getpid(), SIGRTMIN + 4, (union sigval){ .sival_int = 77 }) == 0, "signalfd");
	tfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	struct itimerspec far = { { 0, 0 }, { 5000, 0 } };
	check(timerfd_settime(tfd, 0, &far, NULL) == 0, "timerfd");
	unread = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	struct itimerspec soon = { { 0, 5000000 }, { 0, 1 } };
	check(timerfd_settime(unread, 0, &soon, NULL) == 0, "timerfd");
	struct sigevent se = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 5 };
	signal(SIGRTMIN + 5, tick);
	signal(SIGALRM, tick);
	struct itimerspec often = { { 0, 20000000 }, { 0, 20000000 } };
	check(timer_create(CLOCK_MONOTONIC, &se, &posix) == 0 && timer_settime(posix, 0, &often, NULL) == 0, "timer_create");
	struct itimerval it = { { 0, 30000 }, { 0, 30000 } };
	check(setitimer(ITIMER_REAL, &it, NULL) == 0, "setitimer");
}
static void look_events(void)
{
	uint64_t n = 0;
	struct epoll_event e = { 0 };
	expect(epoll_wait(ep, &e, 1, 0) == 1 && e.data.u64 == 0x1234567890, "epoll");
	expect(read(event, &n, 8) == 8 && n == 41 && write(event, &n, 8) == 8, "eventfd: %d", (int)n);
	struct signalfd_siginfo si = { 0 };
	expect(read(sfd, &si, sizeof(si)) == sizeof(si) && si.ssi_int == 77, "signalfd: %d", si.ssi_int);
	sigqueue(getpid(), SIGRTMIN + 4, (union sigval){ .sival_int = 77 });
	struct itimerspec left;
	works(timerfd_gettime(tfd, &left), "timerfd");
	expect(left.it_value.tv_sec > 4900, "timerfd: %ld s are left", (long)left.it_value.tv_sec);
	for (int again = 0, t = 0; again < 3; t++) {
		if (read(unread, &n, sizeof n) == sizeof n && n > 0)
			again++;
		else if (t == 500) {
			wrong("periodic timerfd does not go on");
			break;
		}
		usleep(10000);
	}
	for (int was = ticks, t = 0; ticks < was + 5; t++) {
		if (t == 500) {
			wrong("timers do not go on");
			break;
		}
		usleep(10000);
	}
}

/* --- threads, children --- */
static __thread int own = 3;
static pid_t tid_of_thread, kid, sleeper, zombie;
static void *thread(void *arg)
{
	own = 4;
	tid_of_thread = gettid();
	for (int seen = 0;; seen++) {
		while (sh->ask == seen)
			usleep(1000);
		sh->answer[0] = own == 4 && gettid() == tid_of_thread ? sh->ask : -1;
	}
	return NULL;
}
static void child(void)
{
	setsid();
	pid_t id = getpid();
	if (fork() == 0) { /* in its session, in a group of its own */
		setpgid(0, 0);
		id = getpid();
		for (int seen = 0;; seen++) {
			while (sh->ask == seen)
				usleep(1000);
			sh->answer[2] = getpid() == id && getpgrp() == id && getsid(0) == getppid() ? sh->ask : -1;
		}
	}
	for (int seen = 0;; seen++) {
		while (sh->ask == seen)
			usleep(1000);
		int bad = getpid() != id || getsid(0) != id || sum(private, LARGE) != private_sum;
		sh->answer[1] = bad ? -1 : sh->ask;
	}
}
static void make_tasks(void)
{
	private_sum = sum(private, LARGE);
	pthread_t t;
	check(pthread_create(&t, NULL, thread, NULL) == 0, "pthread_create");
	if ((kid = fork()) == 0)
		child();
	if ((sleeper = fork()) == 0) {
		raise(SIGSTOP);
		_exit(0);
	}
	int status;
	check(waitpid(sleeper, &status, WUNTRACED) == sleeper && WIFSTOPPED(status), "a stopped child");
	if ((zombie = fork()) == 0)
		_exit(17);
	siginfo_t si;
	check(waitid(P_PID, zombie, &si, WEXITED | WNOWAIT) == 0, "a zombie");
}
static void look_tasks(void)
{
	int n = __atomic_add_fetch(&sh->ask, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < 3; i++)
		expect(comes(&sh->answer[i], n), "answer %d is %d", i, sh->answer[i]);
	fact("ids", "%d %d %d %d, thread %d", getpid(), getpgrp(), getsid(0), kid, tid_of_thread);
	siginfo_t si = { 0 };
	expect(waitid(P_PID, zombie, &si, WEXITED | WNOWAIT | WNOHANG) == 0 && si.si_pid == zombie && si.si_status == 17, "the zombie");
	memset(&si, 0, sizeof(si)); /* it ends when it runs */
	expect(waitid(P_PID, sleeper, &si, WEXITED | WNOWAIT | WNOHANG) == 0 && si.si_pid == 0, "the stopped child");
}
static void finish_tasks(void)
{
	int status = 0;
	expect(waitpid(zombie, &status, 0) == zombie && WEXITSTATUS(status) == 17, "reap the zombie");
	expect(kill(sleeper, SIGCONT) == 0 && waitpid(sleeper, &status, 0) == sleeper && WIFEXITED(status), "wake the stopped child");
}

static int local, alone;
static void look(void)
{
	look_memory();
	look_sysv();
	look_files();
	look_sockets();
	if (!local)
		look_inet();
	look_events();
	if (!alone)
		look_tasks();
}

int main(int argc, char **argv)
{
	check(argc >= 2 && chdir(argv[1]) == 0, "chdir");
	begin();
	sh = shared(sizeof(*sh));
	make_memory();
	make_sysv();
	make_files();
	make_sockets();
	local = argc > 2 && strcmp(argv[2], "local") == 0;
	if (!local)
		make_inet();
	if (argc > 2 && !local)
		connect_both();
	make_events();
	alone = argc > 2 && strcmp(argv[2], "alone") == 0;
	if (!alone)
		make_tasks(); /* after what blocks signals */
	serve(look, alone ? NULL : finish_tasks);
}
