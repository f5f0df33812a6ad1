/*
 * edges WHAT: holds what refers to a process in a way that cannot be carried,
 * or to a process outside, and goes on all the same.
 */
#include "../state.h"
#include "other.h"
#include <linux/if_packet.h>
#include <linux/sched.h>
#include <mqueue.h>
#include <sys/fanotify.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

static struct other *it;
static void act(struct other *o, int order) { o->word[0]++; }

static void traced(void)
{
	check(ptrace(PTRACE_SEIZE, it->pid, NULL, NULL) == 0, "PTRACE_SEIZE");
}

/* Its child has neither ended nor run a program, and will not. */
static void in_vfork(void)
{
	if (fork() == 0 && vfork() == 0)
		for (;;)
			pause();
}

static void fanotify(void)
{
	int fd = fanotify_init(FAN_CLASS_NOTIF, O_RDONLY);
	check(fd >= 0 && fanotify_mark(fd, FAN_MARK_ADD, FAN_OPEN | FAN_ONDIR, AT_FDCWD, ".") == 0, "fanotify");
	check(open(".", O_RDONLY) >= 0, "open"); /* an event, with the pid of who made it */
}

/* Its fanout group is numbered by the pid, and spread by a program. */
static void packet(void)
{
	int group = (getpid() & 0xffff) | PACKET_FANOUT_CBPF << 16, fd = socket(AF_PACKET, SOCK_RAW, 0);
	struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_ifindex = 1, .sll_protocol = 0x0300 };
	check(fd >= 0 && bind(fd, (void *)&a, sizeof(a)) == 0, "packet socket");
	check(setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &group, sizeof(group)) == 0, "PACKET_FANOUT");
}

/* Somebody outside gives it a descriptor of his. */
static void given(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "edge" };
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	char b, c[64];
	struct iovec v = { &b, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof(c) };
	check(connect(s, (void *)&a, sizeof(a)) == 0 && recvmsg(s, &m, 0) == 1 && CMSG_FIRSTHDR(&m), "descriptor");
	close(s);
}

static void dead(void)
{
	char path[64];
	pid_t pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	sprintf(path, "/proc/%d/fd/0", pid); /* of its own */
	check(open(path, O_PATH | O_NOFOLLOW) >= 0, "open %s", path);
	kill(pid, SIGKILL);
	ended(pid, SIGKILL);
}

static void credentials(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	check(getcwd(a.sun_path, 80), "getcwd");
	strcat(a.sun_path, "/gone");
	int to = socket(AF_UNIX, SOCK_DGRAM, 0), from = socket(AF_UNIX, SOCK_DGRAM, 0), one = 1;
	check(bind(to, (void *)&a, sizeof(a)) == 0 && setsockopt(to, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) == 0 &&
	      sendto(from, "x", 1, 0, (void *)&a, sizeof(a)) == 1 && unlink(a.sun_path) == 0, "credentials");
}

/* A socket's maker has ended, and another process has its number. */
static void reused(void)
{
	int p[2], status = -1;
	pid_t pid = 300;
	struct clone_args a = { .flags = CLONE_FILES, .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1 };
	pid_t got = syscall(SYS_clone3, &a, sizeof(a));
	if (got == 0)
		_exit(socketpair(AF_UNIX, SOCK_STREAM, 0, p) != 0);
	check(got == pid && waitpid(pid, &status, 0) == pid && status == 0, "make a pair");
	a.flags = 0;
	got = syscall(SYS_clone3, &a, sizeof(a));
	if (got == 0)
		for (;;)
			pause();
	check(got == pid, "give the number to another");
}

static void notice(mode_t mode, int signal)
{
	struct mq_attr a = { .mq_maxmsg = 2, .mq_msgsize = 8 };
	struct sigevent e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = signal };
	mqd_t q = mq_open("/edge", O_CREAT | O_EXCL | O_RDONLY, mode, &a);
	check(q >= 0 && mq_notify(q, &e) == 0, "mq_notify");
}

/* The signal of a message waits already, though from somebody else. */
static void notified(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	check(sigprocmask(SIG_BLOCK, &set, NULL) == 0, "sigprocmask");
	notice(0600, SIGRTMIN);
	check(kill(getpid(), SIGRTMIN) == 0, "kill");
}

/* It may not send the message that it would learn by what it is notified. */
static void reader(void) { notice(0400, SIGRTMIN); }

static const struct { const char *name; void (*hold)(void); } edges[] = {
	{ "traced", traced }, { "vfork", in_vfork }, { "fanotify", fanotify }, { "packet", packet }, { "given", given },
	{ "dead", dead }, { "credentials", credentials }, { "reused", reused },
	{ "notified", notified }, { "reader", reader },
};

static void look(void)
{
	long had = it->word[0];
	does(it, 1);
	expect(it->word[0] == had + 1, "the other has not run once: %ld", it->word[0] - had);
}

int main(int argc, char **argv)
{
	begin();
	it = other(act);
	for (unsigned i = 0; i < sizeof(edges) / sizeof(*edges); i++)
		if (argc > 1 && strcmp(argv[1], edges[i].name) == 0)
			edges[i].hold();
	serve(look, NULL);
}
