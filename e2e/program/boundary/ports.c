/*
 * ports: the port of a netlink socket is by default its owner's pid; it is the
 * same after a restore, and answers come to it.
 */
#include "../state.h"
#include "../socks.h"
#include "other.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

static struct other *child;

static int port(int fd)
{
	struct sockaddr_nl a = { 0 };
	socklen_t len = sizeof(a);
	works(getsockname(fd, (void *)&a, &len), "getsockname");
	return a.nl_pid;
}
/* Asks for the network devices; the answer names the port of who asked. */
static int answered(int fd)
{
	static int seq;
	struct {
		struct nlmsghdr h;
		struct rtgenmsg g;
	} ask = { { .nlmsg_len = sizeof(ask), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP, .nlmsg_seq = ++seq } };
	char b[1 << 16];
	int to = 0, done = 0;
	works(send(fd, &ask, sizeof(ask), 0), "ask the kernel");
	while (!done) {
		ssize_t n = recv(fd, b, sizeof(b), 0);
		if (n <= 0) {
			wrong("no answer: %s", strerror(errno));
			return 0;
		}
		for (struct nlmsghdr *h = (void *)b; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
			to = h->nlmsg_pid;
			expect((int)h->nlmsg_seq == seq, "an answer to another question");
			done |= h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR;
		}
	}
	return to;
}

static void act(struct other *o, int order)
{
	if (order == 0)
		check(bind(get("child"), (void *)&(struct sockaddr_nl){ .nl_family = AF_NETLINK }, sizeof(struct sockaddr_nl)) == 0, "bind");
	o->word[0] = port(get("child"));
	o->word[1] = order ? answered(get("child")) : 0;
}

static void look(void)
{
	for (int i = 0; i < n; i++) {
		fact(socks[i].name, "port %d", port(socks[i].fd));
		if (port(socks[i].fd) && socks[i].fd != get("child"))
			expect(answered(socks[i].fd) == port(socks[i].fd), "%s: the answer goes elsewhere", socks[i].name);
	}
	fact("by the pid", "%d %d", port(get("first")) == getpid(), port(get("second")) == getpid());
	does(child, 1);
	expect(child->word[0] == child->pid && child->word[1] == child->pid, "the child's port is %ld, answers go to %ld", child->word[0], child->word[1]);
}

int main(void)
{
	begin();
	struct sockaddr_nl a = { .nl_family = AF_NETLINK };
	keep("first", socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	keep("second", socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	keep("chosen", socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	keep("unbound", socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	keep("child", socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	check(bind(get("first"), (void *)&a, sizeof(a)) == 0 && bind(get("second"), (void *)&a, sizeof(a)) == 0, "bind");
	a.nl_pid = 123456;
	check(bind(get("chosen"), (void *)&a, sizeof(a)) == 0, "bind");
	child = other(act);
	serve(look, NULL);
}
