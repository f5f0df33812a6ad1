/*
 * deadpeers: unix sockets whose maker has ended: reaped, a zombie, or the dead
 * leader of a group or session that goes on; what SO_PEERCRED, SO_PEERGROUPS and
 * SO_PEERPIDFD tell of him.
 */
#include "../state.h"
#include "../socks.h"
#include "groups.h"
#include "other.h"
#include <linux/sched.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* PIDFD_GET_INFO of Linux 6.13 (linux/pidfd.h), in its first version; what
 * became of a process that was waited for since 6.15. */
struct info {
	uint64_t mask, cgroup;
	uint32_t pid, tgid, ppid, ids[8], exit;
};
#define INFO_EXIT 8
#define INFO _IOWR(0xFF, 11, struct info)

static struct sockaddr_un address(const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	strcpy(a.sun_path, name);
	return a;
}

/* Gives sockets to the parent. */
static void give(int to, int *fds, int n)
{
	char c[CMSG_SPACE(4 * sizeof(int))] = "";
	struct iovec v = { "x", 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(h), fds, n * sizeof(int));
	check(sendmsg(to, &m, 0) == 1, "sendmsg");
}
static void take(int from, int *fds, int n)
{
	char b, c[CMSG_SPACE(4 * sizeof(int))];
	struct iovec v = { &b, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof(c) };
	check(recvmsg(from, &m, 0) == 1, "recvmsg");
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&m)), n * sizeof(int));
}

static struct maker {
	const char *name;
	int status; /* how it ends: exit code, or -signal */
	int zombie; /* nobody waits for it */
	int child;  /* it leaves a child in its group or session */
	pid_t pid;
	ino_t pidfd; /* inode */
	struct other *left;
} makers[] = {
	{ .name = "reaped", .status = 3 },
	{ .name = "killed", .status = -SIGKILL },
	{ .name = "zombie", .status = 5, .zombie = 1 },
	{ .name = "group", .status = 4, .child = 1 },
	{ .name = "session", .status = -SIGTERM, .child = 1 },
};
#define MAKERS (sizeof(makers) / sizeof(*makers))

static void idle(struct other *o, int order) {}

static void make(struct maker *m, int to)
{
	int p[2], fds[3];
	struct sockaddr_un own = address(m->name), parents = address("parent's");
	in_groups(100, 2000 + (m - makers));
	if (m->child)
		check(strcmp(m->name, "group") == 0 ? setpgid(0, 0) == 0 : setsid() > 0, "lead");
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0, "socketpair");
	fds[0] = p[0], fds[1] = p[1];
	check((fds[2] = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0, "socket");
	check(bind(fds[2], (void *)&own, sizeof(own)) == 0 && listen(fds[2], 5) == 0, "listen");
	give(to, fds, 3);
	check((fds[0] = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0, "socket");
	check(connect(fds[0], (void *)&parents, sizeof(parents)) == 0, "connect"); /* its end goes with it */
	if (m->child && fork() == 0)
		obeys(m->left, idle);
	if (m->child)
		check(comes(&m->left->up, 1), "start a process");
	if (m->status < 0)
		raise(-m->status), pause();
	_exit(m->status);
}

static void keep_of(struct maker *m, const char *what, int fd)
{
	char *name;
	check(asprintf(&name, "%s, %s", m->name, what) > 0, "asprintf");
	keep(name, fd);
}

static void ends_of(struct maker *m)
{
	int to[2], fds[3];
	if (m->child)
		m->left = shared(sizeof(*m->left));
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, to) == 0, "socketpair");
	check((m->pid = fork()) >= 0, "fork");
	if (m->pid == 0)
		make(m, to[1]);
	take(to[0], fds, 3);
	close(to[0]), close(to[1]);
	keep_of(m, "pair", fds[0]), keep_of(m, "other end", fds[1]);
	keep_of(m, "listening", fds[2]);
	keep_of(m, "accepted", accept(get("parent's"), NULL, NULL));
	/* This process sees the dead listener's id at its own end. */
	struct sockaddr_un a = address(m->name);
	int own = socket(AF_UNIX, SOCK_STREAM, 0);
	check(connect(own, (void *)&a, sizeof(a)) == 0, "connect");
	keep_of(m, "connected", own);
	siginfo_t si;
	check(waitid(P_PID, m->pid, &si, WEXITED | WNOWAIT) == 0, "waitid");
	if (!m->zombie)
		check(waitpid(m->pid, NULL, 0) == m->pid, "waitpid");
}

static void peer_of(struct maker *m, const char *at)
{
	struct ucred u = { 0 };
	socklen_t len = sizeof(u);
	char what[40], is[64], path[64];
	int fd = -1;
	snprintf(what, sizeof(what), "%s, %s", m->name, at);
	works(getsockopt(get(what), SOL_SOCKET, SO_PEERCRED, &u, &len), "%s: SO_PEERCRED", what);
	fact(what, "pid %d uid %d gid %d groups%s", u.pid, u.uid, u.gid, peer_groups(get(what)));
	expect(u.pid == m->pid, "%s: it is pid %d, and was made by pid %d", what, u.pid, m->pid);
	len = sizeof(fd);
	snprintf(is, sizeof(is), "%s: pidfd", what);
	if (getsockopt(get(what), SOL_SOCKET, SO_PEERPIDFD, &fd, &len) != 0) {
		fact(is, "%s", strerrorname_np(errno)); /* of one that was waited for, before Linux 6.16 */
		return;
	}
	struct info i = { .mask = INFO_EXIT };
	struct pollfd p = { fd, POLLIN };
	int r = ioctl(fd, INFO, &i), e = errno;
	poll(&p, 1, 0);
	sprintf(path, "/proc/self/fdinfo/%d", fd);
	/* PIDFD_SIGNAL_PROCESS_GROUP: a dead leader's group can be reached through it. */
	int group = syscall(SYS_pidfd_send_signal, fd, 0, NULL, 4) == 0 ? 0 : errno;
	fact(is, "Pid %s, poll %x, info %s %lx, status %x, group %s", line_of(path, "Pid:"), p.revents,
		r == 0 ? "given" : strerrorname_np(e), (long)i.mask & INFO_EXIT, i.exit, strerrorname_np(group));
	struct stat st = { 0 };
	fstat(fd, &st);
	expect(strcmp(at, "pair") == 0 || st.st_ino == m->pidfd, "%s: the pidfd is of another process than that of the pair", what);
	m->pidfd = st.st_ino;
	close(fd);
}

static void look(void)
{
	for (struct maker *m = makers; m < makers + MAKERS; m++) {
		peer_of(m, "pair");
		peer_of(m, "other end");
		peer_of(m, "accepted");
		peer_of(m, "connected");
		if (m->left)
			expect(getpgid(m->left->pid) == m->pid, "%s: the member is in group %d", m->name, getpgid(m->left->pid));
	}
}

/* Who connects now sees who listens. */
static void finish(void)
{
	for (struct maker *m = makers; m < makers + MAKERS; m++) {
		struct ucred u = { 0 };
		socklen_t len = sizeof(u);
		struct sockaddr_un a = address(m->name);
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		works(connect(fd, (void *)&a, sizeof(a)), "%s: connect", m->name);
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &len);
		expect(u.pid == m->pid, "%s: pid %d listens", m->name, u.pid);
		close(fd);
		if (m->left)
			kill(m->left->pid, SIGKILL);
	}
}

int main(void)
{
	begin();
	struct sockaddr_un a = address("parent's");
	keep("parent's", socket(AF_UNIX, SOCK_STREAM, 0));
	check(bind(get("parent's"), (void *)&a, sizeof(a)) == 0 && listen(get("parent's"), 5) == 0, "listen");
	for (struct maker *m = makers; m < makers + MAKERS; m++)
		ends_of(m);
	serve(look, finish);
}
