/*
 * netlink [own]: netlink sockets with ports, peers, groups and options. With
 * own, the network is the container's own: an address comes and goes, and is
 * told.
 */
#include "state.h"
#include "socks.h"
#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>

enum { LISTEN_ALL_NSID = 8, LIST_MEMBERSHIPS = 9, GET_STRICT_CHK = 12 };

static int own;

static int make(const char *name, int type, int protocol, int port)
{
	struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_pid = port };
	int fd = keep(name, socket(AF_NETLINK, type, protocol));
	check(port == 0 || bind(fd, (void *)&a, sizeof(a)) == 0, "bind %s to port %d", name, port);
	return fd;
}
static void join(int fd, int group)
{
	check(setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) == 0, "join group %d", group);
}
static void set(int fd, int level, int option, int value)
{
	check(setsockopt(fd, level, option, &value, sizeof(value)) == 0, "option %d", option);
}

static void look_sock(struct sock *s)
{
	static const struct { const char *name; int level, option; } options[] = { { "type", SOL_SOCKET, SO_TYPE }, { "protocol", SOL_SOCKET, SO_PROTOCOL },
		{ "sndbuf", SOL_SOCKET, SO_SNDBUF }, { "rcvbuf", SOL_SOCKET, SO_RCVBUF }, { "passcred", SOL_SOCKET, SO_PASSCRED },
		{ "pktinfo", SOL_NETLINK, NETLINK_PKTINFO }, { "ext_ack", SOL_NETLINK, NETLINK_EXT_ACK }, { "cap_ack", SOL_NETLINK, NETLINK_CAP_ACK },
		{ "no_enobufs", SOL_NETLINK, NETLINK_NO_ENOBUFS }, { "strict", SOL_NETLINK, GET_STRICT_CHK }, { "all namespaces", SOL_NETLINK, LISTEN_ALL_NSID } };
	struct sockaddr_nl a;
	socklen_t len = sizeof(a);
	char name[64];
	fact_fd(s->name, s->fd);
	for (unsigned i = 0; i < sizeof(options) / sizeof(*options); i++) {
		int v = 0;
		len = sizeof(v);
		snprintf(name, sizeof(name), "%s: %s", s->name, options[i].name);
		int r = getsockopt(s->fd, options[i].level, options[i].option, &v, &len);
		fact(name, "%d, %s", v, r < 0 ? strerror(errno) : "set");
	}
	for (int peer = 0; peer < 2; peer++) {
		len = sizeof(a);
		works(peer ? getpeername(s->fd, (void *)&a, &len) : getsockname(s->fd, (void *)&a, &len), "%s", s->name);
		snprintf(name, sizeof(name), "%s: %s", s->name, peer ? "peer" : "address");
		fact(name, "port %u, groups %x", a.nl_pid, a.nl_groups);
	}
	unsigned char groups[64] = { 0 };
	len = sizeof(groups);
	works(getsockopt(s->fd, SOL_NETLINK, LIST_MEMBERSHIPS, groups, &len), "%s: groups", s->name);
	snprintf(name, sizeof(name), "%s: groups", s->name);
	fact_bytes(name, groups, sizeof(groups));
	struct pollfd p = { s->fd, POLLIN };
	expect(poll(&p, 1, 0) == 0, "%s: something waits", s->name);
}

static int sequence;

/* Asks the kernel for all links, and reads what it answers to the end. */
static void ask(const char *name, unsigned port)
{
	struct { struct nlmsghdr h; struct ifinfomsg m; } q = { { sizeof(q), RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, ++sequence, 0 }, { 0 } };
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	static char b[1 << 16];
	int links = 0, fd = get(name);
	works(sendto(fd, &q, sizeof(q), 0, (void *)&kernel, sizeof(kernel)), "%s: ask", name);
	for (;;) {
		int left = recv(fd, b, sizeof(b), 0);
		works(left, "%s: the answer", name);
		for (struct nlmsghdr *h = (void *)b; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			expect((int)h->nlmsg_seq == sequence && h->nlmsg_pid == port, "%s: an answer to %u of port %u", name, h->nlmsg_seq, h->nlmsg_pid);
			links += h->nlmsg_type == RTM_NEWLINK;
			if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR) {
				expect(h->nlmsg_type == NLMSG_DONE && links > 0, "%s: %d links, type %d", name, links, h->nlmsg_type);
				return;
			}
		}
		if (left < 0)
			return;
	}
}

/* Adds an address of lo or takes it away, which the group must hear of. */
static void change(int type)
{
	struct { struct nlmsghdr h; struct ifaddrmsg m; struct rtattr a; in_addr_t local; } q = {
		{ sizeof(q), type, NLM_F_REQUEST | NLM_F_ACK | (type == RTM_NEWADDR ? NLM_F_CREATE : 0), ++sequence, 0 },
		{ AF_INET, 32, 0, RT_SCOPE_HOST, if_nametoindex("lo") }, { RTA_LENGTH(4), IFA_LOCAL }, htonl(0x7f171717) };
	struct { struct nlmsghdr h; char rest[1000]; } told = { 0 };
	int fd = get("bound to its pid");
	works(send(fd, &q, sizeof(q), 0), "change an address");
	struct pollfd p = { get("in groups"), POLLIN };
	expect(poll(&p, 1, 20000) == 1 && recv(p.fd, &told, sizeof(told), 0) > 0 && told.h.nlmsg_type == type && told.h.nlmsg_pid == (unsigned)getpid(),
	       "the group heard type %d of port %u", told.h.nlmsg_type, told.h.nlmsg_pid);
	expect(recv(fd, &told, sizeof(told), 0) > 0 && told.h.nlmsg_type == NLMSG_ERROR && *(int *)told.rest == 0, "change an address: type %d, error %d", told.h.nlmsg_type, *(int *)told.rest);
}

/* Connected sockets reach each other, and a group. */
static void talk(const char *from, const char *to)
{
	char b[16] = "";
	struct sockaddr_nl a;
	socklen_t len = sizeof(a);
	struct pollfd p = { get(to), POLLIN };
	/* What goes to a group goes to the kernel, too, which does not listen to this protocol. */
	int r = send(get(from), "hello", 6, 0);
	expect(r == 6 || (errno == ECONNREFUSED && strcmp(from, "to the group") == 0), "%s: send: %s", from, strerror(errno));
	expect(poll(&p, 1, 20000) == 1 && recvfrom(p.fd, b, sizeof(b), 0, (void *)&a, &len) == 6 && strcmp(b, "hello") == 0, "%s: got \"%s\" from %s", to, b, from);
}

static void look(void)
{
	for (int i = 0; i < n; i++)
		look_sock(socks + i);
	ask("bound to its pid", getpid());
	ask("another", 1 << 30 | getpid());
	talk("one", "other"), talk("other", "one");
	if (own)
		talk("to the group", "other");
	if (own)
		change(RTM_NEWADDR), change(RTM_DELADDR);
}

int main(int argc, char **argv)
{
	own = argc > 1;
	begin();
	int fd = make("bound to its pid", SOCK_RAW, NETLINK_ROUTE, getpid());
	set(fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
	set(fd, SOL_NETLINK, GET_STRICT_CHK, 1);
	set(fd, SOL_SOCKET, SO_RCVBUF, 50000);
	if (geteuid() == 0)
		check(fchown(fd, 1234, 1235) == 0, "fchown");
	make("another", SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_ROUTE, 1 << 30 | getpid());
	/* On the host's network, groups that hear nothing: else others fill them. */
	fd = make("in groups", SOCK_RAW | SOCK_NONBLOCK, NETLINK_ROUTE, 1 << 29 | getpid());
	join(fd, own ? RTNLGRP_IPV4_IFADDR : RTNLGRP_PHONET_IFADDR);
	join(fd, RTNLGRP_MPLS_ROUTE);
	join(fd, 34); /* RTNLGRP_MCTP_IFADDR, beyond the first 32 */
	make("as new", SOCK_RAW, NETLINK_ROUTE, 0);
	fd = make("generic", SOCK_RAW, NETLINK_GENERIC, getpid());
	set(fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
	make("sock_diag", SOCK_DGRAM, NETLINK_SOCK_DIAG, 0);
	make("one", SOCK_DGRAM, NETLINK_USERSOCK, getpid());
	make("other", SOCK_RAW | SOCK_NONBLOCK, NETLINK_USERSOCK, 1 << 28 | getpid());
	struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_pid = 1 << 28 | getpid() };
	check(connect(get("one"), (void *)&a, sizeof(a)) == 0, "connect one");
	a.nl_pid = getpid();
	check(connect(get("other"), (void *)&a, sizeof(a)) == 0, "connect other");
	if (own) {
		make("to the group", SOCK_DGRAM, NETLINK_USERSOCK, 0);
		join(get("other"), 7);
		a.nl_pid = 0, a.nl_groups = 1 << 6;
		check(connect(get("to the group"), (void *)&a, sizeof(a)) == 0, "connect to a group");
	}
	serve(look, NULL);
}
