/*
 * sockopts: sockets of each sort with options that no new one has, set in an
 * order in which one may change what another has set.
 */
#include "state.h"
#include "socks.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/in6.h>
#include <linux/net_tstamp.h>
#include <linux/netlink.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <sys/socket.h>

#define NUMBER(sock, level, option, v) { sock, #option, level, option, { .number = v }, sizeof(int) }
#define LONG(sock, level, option, v) { sock, #option, level, option, { .big = v }, sizeof(uint64_t) }
#define TEXT(sock, level, option, v) { sock, #option, level, option, { .text = v }, sizeof(v) }

static const struct set {
	const char *sock, *name;
	int level, option;
	union {
		int number;
		uint64_t big;
		char text[24];
		struct timeval time;
		struct linger linger;
		struct sock_txtime tx;
	} v;
	socklen_t size;
} sets[] = {
	NUMBER("udp", IPPROTO_IP, IP_TOS, 0x10),
	NUMBER("udp", SOL_SOCKET, SO_PRIORITY, 3), /* which IP_TOS has changed */
	LONG("udp", SOL_SOCKET, SO_MAX_PACING_RATE, 123456789012),
	{ "udp", "SO_TXTIME", SOL_SOCKET, SO_TXTIME, { .tx = { CLOCK_MONOTONIC, SOF_TXTIME_REPORT_ERRORS } }, sizeof(struct sock_txtime) },
	{ "udp", "SO_RCVTIMEO", SOL_SOCKET, SO_RCVTIMEO, { .time = { 7, 500000 } }, sizeof(struct timeval) },
	NUMBER("udp", SOL_SOCKET, SO_INCOMING_CPU, 1),
	NUMBER("udp", SOL_SOCKET, SO_TIMESTAMPING, SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_TX_SOFTWARE),
	NUMBER("udp", SOL_SOCKET, SO_SELECT_ERR_QUEUE, 1),
	NUMBER("udp", SOL_SOCKET, SO_RXQ_OVFL, 1),
	NUMBER("udp", IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO),
	NUMBER("udp", IPPROTO_IP, IP_MINTTL, 3),
	NUMBER("udp", IPPROTO_IP, IP_RECVERR, 1),
	NUMBER("udp", IPPROTO_IP, IP_MULTICAST_TTL, 9),
	TEXT("udp", IPPROTO_IP, IP_OPTIONS, "\x94\x04\0"), /* router alert */
	NUMBER("udp", IPPROTO_UDP, UDP_SEGMENT, 500),
	NUMBER("udp", IPPROTO_UDP, UDP_CORK, 1),
	NUMBER("udp, IPv6", IPPROTO_IPV6, IPV6_TCLASS, 0x20),
	NUMBER("udp, IPv6", IPPROTO_IPV6, IPV6_UNICAST_HOPS, 5),
	NUMBER("udp, IPv6", IPPROTO_IPV6, IPV6_RECVPKTINFO, 1),
	NUMBER("udp, IPv6", IPPROTO_UDP, UDP_NO_CHECK6_TX, 1),
	TEXT("udp, IPv6", SOL_SOCKET, SO_BINDTODEVICE, "lo"),
	NUMBER("listener", SOL_SOCKET, SO_INCOMING_CPU, 1),
	NUMBER("listener", IPPROTO_TCP, TCP_DEFER_ACCEPT, 7),
	NUMBER("listener", IPPROTO_TCP, TCP_SAVE_SYN, 1),
	TEXT("listener", IPPROTO_TCP, TCP_FASTOPEN_KEY, "sixteen letters"),
	NUMBER("listener", IPPROTO_TCP, TCP_FASTOPEN, 6),
	TEXT("listener", IPPROTO_IP, IP_OPTIONS, "\x94\x04\0"),
	TEXT("client", IPPROTO_TCP, TCP_CONGESTION, "reno"),
	LONG("client", SOL_SOCKET, SO_MAX_PACING_RATE, 23456789),
	NUMBER("client", IPPROTO_TCP, TCP_WINDOW_CLAMP, 30000),
	NUMBER("client", IPPROTO_TCP, TCP_USER_TIMEOUT, 4321),
	NUMBER("client", IPPROTO_TCP, TCP_NOTSENT_LOWAT, 9999),
	NUMBER("client", IPPROTO_TCP, TCP_KEEPIDLE, 77),
	NUMBER("client", IPPROTO_TCP, TCP_KEEPINTVL, 7),
	NUMBER("client", IPPROTO_TCP, TCP_KEEPCNT, 3),
	NUMBER("client", SOL_SOCKET, SO_KEEPALIVE, 1),
	NUMBER("client", IPPROTO_TCP, TCP_NODELAY, 1),
	NUMBER("client", IPPROTO_TCP, TCP_SYNCNT, 4),
	NUMBER("client", SOL_SOCKET, SO_RCVLOWAT, 10),
	NUMBER("client", SOL_SOCKET, SO_ZEROCOPY, 1),
	{ "client", "SO_LINGER", SOL_SOCKET, SO_LINGER, { .linger = { 1, 0 } }, sizeof(struct linger) },
	NUMBER("server", IPPROTO_IP, IP_TOS, 0x08),
	NUMBER("server", SOL_SOCKET, SO_PRIORITY, 5),
	NUMBER("server", IPPROTO_TCP, TCP_CORK, 1),
	NUMBER("server", IPPROTO_TCP, TCP_LINGER2, 11),
	NUMBER("server", SOL_SOCKET, SO_OOBINLINE, 1),
	NUMBER("unix", SOL_SOCKET, SO_PASSCRED, 1),
	NUMBER("unix", SOL_SOCKET, SO_PEEK_OFF, 2),
	NUMBER("unix", SOL_SOCKET, SO_RCVLOWAT, 4),
	LONG("unix", SOL_SOCKET, SO_MAX_PACING_RATE, 1000),
	{ "unix", "SO_SNDTIMEO", SOL_SOCKET, SO_SNDTIMEO, { .time = { 3, 0 } }, sizeof(struct timeval) },
	NUMBER("netlink", SOL_NETLINK, NETLINK_EXT_ACK, 1),
	NUMBER("netlink", SOL_SOCKET, SO_TIMESTAMPNS, 1),
	NUMBER("filtered", SOL_SOCKET, SO_LOCK_FILTER, 1),
};

static void look(void)
{
	char name[64];
	unsigned char v[64];
	for (unsigned i = 0; i < sizeof(sets) / sizeof(*sets); i++) {
		socklen_t len = sizeof(v);
		memset(v, 0, sizeof(v));
		int r = getsockopt(get(sets[i].sock), sets[i].level, sets[i].option, v, &len);
		snprintf(name, sizeof(name), "%s: %s", sets[i].sock, sets[i].name);
		works(r, "%s", name);
		fact_bytes(name, v, r < 0 ? 0 : len);
	}
	struct sockaddr_in at = { 0 };
	socklen_t size = sizeof(at);
	works(getsockname(get("away"), (void *)&at, &size), "getsockname");
	fact_bytes("away", &at, size);
	size = sizeof(int);
	int free = 1;
	works(getsockopt(get("away"), IPPROTO_IP, IP_FREEBIND, &free, &size), "IP_FREEBIND");
	fact("away: IP_FREEBIND", "%d", free);
	struct sock_filter got[8];
	socklen_t many = 8;
	works(getsockopt(get("filtered"), SOL_SOCKET, SO_ATTACH_FILTER, got, &many), "SO_GET_FILTER");
	fact_bytes("filter", got, many * sizeof(*got));
}

int main(void)
{
	static struct sock_filter code[] = { BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0), BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 30, 0, 1), BPF_STMT(BPF_RET | BPF_K, 17), BPF_STMT(BPF_RET | BPF_K, 0) };
	struct sock_fprog filter = { 4, code };
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int p[2];
	begin();
	keep("udp", socket(AF_INET, SOCK_DGRAM, 0));
	check(bind(get("udp"), (void *)&a, len) == 0, "bind");
	keep("udp, IPv6", socket(AF_INET6, SOCK_DGRAM, 0));
	keep("filtered", socket(AF_INET, SOCK_DGRAM, 0));
	check(setsockopt(get("filtered"), SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) == 0, "SO_ATTACH_FILTER");
	keep("netlink", socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0, "socketpair");
	keep("unix", p[0]), keep("unix peer", p[1]);
	struct sockaddr_in away = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xcb007107) }; /* for documentation (RFC 5737) */
	int on = 1, off = 0;
	keep("away", socket(AF_INET, SOCK_DGRAM, 0));
	check(setsockopt(get("away"), IPPROTO_IP, IP_FREEBIND, &on, sizeof(on)) == 0 && bind(get("away"), (void *)&away, sizeof(away)) == 0, "bind freely");
	check(setsockopt(get("away"), IPPROTO_IP, IP_FREEBIND, &off, sizeof(off)) == 0, "IP_FREEBIND");
	keep("listener", socket(AF_INET, SOCK_STREAM, 0));
	check(bind(get("listener"), (void *)&a, len) == 0 && listen(get("listener"), 5) == 0, "listen");
	check(getsockname(get("listener"), (void *)&a, &len) == 0, "getsockname");
	keep("client", socket(AF_INET, SOCK_STREAM, 0));
	check(connect(get("client"), (void *)&a, len) == 0, "connect");
	keep("server", accept(get("listener"), NULL, NULL));
	for (unsigned i = 0; i < sizeof(sets) / sizeof(*sets); i++)
		check(setsockopt(get(sets[i].sock), sets[i].level, sets[i].option, &sets[i].v, sets[i].size) == 0, "%s: set %s", sets[i].sock, sets[i].name);
	serve(look, NULL);
}
