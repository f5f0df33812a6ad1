/*
 * rawsocks [own]: raw sockets and ping sockets, with filters and peers. With
 * own, the network is the container's own, and so are who may make ping
 * sockets and who gets what.
 */
#include "state.h"
#include "socks.h"
#include <arpa/inet.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <linux/in6.h>
#include <poll.h>
#include <sys/socket.h>

static int own;

static void set(const char *name, int level, int option, int value)
{
	check(setsockopt(get(name), level, option, &value, sizeof(value)) == 0, "%s: option %d", name, option);
}
static void lead4(const char *name, int call(int, const struct sockaddr *, socklen_t), int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	check(call(get(name), (void *)&a, sizeof(a)) == 0, "address of %s", name);
}
static void lead6(const char *name, int call(int, const struct sockaddr *, socklen_t), int port)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	check(call(get(name), (void *)&a, sizeof(a)) == 0, "address of %s", name);
}

/* The line of /proc/net/raw or the like, without what tells the kernel's memory apart. */
static void listed(struct sock *s, const char *list)
{
	char name[64], inode[32], got[200] = "none";
	struct stat st;
	works(fstat(s->fd, &st), "fstat");
	sprintf(inode, " %lu ", (unsigned long)st.st_ino);
	for (char *l = contents(list); l && *l; l = strchr(l, '\n') ? strchr(l, '\n') + 1 : NULL) {
		char local[80], peer[80], state[8], *end = strchr(l, '\n');
		char *at = strstr(l, inode);
		if (at && at < end && sscanf(l, "%*s %79s %79s %7s", local, peer, state) == 3)
			snprintf(got, sizeof(got), "%s %s %s", local, peer, state);
	}
	snprintf(name, sizeof(name), "%s: listed", s->name);
	fact(name, "%s", got);
}

static void look_sock(struct sock *s)
{
	static const struct { const char *name; int level, option; } options[] = {
		{ "type", SOL_SOCKET, SO_TYPE }, { "protocol", SOL_SOCKET, SO_PROTOCOL }, { "rcvbuf", SOL_SOCKET, SO_RCVBUF }, { "ttl", IPPROTO_IP, IP_TTL },
		{ "hdrincl", IPPROTO_IP, IP_HDRINCL }, { "nodefrag", IPPROTO_IP, IP_NODEFRAG }, { "pktinfo", IPPROTO_IP, IP_PKTINFO }, { "hdrincl 6", IPPROTO_IPV6, 36 },
		{ "checksum", IPPROTO_IPV6, IPV6_CHECKSUM }, { "icmp filter", SOL_RAW, ICMP_FILTER }, { "icmp6 filter", IPPROTO_ICMPV6, ICMPV6_FILTER } };
	char name[64];
	unsigned char v[64];
	socklen_t len;
	fact_fd(s->name, s->fd);
	for (unsigned i = 0; i < sizeof(options) / sizeof(*options); i++) {
		memset(v, 0, sizeof(v));
		len = sizeof(v);
		int r = getsockopt(s->fd, options[i].level, options[i].option, v, &len);
		snprintf(name, sizeof(name), "%s: %s", s->name, options[i].name);
		fact_bytes(name, v, r < 0 ? 0 : len);
	}
	for (int peer = 0; peer < 2; peer++) {
		memset(v, 0, sizeof(v));
		len = sizeof(v);
		int r = (peer ? getpeername : getsockname)(s->fd, (void *)v, &len);
		snprintf(name, sizeof(name), "%s: %s", s->name, peer ? "peer" : "address");
		fact_bytes(name, v, r < 0 ? 0 : len);
	}
	int type, protocol, family;
	len = sizeof(type);
	check(getsockopt(s->fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && getsockopt(s->fd, SOL_SOCKET, SO_DOMAIN, &family, &len) == 0 &&
	      getsockopt(s->fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0, "SO_DOMAIN");
	listed(s, type == SOCK_RAW ? family == AF_INET ? "/proc/net/raw" : "/proc/net/raw6" : family == AF_INET ? "/proc/net/icmp" : "/proc/net/icmp6");
}

/* Sends through one socket, and waits for it at another: past header bytes. */
static void goes(const char *from, const char *to, const void *what, int size, int header)
{
	char b[256];
	struct pollfd p = { get(to), POLLIN };
	while (recv(get(to), b, sizeof(b), MSG_DONTWAIT) > 0) /* of other programs */
		;
	works(send(get(from), what, size, 0), "%s: send", from);
	for (;;) {
		if (poll(&p, 1, 20000) != 1) {
			wrong("%s: nothing of %s", to, from);
			return;
		}
		int n = recv(get(to), b, sizeof(b), 0);
		if (n == header + size && memcmp(b + header + 8, (const char *)what + 8, size - 8) == 0)
			return;
	}
}

static void look(void)
{
	for (int i = 0; i < n; i++)
		look_sock(socks + i);
	struct { struct icmphdr h; char data[16]; } ask = { { .type = ICMP_ECHO, .un.echo.id = htons(77) }, "are you there" };
	unsigned sum = 0;
	ask.h.un.echo.sequence++;
	for (unsigned i = 0; i < sizeof(ask) / 2; i++)
		sum += ((unsigned short *)&ask)[i];
	sum = (sum & 0xffff) + (sum >> 16);
	ask.h.checksum = ~(sum + (sum >> 16));
	goes("connected", "connected", &ask, sizeof(ask), 20); /* it gets the answer; its filter stops the question */
	goes("mine", "mine too", "eight   bytes more", 19, 20);
	goes("mine, IPv6", "mine too, IPv6", "eight   bytes more", 19, 0);
	if (!own)
		return;
	struct { struct icmphdr h; char data[16]; } ping = { { .type = ICMP_ECHO }, "ping" };
	goes("ping", "ping", &ping, sizeof(ping), 0);
	struct { struct icmp6hdr h; char data[16]; } ping6 = { { .icmp6_type = ICMPV6_ECHO_REQUEST }, "ping" };
	goes("ping, IPv6", "ping, IPv6", &ping6, sizeof(ping6), 0);
	fact("who may ping", "%s", contents("/proc/sys/net/ipv4/ping_group_range"));
	int fd = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
	works(fd, "another ping socket");
	close(fd);
}

int main(int argc, char **argv)
{
	own = argc > 1;
	begin();
	int p = own ? 253 : 254; /* protocols for experiments (RFC 3692) */
	keep("as new", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
	keep("connected", socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP));
	set("connected", SOL_RAW, ICMP_FILTER, ~(1 << ICMP_ECHOREPLY));
	lead4("connected", bind, 0), lead4("connected", connect, 0);
	keep("mine", socket(AF_INET, SOCK_RAW, p));
	lead4("mine", connect, 9);
	set("mine", IPPROTO_IP, IP_TTL, 5);
	keep("mine too", socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK, p));
	set("mine too", SOL_SOCKET, SO_RCVBUF, 40000);
	set("mine too", IPPROTO_IP, IP_PKTINFO, 1);
	keep("L2TP", socket(AF_INET, SOCK_RAW, 115 /* IPPROTO_L2TP */));
	keep("L2TP, IPv6", socket(AF_INET6, SOCK_RAW, 115));
	keep("header", socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
	keep("no header", socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
	set("no header", IPPROTO_IP, IP_HDRINCL, 0);
	set("no header", IPPROTO_IP, IP_NODEFRAG, 1);
	keep("icmp, IPv6", socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
	struct icmp6_filter f = { { 1, 2, 3, ~0U, 5 } };
	check(setsockopt(get("icmp, IPv6"), IPPROTO_ICMPV6, ICMPV6_FILTER, &f, sizeof(f)) == 0, "ICMPV6_FILTER");
	keep("mine, IPv6", socket(AF_INET6, SOCK_RAW, p));
	lead6("mine, IPv6", connect, 0);
	set("mine, IPv6", IPPROTO_IPV6, IPV6_CHECKSUM, 6);
	keep("mine too, IPv6", socket(AF_INET6, SOCK_RAW, p));
	set("mine too, IPv6", IPPROTO_IPV6, IPV6_CHECKSUM, 6);
	lead6("mine too, IPv6", bind, 0);
	if (own) {
		int fd = open("/proc/sys/net/ipv4/ping_group_range", O_WRONLY | O_CLOEXEC);
		check(fd >= 0 && write(fd, "0 4711", 6) == 6 && close(fd) == 0, "ping_group_range");
		keep("ping", socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
		lead4("ping", bind, 1234), lead4("ping", connect, 0);
		keep("ping, unbound", socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
		keep("ping, IPv6", socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6));
		lead6("ping, IPv6", connect, 0);
	}
	serve(look, NULL);
}
