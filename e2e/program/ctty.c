/*
 * ctty [WHAT]: leads a session on a terminal of its own making, and has a child
 * there. The child, or the leader, has given the terminal up (TIOCNOTTY).
 */
#include "state.h"
#include <pty.h>
#include <sys/ioctl.h>

static struct {
	volatile int asked, answered;
	char said[256];
} *sh;

static int opened, master;

/* What a process of the session has of its terminal. */
static void tell(char *into, size_t n)
{
	int pgrp, session, tty, front;
	char *s = strrchr(contents("/proc/self/stat"), ')');
	sscanf(s, ") %*c %*d %d %d %d %d", &pgrp, &session, &tty, &front);
	int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
	snprintf(into, n, "group %d, session %d, terminal %x, foreground %d, /dev/tty %s", pgrp, session, tty, front, fd < 0 ? strerror(errno) : "opens");
	close(fd);
}

static void look(void)
{
	char own[256];
	tell(own, sizeof(own));
	fact("its terminal", "%s", own);
	sh->asked++;
	expect(comes(&sh->answered, sh->asked), "the child does not answer");
	fact("the child's terminal", "%s", sh->said);
	if (opened < 0)
		return;
	fact_fd("/dev/tty", opened);
	int session = -1;
	works(ioctl(opened, TIOCGSID, &session), "/dev/tty: TIOCGSID");
	expect(session == getpid(), "/dev/tty: session %d", session);
	char b[8] = "";
	works(write(opened, "x", 1), "/dev/tty: write");
	expect(read(master, b, sizeof(b)) == 1 && b[0] == 'x', "/dev/tty: what is written does not come to the master");
}

static void give_up(int slave) { check(ioctl(slave, TIOCNOTTY, 0) == 0, "TIOCNOTTY"); }

int main(int argc, char **argv)
{
	int slave;
	int by_child = argc > 1 && strcmp(argv[1], "child") == 0, by_leader = argc > 1 && !by_child;
	begin();
	sh = shared(sizeof(*sh));
	check(getsid(0) == getpid(), "it leads no session");
	check(openpty(&master, &slave, NULL, NULL, NULL) == 0, "openpty");
	check(ioctl(slave, TIOCSCTTY, 0) == 0, "TIOCSCTTY");
	opened = open("/dev/tty", O_RDWR | O_CLOEXEC);
	check(opened >= 0, "/dev/tty");
	signal(SIGHUP, SIG_IGN); /* which the leader's giving up sends */
	if (fork() == 0) {
		if (by_child)
			give_up(slave);
		for (;; usleep(1000))
			if (sh->answered != sh->asked) {
				tell(sh->said, sizeof(sh->said));
				sh->answered = sh->asked;
			}
	}
	if (by_leader) {
		close(opened);
		opened = -1;
		give_up(slave);
	}
	serve(look, NULL);
}
