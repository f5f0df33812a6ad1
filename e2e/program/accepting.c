/*
 * accepting [unix]: a child connects again and again, faster than its parent looks:
 * most of the time somebody waits to be accepted. SIGUSR1 to the parent ends
 * it, once each connection was answered.
 */
#include "step.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define MOST 400 /* connections, all kept */

static union {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_un un;
} at = { .in.sin_family = AF_INET };
static socklen_t size = sizeof(at.in);
static pid_t child;
static volatile sig_atomic_t ended;

static void end(int sig)
{
	ended = 1;
	if (child > 0)
		kill(child, sig);
}

static void knock(void)
{
	struct timespec t = { 0, 5000000 };
	int fd[MOST], n, got;
	for (n = 0; n < MOST && !ended; n++, nanosleep(&t, NULL)) {
		fd[n] = socket(at.any.sa_family, SOCK_STREAM, 0);
		check(connect(fd[n], &at.any, size) == 0, "connect");
		check(write(fd[n], &n, sizeof(n)) == sizeof(n), "write");
	}
	while (!ended)
		nanosleep(&t, NULL);
	for (int i = 0; i < n; i++)
		check(read(fd[i], &got, sizeof(got)) == sizeof(got) && got == i, "told %d, not %d", got, i);
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "unix") == 0) {
		at.un.sun_family = AF_UNIX; /* and the name is the kernel's to choose */
		size = sizeof(at.un.sun_family);
	} else {
		at.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	}
	int fd = socket(at.any.sa_family, SOCK_STREAM, 0), n = 0, got, status;
	struct timespec t = { 0, 20000000 };
	check(bind(fd, &at.any, size) == 0 && listen(fd, MOST) == 0, "listen");
	size = sizeof(at);
	check(getsockname(fd, &at.any, &size) == 0, "getsockname");
	check(fcntl(fd, F_SETFL, O_NONBLOCK) == 0, "F_SETFL");
	signal(SIGUSR1, end);
	if ((child = fork()) == 0)
		knock();
	say("ready\n");
	for (; waitpid(child, &status, WNOHANG) == 0; nanosleep(&t, NULL))
		for (int c; (c = accept(fd, NULL, NULL)) >= 0; n++) {
			check(read(c, &got, sizeof(got)) == sizeof(got) && got == n, "accepted %d, not %d", got, n);
			check(write(c, &n, sizeof(n)) == sizeof(n), "write");
		}
	check(status == 0, "child ended with %#x", status);
	say("done\n");
}
