/*
 * bound SORT INTERFACE: a socket that is bound to a network interface
 * (SO_BINDTODEVICE); SIGUSR1 makes it say to which.
 */
#include "step.h"
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	char name[IFNAMSIZ] = "";
	socklen_t size = sizeof(name);
	sigset_t set;
	int sig, tcp = strcmp(argv[1], "tcp") == 0, is_unix = strcmp(argv[1], "unix") == 0;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int fd = socket(is_unix ? AF_UNIX : AF_INET, tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
	check(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, argv[2], strlen(argv[2])) == 0, "SO_BINDTODEVICE");
	if (!is_unix)
		check(bind(fd, (void *)&a, sizeof(a)) == 0 && (!tcp || listen(fd, 4) == 0), "bind");
	say("ready\n");
	sigwait(&set, &sig);
	check(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &size) == 0, "getsockopt");
	say("bound to %s\n", name);
	sigwait(&set, &sig);
}
