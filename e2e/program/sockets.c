/*
 * sockets: unix sockets of every type, with what is on its way in them.
 */
#include "state.h"
#include "socks.h"
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static socklen_t address(struct sockaddr_un *a, const char *name)
{
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	strcpy(a->sun_path + (*name == '@'), name + (*name == '@'));
	return offsetof(struct sockaddr_un, sun_path) + strlen(name) + (*name != '@');
}
static char abstract[64]; /* its own, since the network may be the host's */
static int bound(int type, const char *name)
{
	struct sockaddr_un a;
	int fd = socket(AF_UNIX, type, 0);
	socklen_t len = address(&a, name);
	check(fd >= 0 && bind(fd, (void *)&a, len) == 0, "bind %s", name);
	return fd;
}
static int connected(int type, const char *name)
{
	struct sockaddr_un a;
	int fd = socket(AF_UNIX, type, 0);
	socklen_t len = address(&a, name);
	check(fd >= 0 && connect(fd, (void *)&a, len) == 0, "connect %s", name);
	return fd;
}
static void pair(const char *a, const char *b, int type)
{
	int p[2];
	check(socketpair(AF_UNIX, type, 0, p) == 0, "socketpair");
	keep(a, p[0]);
	keep(b, p[1]);
}
static void put(const char *name, const char *text)
{
	check(send(get(name), text, strlen(text), MSG_NOSIGNAL) == (int)strlen(text), "send through %s", name);
}
static void gets_(const char *name, const char *want)
{
	char b[256] = "";
	int r = recv(get(name), b, sizeof(b) - 1, MSG_DONTWAIT);
	expect(r == (int)strlen(want) && memcmp(b, want, r) == 0, "%s: got \"%s\" (%d, %s), not \"%s\"", name, b, r, r < 0 ? strerror(errno) : "", want);
}

/* Descriptors and credentials in a message. */
static void put_message(const char *name, const char *text, int *fds, int nfds, int creds)
{
	char c[256] = "";
	struct iovec v = { (void *)text, strlen(text) };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof(c) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	size_t len = 0;
	if (nfds) {
		h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(h), fds, nfds * sizeof(int));
		len += CMSG_SPACE(nfds * sizeof(int));
		h = CMSG_NXTHDR(&m, h);
	}
	if (creds) {
		struct ucred u = { getpid(), getuid(), getgid() };
		h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_CREDENTIALS, h->cmsg_len = CMSG_LEN(sizeof(u));
		memcpy(CMSG_DATA(h), &u, sizeof(u));
		len += CMSG_SPACE(sizeof(u));
	}
	m.msg_controllen = len;
	check(sendmsg(get(name), &m, 0) == (int)strlen(text), "sendmsg");
}
static int get_message(const char *name, const char *want, int *fds, struct ucred *u)
{
	char c[256], b[64] = "";
	struct iovec v = { b, sizeof(b) - 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof(c) };
	int r = recvmsg(get(name), &m, MSG_DONTWAIT), got = 0;
	expect(r == (int)strlen(want) && memcmp(b, want, r) == 0, "%s: got \"%s\" (%d), not \"%s\"", name, b, r, want);
	for (struct cmsghdr *h = r < 0 ? NULL : CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
		if (h->cmsg_type == SCM_RIGHTS) {
			got = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(fds, CMSG_DATA(h), got * sizeof(int));
		}
		if (h->cmsg_type == SCM_CREDENTIALS)
			memcpy(u, CMSG_DATA(h), sizeof(*u));
	}
	return got;
}

static pid_t child;
static struct {
	volatile int got;
} *sh;
static int rights[2];

/* The longest name there is: no NUL ends it. */
static const struct sockaddr_un *full(void)
{
	static struct sockaddr_un a = { .sun_family = AF_UNIX };
	memset(a.sun_path, 'f', sizeof(a.sun_path));
	return &a;
}

static void make(void)
{
	pair("stream", "stream, peer", SOCK_STREAM);
	put("stream", "to the peer");
	put("stream, peer", "from the peer, ");
	put("stream, peer", "twice");
	pair("packets", "packets, peer", SOCK_SEQPACKET);
	put("packets", "one"), put("packets", "three"), put("packets", "x");
	pair("datagrams", "datagrams, peer", SOCK_DGRAM | SOCK_NONBLOCK);
	check(send(get("datagrams"), "", 0, 0) == 0, "an empty datagram");
	put("datagrams", "first"), put("datagrams", "second");
	pair("half shut", "half shut, peer", SOCK_STREAM);
	put("half shut", "the last");
	shutdown(get("half shut"), SHUT_WR);
	pair("deaf", "deaf, peer", SOCK_STREAM | SOCK_CLOEXEC);
	shutdown(get("deaf"), SHUT_RD);
	pair("alone", "gone", SOCK_STREAM);
	put("gone", "farewell");
	close(socks[--n].fd);

	keep("listening", bound(SOCK_STREAM, "listening"));
	listen(get("listening"), 7);
	keep("client", connected(SOCK_STREAM, "listening"));
	keep("accepted", accept(get("listening"), NULL, NULL));
	put("client", "hello");
	put("accepted", "welcome");
	keep("client 2", connected(SOCK_STREAM, "listening"));
	keep("client 3", connected(SOCK_STREAM, "listening"));
	sprintf(abstract, "@ckpt-state-%d-%lld", getpid(), (long long)now(CLOCK_REALTIME));
	keep("abstract", bound(SOCK_SEQPACKET, abstract));
	listen(get("abstract"), 1);
	keep("abstract client", connected(SOCK_SEQPACKET, abstract));
	/* Only root can find out where a name without a file was. */
	static char unlinked[108] = "unlinked";
	if (getuid() != 0)
		check(strlen(strcat(getcwd(unlinked, 90), "/unlinked")) > 9, "getcwd");
	keep("unlinked", bound(SOCK_STREAM, unlinked));
	listen(get("unlinked"), 1);
	keep("unlinked client", connected(SOCK_STREAM, unlinked));
	unlink("unlinked");
	keep("mailbox", bound(SOCK_DGRAM, "mailbox"));
	keep("sender", bound(SOCK_DGRAM, "sender"));
	struct sockaddr_un a;
	socklen_t len = address(&a, "mailbox");
	check(sendto(get("sender"), "to whom it may concern", 22, 0, (void *)&a, len) == 22, "sendto");
	keep("connected sender", connected(SOCK_DGRAM, "mailbox"));
	put("connected sender", "anonymous");
	keep("full", socket(AF_UNIX, SOCK_DGRAM, 0));
	check(bind(get("full"), (void *)full(), sizeof(*full())) == 0, "bind a full name");
	keep("bare", socket(AF_UNIX, SOCK_STREAM, 0));
	keep("bound only", bound(SOCK_STREAM, "bound"));
	chmod("bound", 0601);

	int one = 1, size = 50000;
	struct timeval t = { 12, 340000 };
	setsockopt(get("bare"), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(get("bare"), SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	setsockopt(get("bare"), SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	pair("passing", "passing, peer", SOCK_STREAM);
	/* Only root can send credentials again. */
	int root = getuid() == 0;
	if (root)
		setsockopt(get("passing, peer"), SOL_SOCKET, SO_PASSCRED, &one, sizeof(one));
	check(pipe(rights) == 0 && write(rights[1], "in the pipe", 11) == 11, "pipe");
	int fds[3] = { rights[0], open("/dev/null", O_RDONLY), get("stream, peer") };
	put("passing", "before");
	put_message("passing", "two of them", fds, 2, root);
	put_message("passing", "a socket", fds + 2, 1, 0);
	close(rights[0]); /* is nowhere but in the message */
	close(fds[1]);
	pair("with a child", "the child's", SOCK_STREAM);
	sh = shared(sizeof(*sh));
	if ((child = fork()) == 0) {
		char b[16];
		int fd = get("the child's");
		close(get("with a child"));
		for (int r; (r = recv(fd, b, sizeof(b), 0)) > 0; sh->got += r)
			send(fd, b, r, 0);
		_exit(7);
	}
	close(get("the child's"));
	n--;
}

static void number(const char *name, const char *what, int fd, int option)
{
	char is[64];
	unsigned char v[64] = { 0 };
	socklen_t len = sizeof(v);
	int r = getsockopt(fd, SOL_SOCKET, option, v, &len);
	snprintf(is, sizeof(is), "%s: %s", name, what);
	if (r < 0)
		fact(is, "%s", strerror(errno));
	else
		fact_bytes(is, v, len);
}

static void look_sock(struct sock *s)
{
	static const struct { const char *name; int option; } options[] = { { "type", SO_TYPE }, { "accepts", SO_ACCEPTCONN },
		{ "sndbuf", SO_SNDBUF }, { "rcvbuf", SO_RCVBUF }, { "peer", SO_PEERCRED }, { "passcred", SO_PASSCRED }, { "error", SO_ERROR },
		{ "rcvtimeo", SO_RCVTIMEO }, { "sndtimeo", SO_SNDTIMEO }, { "passsec", SO_PASSSEC }, { "priority", SO_PRIORITY }, { "lowat", SO_RCVLOWAT } };
	fact_fd(s->name, s->fd);
	for (unsigned i = 0; i < sizeof(options) / sizeof(*options); i++)
		number(s->name, options[i].name, s->fd, options[i].option);
	for (int peer = 0; peer < 2; peer++) {
		struct sockaddr_un a;
		socklen_t len = sizeof(a);
		char name[64];
		int r = peer ? getpeername(s->fd, (void *)&a, &len) : getsockname(s->fd, (void *)&a, &len);
		snprintf(name, sizeof(name), "%s: %s", s->name, peer ? "peer's name" : "name");
		if (r < 0)
			fact(name, "%s", strerror(errno));
		else
			fact_bytes(name, &a, len < sizeof(a) ? len : sizeof(a)); /* a full one counts its NUL */
	}
	char name[64];
	int left = -1;
	struct pollfd p = { s->fd, POLLIN | POLLPRI | POLLRDHUP };
	poll(&p, 1, 0);
	ioctl(s->fd, FIONREAD, &left);
	snprintf(name, sizeof(name), "%s: waiting", s->name);
	fact(name, "%d bytes, poll %x", left, p.revents);
}

static void look(void)
{
	for (int i = 0; i < n; i++)
		look_sock(&socks[i]);
	int had = sh->got;
	char b[8];
	works(send(get("with a child"), "ping", 4, MSG_NOSIGNAL), "send to the child");
	expect(comes(&sh->got, had + 4) && recv(get("with a child"), b, 8, 0) == 4, "the child does not answer");
	struct stat st = { 0 };
	works(stat("listening", &st), "listening: its name");
	fact("listening: its file", "%o %d:%d", st.st_mode, st.st_uid, st.st_gid);
	works(stat("bound", &st), "bound: its name");
	fact("bound: its file", "%o", st.st_mode);
	expect(access("unlinked", F_OK) == -1, "unlinked: has its name back");
}

static void finish(void)
{
	char b[64] = "";
	gets_("stream, peer", "to the peer");
	gets_("stream", "from the peer, twice");
	gets_("packets, peer", "one"), gets_("packets, peer", "three"), gets_("packets, peer", "x");
	gets_("datagrams, peer", ""), gets_("datagrams, peer", "first"), gets_("datagrams, peer", "second");
	gets_("half shut, peer", "the last"), gets_("half shut, peer", "");
	put("half shut, peer", "still"), gets_("half shut", "still");
	expect(send(get("half shut"), "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "half shut: can send");
	gets_("deaf", "");
	gets_("alone", "farewell"), gets_("alone", "");
	expect(send(get("alone"), "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "alone: can send");
	gets_("accepted", "hello"), gets_("client", "welcome");
	int fd = keep("late", accept(get("listening"), NULL, NULL));
	put("client 2", "is somebody there?"), gets_("late", "is somebody there?");
	put("late", "yes"), gets_("client 2", "yes");
	struct ucred u = { 0 };
	socklen_t len = sizeof(u);
	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &len);
	expect(u.pid == getpid(), "accepted late: peer is pid %d", u.pid);
	keep("later", accept(get("listening"), NULL, NULL));
	put("later", "too"), gets_("client 3", "too");
	keep("new client", connected(SOCK_STREAM, "listening"));
	keep("abstract, late", accept(get("abstract"), NULL, NULL));
	put("abstract client", "a packet"), gets_("abstract, late", "a packet");
	close(connected(SOCK_SEQPACKET, abstract));
	keep("unlinked, late", accept(get("unlinked"), NULL, NULL));
	put("unlinked client", "x"), gets_("unlinked, late", "x");
	struct sockaddr_un a;
	len = sizeof(a);
	int r = recvfrom(get("mailbox"), b, sizeof(b), MSG_DONTWAIT, (void *)&a, &len);
	expect(r == 22 && memcmp(b, "to whom", 7) == 0 && len > 2 && strcmp(a.sun_path, "sender") == 0, "mailbox: %d bytes from %s", r, len > 2 ? a.sun_path : "");
	len = sizeof(a);
	r = recvfrom(get("mailbox"), b, sizeof(b), MSG_DONTWAIT, (void *)&a, &len);
	expect(r == 9 && len == 0, "mailbox: %d bytes from a name of %d", r, len);
	put("connected sender", "more"), gets_("mailbox", "more");
	check(sendto(get("sender"), "all of it", 9, 0, (void *)full(), sizeof(*full())) == 9, "send to a full name");
	gets_("full", "all of it");
	int fds[8];
	r = recv(get("passing, peer"), b, 6, MSG_DONTWAIT); /* takes no descriptors */
	expect(r == 6 && memcmp(b, "before", 6) == 0, "passing: %d bytes before the descriptors", r);
	r = get_message("passing, peer", "two of them", fds, &u);
	expect(r == 2 && read(fds[0], b, sizeof(b)) == 11 && memcmp(b, "in the pipe", 11) == 0, "passing: %d descriptors", r);
	works(write(rights[1], "again", 5), "write");
	expect(read(fds[0], b, sizeof(b)) == 5 && read(fds[1], b, 1) == 0, "passing: not the same pipe");
	expect(getuid() != 0 || (u.pid == getpid() && u.uid == 0), "passing: credentials pid %d uid %d", u.pid, u.uid);
	r = get_message("passing, peer", "a socket", fds, &u);
	expect(r == 1, "passing: %d sockets", r);
	put("stream", "once more");
	keep("passed", fds[0]);
	gets_("passed", "once more");
	close(get("with a child"));
	int status = 0;
	waitpid(child, &status, 0);
	expect(WEXITSTATUS(status) == 7, "the child: status %x", status);
}

int main(void)
{
	begin();
	check(mkdir("sockets", 0755) == 0 && chdir("sockets") == 0, "mkdir");
	make();
	serve(look, finish);
}
