/*
 * refused [WHAT...]: holds what cannot be saved, and counts: sockets of the
 * sorts named, keyrings, or a zombie that was not dumpable; with none, two children have an io_uring and a userfaultfd.
 */
#include "step.h"
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/netlink.h>
#include <linux/userfaultfd.h>
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

static const struct { const char *name; int of; } keyrings[] = {
	{ "thread keyring", KEY_SPEC_THREAD_KEYRING },
	{ "process keyring", KEY_SPEC_PROCESS_KEYRING },
};

/* A child has it, so that it is not the first process. */
static void keyring(int of)
{
	if (fork() != 0)
		return;
	check((of ? syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, of, 1) : syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "own")) > 0, "keyctl");
	count("child");
}

static void hold(const char *name)
{
	for (unsigned i = 0; i < sizeof(keyrings) / sizeof(*keyrings); i++)
		if (strcmp(keyrings[i].name, name) == 0) {
			keyring(keyrings[i].of);
			return;
		}
	if (strcmp(name, "session keyring") == 0) {
		keyring(0);
		return;
	}
	if (strcmp(name, "zombie") == 0) {
		zombie();
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
