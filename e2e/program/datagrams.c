/*
 * datagrams: UDP sockets in which datagrams wait: their contents, senders and
 * order, and what comes with them; also in those that share a port.
 */
#include "state.h"
#include "socks.h"
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

static struct sockaddr_in6 address_of(const char *name)
{
	struct sockaddr_in6 a = { 0 };
	socklen_t len = sizeof(a);
	check(getsockname(get(name), (void *)&a, &len) == 0, "getsockname");
	return a;
}
static int bound(const char *name, int family, struct sockaddr_in6 *at)
{
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_port = at ? at->sin6_port : 0, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd = socket(family, SOCK_DGRAM, 0), one = 1;
	check(fd >= 0 && (!at || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) == 0), "SO_REUSEPORT");
	check(bind(fd, family == AF_INET ? (void *)&a4 : (void *)&a6, family == AF_INET ? sizeof(a4) : sizeof(a6)) == 0, "bind %s", name);
	return keep(name, fd);
}
static void put(const char *from, const char *to, const char *text, int size)
{
	struct sockaddr_in6 a = address_of(to);
	check(sendto(get(from), text, size, 0, (void *)&a, sizeof(a)) == size, "send from %s to %s", from, to);
}
static void gets_(const char *name, const char *from, const char *want, int size)
{
	static char b[1 << 16];
	char c[256];
	struct sockaddr_in6 a = { 0 }, f = address_of(from);
	struct iovec v = { b, sizeof(b) };
	struct msghdr m = { &a, sizeof(a), &v, 1, c, sizeof(c), 0 };
	int r = recvmsg(get(name), &m, MSG_DONTWAIT), ttl = 0;
	expect(r == size && memcmp(b, want, size) == 0, "%s: got %d bytes \"%.20s\", not \"%.20s\"", name, r, r > 0 ? b : "", want);
	expect(a.sin6_port == f.sin6_port && a.sin6_family == f.sin6_family && memcmp(&a, &f, m.msg_namelen) == 0, "%s: it is of another sender than %s", name, from);
	for (struct cmsghdr *h = r < 0 ? NULL : CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h))
		if (h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_TTL)
			memcpy(&ttl, CMSG_DATA(h), sizeof(ttl));
	expect(strcmp(name, "server") != 0 || ttl == 33, "%s: IP_TTL is %d", name, ttl);
}

static char big[9000];

static void fill(void)
{
	put("client", "server", "", 0); /* first, where it can be seen twice */
	put("client", "server", "question", 9);
	put("client", "server", big, sizeof(big));
	put("other client", "server", "another", 8);
	put("server", "client", "answer", 7);
	put("client, IPv6", "server, IPv6", "six", 4);
	put("alone", "alone", "to myself", 10);
	/* Which of a group gets it is the kernel's choice. */
	for (int i = 0; i < 6; i++)
		put(i & 1 ? "client" : "other client", "group 1", "to a group", 11);
}

static void empty(void)
{
	gets_("server", "client", "", 0);
	gets_("server", "client", "question", 9);
	gets_("server", "client", big, sizeof(big));
	gets_("server", "other client", "another", 8);
	gets_("client", "server", "answer", 7);
	gets_("server, IPv6", "client, IPv6", "six", 4);
	gets_("alone", "alone", "to myself", 10);
	char b[64];
	static const char *const group[] = { "group 1", "group 2", "group 3" };
	int got = 0;
	for (int i = 0; i < 3; i++)
		while (recv(get(group[i]), b, sizeof(b), MSG_DONTWAIT) > 0)
			got++;
	expect(got == 6, "the group got %d datagrams", got);
	for (int i = 0; i < n - 1; i++) /* all but the peeked one */
		expect(recv(socks[i].fd, b, sizeof(b), MSG_DONTWAIT) == -1 && errno == EAGAIN, "%s: there is more", socks[i].name);
}

/* Sockets that have sent to a port that nobody has (discard), and have not read so. */
static int unheard[2];
static void tell(void)
{
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htons(9), .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	for (int i = 0; i < 2; i++) {
		unheard[i] = socket(i ? AF_INET6 : AF_INET, SOCK_DGRAM, 0);
		check(connect(unheard[i], i ? (void *)&a6 : (void *)&a4, i ? sizeof(a6) : sizeof(a4)) == 0 && send(unheard[i], "x", 1, 0) == 1, "send to nobody");
	}
}
static void hear(void)
{
	for (int i = 0; i < 2; i++) {
		int error = 0;
		socklen_t len = sizeof(error);
		works(getsockopt(unheard[i], SOL_SOCKET, SO_ERROR, &error, &len), "SO_ERROR");
		expect(error == ECONNREFUSED, "sent to nobody: the error is %d", error);
	}
}

static void look(void)
{
	for (int i = 0; i < 2; i++) {
		struct pollfd p = { unheard[i], POLLIN | POLLOUT, 0 };
		works(poll(&p, 1, 0), "poll");
		fact(i ? "sent to nobody, IPv6" : "sent to nobody", "%x", p.revents);
	}
	for (int i = 0; i < n; i++) {
		char name[64];
		int off = 0;
		struct sockaddr_in6 a = address_of(socks[i].name);
		socklen_t len = sizeof(off);
		fact_fd(socks[i].name, socks[i].fd);
		snprintf(name, sizeof(name), "%s: address", socks[i].name);
		fact_bytes(name, &a, sizeof(a));
		works(getsockopt(socks[i].fd, SOL_SOCKET, SO_PEEK_OFF, &off, &len), "SO_PEEK_OFF");
		snprintf(name, sizeof(name), "%s: SO_PEEK_OFF", socks[i].name);
		fact(name, "%d", off);
	}
	empty();
	fill();
}

static void finish(void)
{
	char b[64] = "";
	empty();
	expect(recv(get("peeked"), b, sizeof(b), MSG_PEEK) == 10 && strcmp(b, "ver taken") == 0, "peeked: \"%s\"", b);
	gets_("peeked", "client", "never taken", 12);
	gets_("peeked", "client", "but at last", 12);
	hear();
}

int main(void)
{
	begin();
	for (unsigned i = 0; i < sizeof(big); i++)
		big[i] = i * 7 + i / 251;
	int one = 1, ttl = 33, off = 2;
	tell();
	bound("server", AF_INET, NULL);
	check(setsockopt(get("server"), IPPROTO_IP, IP_RECVTTL, &one, sizeof(one)) == 0, "IP_RECVTTL");
	bound("client", AF_INET, NULL);
	bound("other client", AF_INET, NULL);
	check(setsockopt(get("client"), IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl)) == 0 && setsockopt(get("other client"), IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl)) == 0, "IP_TTL");
	bound("server, IPv6", AF_INET6, NULL);
	bound("client, IPv6", AF_INET6, NULL);
	bound("alone", AF_INET, NULL);
	struct sockaddr_in6 group = { 0 };
	bound("group 1", AF_INET, &group);
	group = address_of("group 1");
	bound("group 2", AF_INET, &group);
	bound("group 3", AF_INET, &group);
	bound("peeked", AF_INET, NULL);
	put("client", "peeked", "never taken", 12);
	put("client", "peeked", "but at last", 12);
	check(setsockopt(get("peeked"), SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)) == 0, "SO_PEEK_OFF");
	fill();
	serve(look, finish);
}
