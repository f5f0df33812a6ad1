/*
 * waiting: connections that nobody has accepted yet, of clients of which one
 * has said all and one is gone, and a connection that is still being made. At
 * every second look the former are accepted, in their order, and made anew.
 */
#include "state.h"
#include "socks.h"
#include <arpa/inet.h>
#include <linux/tcp.h>
#include <poll.h>
#include <sys/socket.h>

enum { CLIENTS = 4 };
static const char *const names[CLIENTS] = { "first", "second", "said all", "gone" };
static int ports[CLIENTS], looks;

static int port_of(int fd)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);
	check(getsockname(fd, (void *)&a, &len) == 0, "getsockname");
	return ntohs(a.sin_port);
}
static int state_of(int fd)
{
	struct tcp_info i = { 0 };
	socklen_t len = sizeof(i);
	check(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) == 0, "TCP_INFO");
	return i.tcpi_state;
}
static int to(const char *listener, int flags)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
	check(fd >= 0 && getsockname(get(listener), (void *)&a, &len) == 0, "socket");
	check(connect(fd, (void *)&a, len) == 0 || errno == EINPROGRESS, "connect");
	return fd;
}
static int listening(const char *name, int backlog)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = keep(name, socket(AF_INET, SOCK_STREAM, 0));
	check(bind(fd, (void *)&a, sizeof(a)) == 0 && listen(fd, backlog) == 0, "listen");
	return fd;
}
static void knock(void)
{
	for (int i = 0; i < CLIENTS; i++) {
		int fd = to("listener", i == 1 ? SOCK_NONBLOCK : 0);
		ports[i] = port_of(fd);
		if (i == 3)
			close(fd);
		else
			keep(names[i], fd);
	}
	shutdown(get("said all"), SHUT_WR);
}

static void chat(int a, int b)
{
	char c[8] = "";
	works(write(a, "hello", 6), "write");
	expect(read(b, c, sizeof(c)) == 6 && strcmp(c, "hello") == 0, "got \"%s\"", c);
	works(write(b, "answer", 7), "write");
	struct pollfd p = { a, POLLIN };
	expect(poll(&p, 1, 20000) == 1 && read(a, c, sizeof(c)) == 7 && strcmp(c, "answer") == 0, "got \"%s\"", c);
}

static void answer(void)
{
	char c;
	for (int i = 0; i < CLIENTS; i++) {
		struct sockaddr_in a;
		socklen_t len = sizeof(a);
		struct pollfd p = { get("listener"), POLLIN };
		int fd = poll(&p, 1, 20000) == 1 ? accept(p.fd, (void *)&a, &len) : -1;
		expect(fd >= 0 && ntohs(a.sin_port) == ports[i], "accepted port %d, not that of \"%s\", %d", ntohs(a.sin_port), names[i], ports[i]);
		if (i < 2)
			chat(get(names[i]), fd);
		else
			expect(read(fd, &c, 1) == 0, "\"%s\" has not said all", names[i]);
		if (i < 3)
			close(get(names[i]));
		close(fd);
	}
	n -= CLIENTS - 1;
}

static void look(void)
{
	for (int i = 0; i < n; i++) {
		char name[64];
		fact_fd(socks[i].name, socks[i].fd);
		snprintf(name, sizeof(name), "%s: TCP state", socks[i].name);
		/* The end of what "said all" has said is acknowledged some time. */
		int state = state_of(socks[i].fd);
		fact(name, "%d", state == 4 ? 5 : state);
	}
	fact("late: port", "%d", port_of(get("late")));
	struct pollfd p = { get("listener"), POLLIN };
	expect(poll(&p, 1, 0) == 1, "nobody waits at the listener");
	if (++looks % 2 == 0) {
		answer();
		knock();
	}
}

/* There is room now. */
static void finish(void)
{
	answer();
	struct pollfd p = { get("late"), POLLOUT }, q = { get("full"), POLLIN };
	int first = accept(get("full"), NULL, NULL), fd = -1;
	chat(get("in time"), first);
	expect(poll(&p, 1, 20000) == 1 && poll(&q, 1, 20000) == 1 && (fd = accept(get("full"), NULL, NULL)) >= 0, "late: is never connected");
	fcntl(get("late"), F_SETFL, 0);
	chat(get("late"), fd);
}

int main(void)
{
	begin();
	listening("listener", 16);
	listening("full", 0);
	keep("in time", to("full", 0));
	keep("late", to("full", SOCK_NONBLOCK));
	check(state_of(get("late")) == 2, "late is in state %d", state_of(get("late")));
	knock();
	serve(look, finish);
}
