/*
 * caller connect TYPE NAME [OWN]: a unix socket that is connected to NAME ("@..."
 * is abstract), under a name of its own. SIGUSR1: it sends its number, what it is
 * called and an option; SIGUSR2: it says what waits to be read, which it does not
 * read before.
 * caller listen TYPE NAME: SIGUSR1: it accepts.
 */
#include "step.h"
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static socklen_t address(struct sockaddr_un *a, const char *name)
{
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	strncpy(a->sun_path, name, sizeof(a->sun_path) - 1);
	if (*name == '@')
		a->sun_path[0] = 0;
	return offsetof(struct sockaddr_un, sun_path) + strlen(name) + (*name != '@');
}

static int type(const char *name)
{
	return strcmp(name, "unix") == 0 ? SOCK_STREAM : strcmp(name, "unixgram") == 0 ? SOCK_DGRAM : SOCK_SEQPACKET;
}

static void tell(int fd)
{
	static int n;
	char text[256];
	struct sockaddr_un a = { 0 };
	socklen_t size = sizeof(a);
	int on = 0;
	check(getsockname(fd, (void *)&a, &size) == 0, "getsockname");
	if (size > sizeof(a.sun_family) && a.sun_path[0] == 0)
		a.sun_path[0] = '@';
	size = sizeof(on);
	check(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &size) == 0, "getsockopt");
	int len = snprintf(text, sizeof(text), "%d: %s %d\n", ++n, a.sun_path, on);
	if (send(fd, text, len, MSG_NOSIGNAL) == len)
		say("told %d\n", n);
	else
		say("told %d: %s\n", n, strerror(errno));
}

static void hear(int fd)
{
	char text[256];
	ssize_t len = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
	if (len <= 0)
		say("heard %s\n", len == 0 ? "the end" : strerror(errno));
	else
		say("heard %.*s\n", (int)len, text);
}

int main(int argc, char **argv)
{
	struct sockaddr_un a;
	int on = 1, listens = strcmp(argv[1], "listen") == 0;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int fd = socket(AF_UNIX, type(argv[2]), 0);
	check(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) == 0, "socket");
	if (argc > 4)
		check(bind(fd, (void *)&a, address(&a, argv[4])) == 0, "bind %s", argv[4]);
	if (listens)
		check(bind(fd, (void *)&a, address(&a, argv[3])) == 0 && listen(fd, 4) == 0, "listen on %s", argv[3]);
	else
		check(connect(fd, (void *)&a, address(&a, argv[3])) == 0, "connect to %s", argv[3]);
	say("ready\n");
	for (int sig;;) {
		sigwait(&set, &sig);
		if (listens) {
			check(accept(fd, NULL, NULL) >= 0, "accept");
			say("accepted\n");
		} else if (sig == SIGUSR1) {
			tell(fd);
		} else {
			hear(fd);
		}
	}
}
