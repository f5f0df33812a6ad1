/*
 * ctty: leads a session on a terminal of its own making, and has a child there.
 */
#include "state.h"
#include <pty.h>
#include <sys/ioctl.h>

static struct {
	volatile int asked, answered;
	char said[256];
} *sh;

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
}

int main(void)
{
	int master, slave;
	begin();
	sh = shared(sizeof(*sh));
	check(getsid(0) == getpid(), "it leads no session");
	check(openpty(&master, &slave, NULL, NULL, NULL) == 0, "openpty");
	check(ioctl(slave, TIOCSCTTY, 0) == 0, "TIOCSCTTY");
	if (fork() == 0)
		for (;; usleep(1000))
			if (sh->answered != sh->asked) {
				tell(sh->said, sizeof(sh->said));
				sh->answered = sh->asked;
			}
	serve(look, NULL);
}
