/*
 * peercreds [messages]: who is at the other end of a unix socket (SO_PEERCRED, SO_PEERPIDFD),
 * and who has sent what waits in one (SCM_CREDENTIALS, SCM_PIDFD).
 */
#include "../state.h"
#include "../socks.h"
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
static int sends; /* messages wait: an ordinary user's container is not dumped with those */

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

static void peer_of(const char *what)
{
	struct ucred u = { 0 };
	socklen_t len = sizeof(u);
	char is[64];
	int fd = -1;
	works(getsockopt(get(what), SOL_SOCKET, SO_PEERCRED, &u, &len), "%s: SO_PEERCRED", what);
	snprintf(is, sizeof(is), "%s: SO_PEERCRED", what);
	fact(is, "pid %d uid %d gid %d", u.pid, u.uid, u.gid);
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
	}
}

static void finish(void)
{
	keep("late", accept(get("listening"), NULL, NULL));
	struct ucred u = { 0 };
	socklen_t len = sizeof(u);
	getsockopt(get("late"), SOL_SOCKET, SO_PEERCRED, &u, &len);
	expect(u.pid == client->pid, "accepted late: the peer is pid %d", u.pid);
	kill(client->pid, SIGKILL);
	ended(client->pid, SIGKILL);
}

int main(int argc, char **argv)
{
	begin();
	int p[2], one = 1;
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	strcpy(a.sun_path, "peers");
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0, "socketpair");
	keep("pair", p[0]), keep("own end", p[1]);
	keep("listening", socket(AF_UNIX, SOCK_STREAM, 0));
	check(bind(get("listening"), (void *)&a, sizeof(a)) == 0 && listen(get("listening"), 5) == 0, "listen");
	client = other(client_act);
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
	}
	serve(look, finish);
}
