/*
 * refused [WHAT...]: holds what cannot be saved, and counts: sockets of the
 * sorts named, keyrings, rings, a multicast router, a key of TCP, or a zombie that was not dumpable; with none, two children have an io_uring and a userfaultfd.
 */
#include "step.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/mroute.h>
#include <linux/netlink.h>
#include <linux/tcp.h>
#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void count(const char *who)
{
	struct timespec t = { 0, 20000000 };
	for (int n = 0;;) {
		told(who, &n, 0, "");
		check(nanosleep(&t, NULL) == 0, "nanosleep");
	}
}

static const struct { const char *name; int family, type, protocol; } sockets[] = {
	{ "vsock", AF_VSOCK, SOCK_STREAM, 0 },
	{ "alg", AF_ALG, SOCK_SEQPACKET, 0 },
	{ "xdp", AF_XDP, SOCK_RAW, 0 },
	{ "can", AF_CAN, SOCK_RAW, 1 /* CAN_RAW */ },
	{ "tipc", AF_TIPC, SOCK_RDM, 0 },
	{ "rds", AF_RDS, SOCK_SEQPACKET, 0 },
	{ "smc", AF_SMC, SOCK_STREAM, 0 },
	{ "kcm", AF_KCM, SOCK_DGRAM, 0 },
	{ "key", AF_KEY, SOCK_RAW, 2 /* PF_KEY_V2 */ },
	{ "sctp", AF_INET, SOCK_STREAM, IPPROTO_SCTP },
	{ "l2tp", AF_INET, SOCK_DGRAM, 115 /* IPPROTO_L2TP */ },
	{ "netfilter", AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER },
	{ "connector", AF_NETLINK, SOCK_RAW, NETLINK_CONNECTOR },
};

static void zombie(void)
{
	siginfo_t si;
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_DUMPABLE, 0);
		_exit(42);
	}
	check(pid > 0 && waitid(P_PID, pid, &si, WEXITED | WNOWAIT) == 0, "waitid");
}

static const struct { const char *name; int of, first; } keyrings[] = {
	{ "thread keyring", KEY_SPEC_THREAD_KEYRING, 0 },
	{ "process keyring", KEY_SPEC_PROCESS_KEYRING, 0 },
	{ "session keyring", KEY_SPEC_SESSION_KEYRING, 0 },
	{ "first session keyring", KEY_SPEC_SESSION_KEYRING, 1 },
};

/* A child has it, or the first process. */
static void keyring(int of, int first)
{
	if (!first && fork() != 0)
		return;
	check(of != KEY_SPEC_SESSION_KEYRING || syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "own") > 0, "keyctl");
	check(syscall(SYS_add_key, "user", "ckpt", "its own", 7, of) > 0, "add_key");
	if (!first)
		count("child");
}

/* As login(1) leaves it: a session keyring with that of the user in it. */
static void empty_keyrings(void)
{
	check(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) > 0, "keyctl");
	check(syscall(SYS_keyctl, KEYCTL_LINK, KEY_SPEC_USER_KEYRING, KEY_SPEC_SESSION_KEYRING) == 0, "KEYCTL_LINK");
	for (int of = KEY_SPEC_THREAD_KEYRING; of >= KEY_SPEC_PROCESS_KEYRING; of--)
		check(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, of, 1) > 0, "keyctl");
}

/* A ring of two blocks, all of it mapped. */
static int ring(char **map)
{
	struct tpacket_req q = { 4096, 2, 2048, 4 };
	int fd = socket(AF_PACKET, SOCK_RAW, 0);
	check(fd >= 0 && setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &q, sizeof(q)) == 0, "PACKET_RX_RING");
	*map = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(*map != MAP_FAILED, "map a ring");
	return fd;
}
static void closed_ring(void)
{
	char *map;
	close(ring(&map));
}
static void half_ring(void)
{
	char *map;
	ring(&map);
	check(munmap(map + 4096, 4096) == 0, "munmap");
}
static void router(void)
{
	int on = 1, fd = socket(AF_INET, SOCK_RAW, IPPROTO_IGMP);
	struct vifctl v = { .vifc_flags = VIFF_USE_IFINDEX, .vifc_threshold = 1, .vifc_lcl_ifindex = 1 };
	check(fd >= 0 && setsockopt(fd, IPPROTO_IP, MRT_INIT, &on, sizeof(on)) == 0 && setsockopt(fd, IPPROTO_IP, MRT_ADD_VIF, &v, sizeof(v)) == 0, "multicast routing");
}
/* Listens, with a key for what a neighbour sends. */
static void signer(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct tcp_md5sig key = { .tcpm_keylen = 6, .tcpm_key = "secret" };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	memcpy(&key.tcpm_addr, &a, sizeof(a));
	check(fd >= 0 && setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &key, sizeof(key)) == 0, "TCP_MD5SIG");
	check(bind(fd, (void *)&a, sizeof(a)) == 0 && listen(fd, 1) == 0, "listen");
}

static const struct { const char *name; void (*hold)(void); } others[] = {
	{ "zombie", zombie }, { "closed ring", closed_ring }, { "half ring", half_ring }, { "router", router },
	{ "signer", signer }, { "empty keyrings", empty_keyrings },
};

static void hold(const char *name)
{
	for (unsigned i = 0; i < sizeof(keyrings) / sizeof(*keyrings); i++)
		if (strcmp(keyrings[i].name, name) == 0) {
			keyring(keyrings[i].of, keyrings[i].first);
			return;
		}
	for (unsigned i = 0; i < sizeof(others) / sizeof(*others); i++)
		if (strcmp(others[i].name, name) == 0) {
			others[i].hold();
			return;
		}
	for (unsigned i = 0; i < sizeof(sockets) / sizeof(*sockets); i++)
		if (strcmp(sockets[i].name, name) == 0) {
			check(socket(sockets[i].family, sockets[i].type, sockets[i].protocol) >= 0, "%s", name);
			return;
		}
	fail("no socket %s", name);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		hold(argv[i]);
	if (argc > 1)
		count("parent");
	if (fork() == 0) {
		struct io_uring_params p = { 0 };
		check(syscall(SYS_io_uring_setup, 4, &p) >= 0, "io_uring_setup");
		count("uring");
	}
	if (fork() == 0) {
		check(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY) >= 0, "userfaultfd");
		count("uffd");
	}
	count("parent");
}
