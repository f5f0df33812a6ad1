/*
 * fanout: packet sockets share what comes in a group that is numbered by their
 * owner's pid; after a restore it has that number, and takes in one more.
 */
#include "../state.h"
#include "../socks.h"
#include "other.h"
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

enum { PROTOCOL = 0x88b6 }; /* for experiments (IEEE 802) */

static struct other *child;

static int made(const char *name)
{
	struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_ifindex = 1, .sll_protocol = htons(PROTOCOL) };
	int fd = keep(name, socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	check(bind(fd, (void *)&a, sizeof(a)) == 0, "bind %s", name);
	return fd;
}
static int join(int fd, int group)
{
	group |= PACKET_FANOUT_LB << 16;
	return setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &group, sizeof(group));
}
static int group(int fd)
{
	int v = -1;
	socklen_t len = sizeof(v);
	works(getsockopt(fd, SOL_PACKET, PACKET_FANOUT, &v, &len), "PACKET_FANOUT");
	return v;
}
static int got(int fd)
{
	char b[16];
	int n = 0;
	while (recv(fd, b, sizeof(b), 0) > 0)
		n++;
	return n;
}

/* A group of its own, with its own pid. */
static void act(struct other *o, int order)
{
	if (order == 0)
		check(join(made("child"), getpid()) == 0, "PACKET_FANOUT");
	o->word[0] = group(get("child"));
	o->word[1] = got(get("child"));
}

static void look(void)
{
	struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_ifindex = 1, .sll_protocol = htons(PROTOCOL), .sll_halen = 6 };
	fact("group", "%x %x", group(get("first")), group(get("second")));
	expect((group(get("first")) & 0xffff) == getpid(), "group %x of pid %d", group(get("first")), getpid());
	for (int i = 0; i < 6; i++)
		works(sendto(get("sender"), "x", 1, 0, (void *)&a, sizeof(a)), "send");
	/* Three sockets of this process, which get each packet once. */
	int third = made("third");
	works(join(third, getpid()), "one more joins");
	works(sendto(get("sender"), "x", 1, 0, (void *)&a, sizeof(a)), "send");
	int a1 = got(get("first")), a2 = got(get("second")), a3 = got(third);
	expect(a1 + a2 + a3 == 7 && a1 > 0 && a2 > 0, "got %d, %d and %d", a1, a2, a3);
	close(third), n--;
	does(child, 1);
	expect((child->word[0] & 0xffff) == child->pid && child->word[1] == 7, "the child's group is %lx and got %ld", child->word[0], child->word[1]);
}

int main(void)
{
	begin();
	keep("sender", socket(AF_PACKET, SOCK_DGRAM, 0));
	check(join(made("first"), getpid()) == 0 && join(made("second"), getpid()) == 0, "PACKET_FANOUT");
	child = other(act);
	serve(look, NULL);
}
