/*
 * packets [own]: packet sockets of every sort: bound or not, filters, options,
 * memberships, fanout groups; rings that are mapped, with packets in them and
 * after the kernel has gone some way in them. With own, the network is the
 * container's own.
 */
#include "state.h"
#include "socks.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static int protocol, lo; /* of its own on the host's network */

static void set(const char *name, int option, int value)
{
	check(setsockopt(get(name), SOL_PACKET, option, &value, sizeof(value)) == 0, "%s: option %d", name, option);
}
static void to(const char *name, int proto, int index)
{
	struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_protocol = htons(proto), .sll_ifindex = index };
	check(bind(get(name), (void *)&a, sizeof(a)) == 0, "bind %s", name);
}

static void look_sock(struct sock *s)
{
	static const int options[] = { PACKET_COPY_THRESH, PACKET_AUXDATA, PACKET_ORIGDEV, PACKET_VERSION, PACKET_RESERVE, PACKET_LOSS, PACKET_VNET_HDR,
		PACKET_TIMESTAMP, PACKET_FANOUT, PACKET_TX_HAS_OFF, PACKET_QDISC_BYPASS, 23 /* PACKET_IGNORE_OUTGOING */, 24 /* PACKET_VNET_HDR_SZ */ };
	char name[64];
	unsigned char v[64] = { 0 };
	socklen_t len = sizeof(v);
	struct stat st;
	fact_fd(s->name, s->fd);
	for (unsigned i = 0; i < sizeof(options) / sizeof(*options); i++) {
		int is = 0;
		len = sizeof(is);
		int r = getsockopt(s->fd, SOL_PACKET, options[i], &is, &len);
		snprintf(name, sizeof(name), "%s: option %d", s->name, options[i]);
		fact(name, "%d %x", r, is);
	}
	len = sizeof(v);
	works(getsockname(s->fd, (void *)v, &len), "%s: getsockname", s->name);
	snprintf(name, sizeof(name), "%s: address", s->name);
	fact_bytes(name, v, len);
	struct sock_filter f[16] = { { 0 } };
	len = 16;
	works(getsockopt(s->fd, SOL_SOCKET, SO_GET_FILTER, f, &len), "%s: filter", s->name);
	snprintf(name, sizeof(name), "%s: filter", s->name);
	fact_bytes(name, f, len * sizeof(*f));
	/* What /proc/net/packet says of it, without reference counts and memory. */
	works(fstat(s->fd, &st), "fstat");
	char inode[32], got[100] = "none";
	sprintf(inode, " %lu\n", (unsigned long)st.st_ino);
	for (char *l = contents("/proc/net/packet"); l && *l; l = strchr(l, '\n') ? strchr(l, '\n') + 1 : NULL) {
		char type[8], proto[8], index[8], running[8], *end = strchr(l, '\n');
		char *at = end ? end : l;
		while (at > l && at[-1] != ' ')
			at--;
		if (at > l && end && strncmp(at - 1, inode, strlen(inode)) == 0 && sscanf(l, "%*s %*s %7s %7s %7s %7s", type, proto, index, running) == 4)
			snprintf(got, sizeof(got), "%s %s %s %s", type, proto, index, running);
	}
	snprintf(name, sizeof(name), "%s: listed", s->name);
	fact(name, "%s", got);
}

/* --- rings --- */
enum { BLOCK = 8192, BLOCKS = 2, FRAME = 2048, FRAMES = BLOCK / FRAME * BLOCKS };
static struct ring {
	const char *name;
	int version, most; /* packets that it is left with */
	int next, waiting, packets[FRAMES]; /* the frame to be looked at, and which packets are from there on */
	char *map;
} rings[] = { { "ring 1", TPACKET_V1, 2 }, { "ring 2", TPACKET_V2, 3 }, { "empty ring", TPACKET_V2, 0 }, { "full ring", TPACKET_V2, FRAMES } };
#define RINGS (int)(sizeof(rings) / sizeof(*rings))

static void put(const char *what, int size)
{
	struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = lo, .sll_halen = 6 };
	check(sendto(get("sender"), what, size, 0, (void *)&a, sizeof(a)) == size, "send");
}
static int number; /* of the last packet sent */
/* All rings get it that have room. */
static void comes_to_rings(void)
{
	for (struct ring *r = rings; r < rings + RINGS; r++)
		if (r->waiting < FRAMES)
			r->packets[r->waiting++] = number;
}
static void put_next(void)
{
	char b[32];
	put(b, sprintf(b, "packet %d", ++number) + 1);
	comes_to_rings();
}
static void gets_(const char *name, int header)
{
	char b[128], want[32];
	struct pollfd p = { get(name), POLLIN };
	int n = sprintf(want, "packet %d", number) + 1;
	expect(poll(&p, 1, 20000) == 1, "%s: nothing comes", name);
	int r = recv(get(name), b, sizeof(b), MSG_DONTWAIT);
	expect(r == header + n && strcmp(b + header, want) == 0, "%s: got %d bytes \"%.20s\", not \"%s\"", name, r, r > header ? b + header : "", want);
}

static void make_ring(struct ring *r)
{
	struct tpacket_req q = { BLOCK, BLOCKS, FRAME, FRAMES };
	keep(r->name, socket(AF_PACKET, SOCK_DGRAM, 0));
	set(r->name, PACKET_VERSION, r->version);
	check(setsockopt(get(r->name), SOL_PACKET, PACKET_RX_RING, &q, sizeof(q)) == 0, "PACKET_RX_RING");
	r->map = mmap(NULL, BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, get(r->name), 0);
	check(r->map != MAP_FAILED, "map a ring");
	to(r->name, protocol, lo);
}
static void *header_of(struct ring *r, int i) { return r->map + i * FRAME; }
static volatile uint32_t *status(struct ring *r, int i) { return header_of(r, i); } /* at the front in both versions */
static char *data(struct ring *r, int i)
{
	return (char *)header_of(r, i) + (r->version == TPACKET_V1 ? ((struct tpacket_hdr *)header_of(r, i))->tp_net : ((struct tpacket2_hdr *)header_of(r, i))->tp_net);
}
/* Takes packets until most are left. */
static void take(struct ring *r, int most)
{
	struct pollfd p = { get(r->name), POLLIN };
	for (char want[32]; r->waiting > most; r->next = (r->next + 1) % FRAMES) {
		sprintf(want, "packet %d", r->packets[0]);
		while (*status(r, r->next) == 0 && poll(&p, 1, 20000) == 1)
			;
		expect(*status(r, r->next) & TP_STATUS_USER && strcmp(data(r, r->next), want) == 0, "%s: frame %d is \"%.20s\", status %x, not \"%s\"", r->name, r->next,
		       data(r, r->next), *status(r, r->next), want);
		*status(r, r->next) = 0;
		memmove(r->packets, r->packets + 1, --r->waiting * sizeof(*r->packets));
	}
}

/* --- a ring of blocks (TPACKET_V3), which are numbered --- */
static struct {
	char *map;
	int next, last; /* the block to be looked at, and the last packet taken */
	unsigned long number;
} chain;

static void make_blocks(void)
{
	struct tpacket_req3 q = { BLOCK, BLOCKS, FRAME, FRAMES, 5 /* ms */, 0, 0 };
	keep("blocks", socket(AF_PACKET, SOCK_DGRAM, 0));
	set("blocks", PACKET_VERSION, TPACKET_V3);
	check(setsockopt(get("blocks"), SOL_PACKET, PACKET_RX_RING, &q, sizeof(q)) == 0, "PACKET_RX_RING of blocks");
	chain.map = mmap(NULL, BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, get("blocks"), 0);
	check(chain.map != MAP_FAILED, "map blocks");
	to("blocks", protocol, lo);
}
/* Takes packets up to the latest. */
static void take_blocks(void)
{
	struct pollfd p = { get("blocks"), POLLIN };
	while (chain.last < number) {
		struct tpacket_block_desc *b = (void *)(chain.map + chain.next * BLOCK);
		volatile uint32_t *whose = &b->hdr.bh1.block_status;
		while (!(*whose & TP_STATUS_USER) && poll(&p, 1, 20000) == 1)
			;
		expect(*whose & TP_STATUS_USER && b->hdr.bh1.seq_num == ++chain.number, "block %d has status %x and number %llu, not %lu", chain.next, *whose,
		       (unsigned long long)b->hdr.bh1.seq_num, chain.number);
		char *at = (char *)b + b->hdr.bh1.offset_to_first_pkt, want[32];
		for (unsigned i = 0; i < b->hdr.bh1.num_pkts; i++) {
			struct tpacket3_hdr *h = (void *)at;
			sprintf(want, "packet %d", ++chain.last);
			expect(strcmp(at + h->tp_net, want) == 0, "block %lu has \"%.20s\", not \"%s\"", chain.number, at + h->tp_net, want);
			at += h->tp_next_offset;
		}
		if (!(*whose & TP_STATUS_USER))
			return;
		*whose = TP_STATUS_KERNEL;
		chain.next = (chain.next + 1) % BLOCKS;
	}
}

static struct ring sending = { .name = "sending ring", .version = TPACKET_V2 };
static void send_by_ring(void)
{
	struct tpacket2_hdr *h = header_of(&sending, sending.next);
	struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = lo, .sll_halen = 6 };
	expect(h->tp_status == TP_STATUS_AVAILABLE, "the sending ring's frame %d has status %x", sending.next, h->tp_status);
	h->tp_len = sprintf((char *)h + TPACKET2_HDRLEN - sizeof(a), "packet %d", ++number) + 1;
	h->tp_status = TP_STATUS_SEND_REQUEST;
	works(sendto(get(sending.name), NULL, 0, 0, (void *)&a, sizeof(a)), "send by the ring");
	expect(h->tp_status == TP_STATUS_AVAILABLE, "the sending ring's frame %d was not sent: status %x", sending.next, h->tp_status);
	sending.next++;
	comes_to_rings();
}

/* Packets come to all, and some are left in the rings. */
static void run(int packets)
{
	while (packets-- > 0) {
		take_blocks(); /* which leaves the latest in them */
		put_next();
		gets_("raw", 14), gets_("datagrams", 0);
		for (int i = 0; i < RINGS; i++)
			take(&rings[i], rings[i].most);
	}
}

static void look(void)
{
	for (int i = 0; i < n; i++)
		look_sock(socks + i);
	char maps[64];
	sprintf(maps, "/proc/%d/maps", getpid());
	int mapped = 0;
	for (char *l = contents(maps); (l = strstr(l, "socket:")); l++)
		mapped++;
	fact("mappings of rings", "%d", mapped);
	/* The sending ring is not gone round: the kernel's place would be lost. */
	if (!judge->noting && sending.next < FRAMES - 1)
		send_by_ring();
	else
		put_next();
	gets_("raw", 14), gets_("datagrams", 0);
	take_blocks();
	for (int i = 0; i < RINGS; i++)
		take(&rings[i], 0);
	run(FRAMES);
	char b[64];
	expect(recv(get("filtered"), b, sizeof(b), MSG_DONTWAIT) == -1 && errno == EAGAIN, "the filter lets something in");
	expect(recv(get("as new"), b, sizeof(b), MSG_DONTWAIT) == -1 && errno == EAGAIN, "a socket that is not bound gets something");
	/* One of a group of two. */
	struct pollfd p[2] = { { get("group"), POLLIN }, { get("group too"), POLLIN } };
	int got = 0;
	for (; got <= FRAMES + 1 && poll(p, 2, 0) > 0; got++)
		recv(p[p[0].revents ? 0 : 1].fd, b, sizeof(b), MSG_DONTWAIT);
	expect(got == FRAMES + 1, "the group got %d packets", got);
}

int main(int argc, char **argv)
{
	begin();
	int own = argc > 1, chance = now(CLOCK_REALTIME) / 1000 % 0x1000; /* others have this pid, too */
	protocol = own ? 0x88b6 : 0x6000 + chance;
	lo = if_nametoindex("lo");
	keep("sender", socket(AF_PACKET, SOCK_DGRAM, 0));
	keep("as new", socket(AF_PACKET, SOCK_RAW, 0));
	keep("raw", socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(protocol)));
	set("raw", PACKET_AUXDATA, 1), set("raw", PACKET_COPY_THRESH, 77);
	keep("datagrams", socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	to("datagrams", protocol, lo);
	set("datagrams", PACKET_ORIGDEV, 1), set("datagrams", PACKET_QDISC_BYPASS, 1), set("datagrams", 23, 1);
	keep("filtered", socket(AF_PACKET, SOCK_RAW, 0));
	struct sock_filter no = { BPF_RET | BPF_K, 0, 0, 0 };
	struct sock_fprog prog = { 1, &no };
	check(setsockopt(get("filtered"), SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) == 0, "filter");
	to("filtered", ETH_P_ALL, 0);
	struct packet_mreq m = { lo, PACKET_MR_PROMISC, 0, { 0 } }, u = { lo, PACKET_MR_MULTICAST, 6, { 1, 2, 3, 4, 5, 6 } };
	for (int i = 0; i < 2; i++)
		check(setsockopt(get("filtered"), SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m, sizeof(m)) == 0, "membership");
	check(setsockopt(get("filtered"), SOL_PACKET, PACKET_ADD_MEMBERSHIP, &u, sizeof(u)) == 0, "membership");
	keep("old", socket(AF_PACKET, SOCK_PACKET, htons(protocol + 1)));
	struct sockaddr name = { AF_PACKET, "lo" };
	check(bind(get("old"), &name, sizeof(name)) == 0, "bind by name");
	keep("header", socket(AF_PACKET, SOCK_RAW, 0));
	set("header", PACKET_VNET_HDR, 1), set("header", PACKET_LOSS, 1), set("header", PACKET_VERSION, TPACKET_V3), set("header", PACKET_RESERVE, 64);
	set("header", PACKET_TIMESTAMP, 1 << 6), set("header", PACKET_TX_HAS_OFF, 1);
	for (int i = 0; i < 2; i++) {
		const char *who = i ? "group too" : "group";
		keep(who, socket(AF_PACKET, SOCK_DGRAM, htons(protocol)));
		set(who, PACKET_FANOUT, ((own ? getpid() : chance) & 0xffff) | (PACKET_FANOUT_LB | PACKET_FANOUT_FLAG_ROLLOVER) << 16);
	}
	keep(sending.name, socket(AF_PACKET, SOCK_DGRAM, 0));
	struct tpacket_req q = { BLOCK, BLOCKS, FRAME, FRAMES };
	set(sending.name, PACKET_VERSION, sending.version);
	check(setsockopt(get(sending.name), SOL_PACKET, PACKET_TX_RING, &q, sizeof(q)) == 0, "PACKET_TX_RING");
	sending.map = mmap(NULL, BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, get(sending.name), 0);
	check(sending.map != MAP_FAILED, "map a ring");
	for (int i = 0; i < RINGS; i++)
		make_ring(&rings[i]);
	make_blocks();
	/* The kernel goes some way, another one in each ring. */
	run(FRAMES + 3);
	char b[64];
	for (int i = 0; i < FRAMES + 3; i++)
		recv(get("group"), b, sizeof(b), MSG_DONTWAIT), recv(get("group too"), b, sizeof(b), MSG_DONTWAIT);
	serve(look, NULL);
}
