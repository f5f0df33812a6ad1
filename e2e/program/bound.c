/*
 * bound SORT INTERFACE: a socket that is bound to a network interface
 * (SO_BINDTODEVICE, or its address); SIGUSR1 makes it say to which.
 */
#include "step.h"
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

static const struct { const char *name; int family, type; } sorts[] = {
	{ "udp", AF_INET, SOCK_DGRAM }, { "tcp", AF_INET, SOCK_STREAM }, { "unix", AF_UNIX, SOCK_DGRAM },
	{ "netlink", AF_NETLINK, SOCK_RAW }, { "port", AF_NETLINK, SOCK_RAW }, { "packet", AF_PACKET, SOCK_RAW },
};

int main(int argc, char **argv)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_ll ll = { .sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_ifindex = if_nametoindex(argv[2]) };
	char name[IFNAMSIZ] = "";
	socklen_t size = sizeof(name);
	sigset_t set;
	int sig, i = 0;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	while (strcmp(sorts[i].name, argv[1]) != 0)
		i++;
	int fd = socket(sorts[i].family, sorts[i].type, 0);
	if (sorts[i].family == AF_PACKET)
		check(fd >= 0 && bind(fd, (void *)&ll, sizeof(ll)) == 0, "bind");
	else
		check(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, argv[2], strlen(argv[2])) == 0, "SO_BINDTODEVICE");
	if (strcmp(argv[1], "port") == 0) { /* under a port of the kernel's choice */
		struct sockaddr_nl nl = { .nl_family = AF_NETLINK };
		check(bind(fd, (void *)&nl, sizeof(nl)) == 0, "bind");
	}
	if (sorts[i].family == AF_INET)
		check(bind(fd, (void *)&in, sizeof(in)) == 0 && (sorts[i].type != SOCK_STREAM || listen(fd, 4) == 0), "bind");
	say("ready\n");
	sigwait(&set, &sig);
	if (sorts[i].family == AF_PACKET) {
		size = sizeof(ll);
		check(getsockname(fd, (void *)&ll, &size) == 0 && if_indextoname(ll.sll_ifindex, name), "getsockname");
	} else {
		check(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &size) == 0, "getsockopt");
	}
	say("bound to %s\n", name);
	sigwait(&set, &sig);
}
