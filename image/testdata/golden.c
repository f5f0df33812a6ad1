// What the golden images of format 1 were made of (golden_test.go), as root:
//
//	gcc -static-pie -Os -pthread -o /usr/local/bin/golden golden.c
//	cd / && env -i ckpt start golden --hostname box --net none -- /usr/local/bin/golden
//	ckpt dump golden --leave-running format-1
//	ckpt kill golden -s USR1
//	ckpt dump golden --parent format-1 format-1-child
//
// (the name of the kernel was changed). An image of a released format is never made
// anew: it has to stay readable.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static char own[2 * 4096] __attribute__((aligned(4096)));
static volatile sig_atomic_t asked;

static void ask(int sig) { asked = sig; }
static void *idle(void *p)
{
	for (;;)
		pause();
	return p;
}

int main(void)
{
	int fds[2], pair[2];
	char *common = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(common, 'c', 4 * 4096);
	memset(own, 'o', sizeof own);
	char *shared = mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	strcpy(shared, "shared memory");
	if (pipe(fds) || write(fds[1], "hello", 5) != 5 || eventfd(7, 0) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || write(pair[0], "queued", 6) != 6)
		return 1;
	int tcp = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(4000), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (bind(tcp, (void *)&at, sizeof at) || listen(tcp, 5))
		return 1;
	int gone = open("/tmp/golden-deleted", O_RDWR | O_CREAT | O_EXCL, 0600);
	if (gone < 0 || write(gone, "no name", 7) != 7 || unlink("/tmp/golden-deleted"))
		return 1;
	int memfd = memfd_create("m", 0);
	if (memfd < 0 || write(memfd, "in memory", 9) != 9)
		return 1;
	int tick = timerfd_create(CLOCK_MONOTONIC, 0);
	timerfd_settime(tick, 0, &(struct itimerspec){{60, 0}, {86400, 0}}, NULL);
	setitimer(ITIMER_VIRTUAL, &(struct itimerval){{0, 0}, {86400, 0}}, NULL);
	timer_t t;
	struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
	timer_create(CLOCK_REALTIME, &e, &t);
	signal(SIGUSR1, ask);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	sigaddset(&set, SIGURG);
	sigprocmask(SIG_BLOCK, &set, NULL);
	kill(getpid(), SIGWINCH);
	if (fork() == 0) {
		setsid();
		memset(own, 'k', sizeof own);
		idle(NULL);
	}
	if (fork() == 0)
		_exit(3);
	pthread_t thread;
	pthread_create(&thread, NULL, idle, NULL);
	puts("ready");
	fflush(stdout);
	while (!asked)
		pause();
	memset(own, 'n', 4096);
	puts("changed");
	fflush(stdout);
	for (;;)
		pause();
}
