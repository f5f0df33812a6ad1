/*
 * peercreds [messages [gone]]: who is at the other end of a unix socket (SO_PEERCRED, SO_PEERPIDFD,
 * SO_PEERGROUPS), and who has sent what waits in one (SCM_CREDENTIALS, SCM_PIDFD).
 */
#include "../state.h"
#include "../socks.h"
#include "groups.h"
#include "other.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#define SO_PEERPIDFD 77
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD 4
#endif

static struct other *client, *sender;
static pid_t dead; /* it has sent, and ended */
static int gone;   /* to a socket whose name is gone, too */
static int sends;  /* messages wait */

/* Which process a pidfd is of. */
static int pid_of(int fd)
{
	char path[64];
	sprintf(path, "/proc/self/fdinfo/%d", fd);
	return atoi(line_of(path, "Pid:"));
}

static void client_act(struct other *o, int order)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	strcpy(a.sun_path, "peers");
	if (order == 0) {
		in_groups(300, 4000);
		check(connect(fd, (void *)&a, sizeof(a)) == 0, "connect");
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		check(connect(fd, (void *)&a, sizeof(a)) == 0, "connect"); /* nobody accepts this one */
		return;
	}
	/* What it sees itself. */
	struct ucred u = { 0 };
	socklen_t len = sizeof(u);
	getsockopt(get("own end"), SOL_SOCKET, SO_PEERCRED, &u, &len);
	o->word[0] = u.pid;
	close(fd);
}
static void sender_act(struct other *o, int order)
{
	if (order == 0)
		check(send(get("child's end"), "from the child", 14, 0) == 14, "send");
}

/* A datagram to a socket by its name. */
static void send_to(const char *what)
{
	struct sockaddr_un a;
	socklen_t len = sizeof(a);
	check(getsockname(get(what), (void *)&a, &len) == 0, "getsockname");
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	check(sendto(fd, what, strlen(what), 0, (void *)&a, len) == (ssize_t)strlen(what), "sendto");
	close(fd);
}

#define BIG 50000
/* Sends a descriptor along, then to the two that have names, then much. */
static void dead_act(void)
{
	char c[CMSG_SPACE(sizeof(int))] = "";
	struct iovec v = { "and a descriptor", 16 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof(c) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(sizeof(int));
	int one = 1;
	memcpy(CMSG_DATA(h), &one, sizeof(one));
	check(sendmsg(get("dead's end"), &m, 0) == 16, "sendmsg");
	send_to("by path");
	send_to("abstract");
	if (gone)
		send_to("by a name that is gone");
	static char big[BIG];
	memset(big, 'b', BIG);
	check(send(get("dead's end"), big, BIG, 0) == BIG && send(get("dead's stream end"), big, BIG, 0) == BIG, "send");
}

/* All who have sent, as the messages are taken. */
static void taken(const char *what, int bytes, pid_t from)
{
	static char b[BIG];
	char c[256];
	for (int sum = 0, r; sum < bytes; sum += r) {
		struct iovec v = { b, sizeof(b) };
		struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof(c) };
		struct ucred u = { 0 };
		r = recvmsg(get(what), &m, MSG_DONTWAIT);
		if (r <= 0) {
			wrong("%s: %d bytes instead of %d: %s", what, sum, bytes, strerror(errno));
			return;
		}
		for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h))
			if (h->cmsg_type == SCM_CREDENTIALS)
				memcpy(&u, CMSG_DATA(h), sizeof(u));
		expect(u.pid == from, "%s: taken from pid %d, not %d", what, u.pid, from);
	}
}

static void named_datagrams(void)
{
	int p[2], one = 1;
	struct sockaddr_un path = { .sun_family = AF_UNIX }, any = { .sun_family = AF_UNIX };
	check(getcwd(path.sun_path, 80), "getcwd"); /* whoever sends again may be in another directory */
	strcat(path.sun_path, "/datagrams");
	keep("by path", socket(AF_UNIX, SOCK_DGRAM, 0)), keep("abstract", socket(AF_UNIX, SOCK_DGRAM, 0));
	check(bind(get("by path"), (void *)&path, sizeof(path)) == 0, "bind");
	check(bind(get("abstract"), (void *)&any, sizeof(sa_family_t)) == 0, "bind"); /* the kernel chooses the name */
	if (gone) {
		strcpy(strrchr(path.sun_path, '/'), "/gone");
		keep("by a name that is gone", socket(AF_UNIX, SOCK_DGRAM, 0));
		check(bind(socks[n - 1].fd, (void *)&path, sizeof(path)) == 0, "bind");
		check(setsockopt(socks[n - 1].fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) == 0, "SO_PASSCRED");
	}
	check(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p) == 0, "socketpair");
	keep("of the dead", p[0]), keep("dead's end", p[1]);
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0, "socketpair");
	keep("stream of the dead", p[0]), keep("dead's stream end", p[1]);
	static const char *const all[] = { "by path", "abstract", "of the dead", "stream of the dead" };
	for (int i = 0; i < 4; i++) {
		check(setsockopt(get(all[i]), SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) == 0, "SO_PASSCRED");
		setsockopt(get(all[i]), SOL_SOCKET, SO_PASSPIDFD, &one, sizeof(one));
	}
}

static void peer_of(const char *what)
{
	struct ucred u = { 0 };
	socklen_t len = sizeof(u);
	char is[64];
	int fd = -1;
	works(getsockopt(get(what), SOL_SOCKET, SO_PEERCRED, &u, &len), "%s: SO_PEERCRED", what);
	snprintf(is, sizeof(is), "%s: SO_PEERCRED", what);
	fact(is, "pid %d uid %d gid %d", u.pid, u.uid, u.gid);
	snprintf(is, sizeof(is), "%s: SO_PEERGROUPS", what);
	fact(is, "%s", peer_groups(get(what)));
	len = sizeof(fd);
	snprintf(is, sizeof(is), "%s: SO_PEERPIDFD", what);
	if (getsockopt(get(what), SOL_SOCKET, SO_PEERPIDFD, &fd, &len) == 0)
		fact(is, "pid %d", pid_of(fd)), close(fd);
	else
		fact(is, "%s", strerrorname_np(errno));
}

/* Looks at a message and leaves it. */
static void message(const char *what)
{
	char c[256], b[64] = "", is[64];
	struct iovec v = { b, sizeof(b) - 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof(c) };
	struct ucred u = { -1, -1, -1 };
	int r = recvmsg(get(what), &m, MSG_DONTWAIT | MSG_PEEK), pidfd = -1;
	for (struct cmsghdr *h = r < 0 ? NULL : CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
		if (h->cmsg_type == SCM_CREDENTIALS)
			memcpy(&u, CMSG_DATA(h), sizeof(u));
		if (h->cmsg_type == SCM_PIDFD)
			memcpy(&pidfd, CMSG_DATA(h), sizeof(pidfd));
		int fd;
		if (h->cmsg_type == SCM_RIGHTS)
			memcpy(&fd, CMSG_DATA(h), sizeof(fd)), close(fd);
	}
	snprintf(is, sizeof(is), "%s: message", what);
	fact(is, "%d bytes \"%s\" from pid %d uid %d, pidfd of %d", r, b, u.pid, u.uid, pidfd < 0 ? -1 : pid_of(pidfd));
	close(pidfd);
}

static void look(void)
{
	peer_of("pair");
	peer_of("accepted");
	peer_of("listening");
	does(client, 1);
	fact("what the client sees", "%ld", client->word[0]);
	if (sends) {
		message("passing");
		message("passing to the parent");
		message("of the dead");
		message("stream of the dead");
		message("by path");
		message("abstract");
		if (gone)
			message("by a name that is gone");
	}
}

static void finish(void)
{
	keep("late", accept(get("listening"), NULL, NULL));
	struct ucred u = { 0 };
	socklen_t len = sizeof(u);
	getsockopt(get("late"), SOL_SOCKET, SO_PEERCRED, &u, &len);
	expect(u.pid == client->pid, "accepted late: the peer is pid %d", u.pid);
	char *groups = strdup(peer_groups(get("accepted")));
	expect(strcmp(peer_groups(get("late")), groups) == 0, "accepted late: the peer is in the groups%s, not%s", peer_groups(get("late")), groups);
	if (sends) {
		taken("of the dead", 16, dead);
		taken("of the dead", BIG, dead);
		taken("stream of the dead", BIG, dead);
		taken("by path", 7, dead);
		taken("by path", 7, getpid());
		taken("abstract", 8, dead);
		if (gone)
			taken("by a name that is gone", 22, dead);
		taken("passing to the parent", 14, sender->pid);
	}
	kill(client->pid, SIGKILL);
	ended(client->pid, SIGKILL);
}

int main(int argc, char **argv)
{
	begin();
	int p[2], one = 1;
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	strcpy(a.sun_path, "peers");
	in_groups(100, 2000);
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0, "socketpair");
	keep("pair", p[0]), keep("own end", p[1]);
	keep("listening", socket(AF_UNIX, SOCK_STREAM, 0));
	check(bind(get("listening"), (void *)&a, sizeof(a)) == 0 && listen(get("listening"), 5) == 0, "listen");
	client = other(client_act);
	in_groups(5, 6); /* what was recorded stays */
	keep("accepted", accept(get("listening"), NULL, NULL));
	for (int i = 0; i < 2; i++) {
		check(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p) == 0, "socketpair");
		keep(i ? "passing to the parent" : "passing", p[0]), keep(i ? "child's end" : "sending", p[1]);
		check(setsockopt(p[0], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) == 0, "SO_PASSCRED");
		setsockopt(p[0], SOL_SOCKET, SO_PASSPIDFD, &one, sizeof(one)); /* from Linux 6.5 on */
	}
	if ((sends = argc > 1)) {
		check(send(get("sending"), "from itself", 11, 0) == 11, "send");
		sender = other(sender_act);
		gone = argc > 2;
		named_datagrams();
		if ((dead = fork()) == 0) {
			dead_act();
			_exit(0);
		}
		check(waitpid(dead, NULL, 0) == dead, "waitpid");
		if (gone)
			check(unlink("gone") == 0, "unlink");
		send_to("by path");
	}
	serve(look, finish);
}
