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
	fact_fd("/dev/tty", opened);
	int session = -1;
	works(ioctl(opened, TIOCGSID, &session), "/dev/tty: TIOCGSID");
	expect(session == getpid(), "/dev/tty: session %d", session);
	char b[8] = "";
	works(write(opened, "x", 1), "/dev/tty: write");
	expect(read(master, b, sizeof(b)) == 1 && b[0] == 'x', "/dev/tty: what is written does not come to the master");
	sh->asked++;
	expect(comes(&sh->answered, sh->asked), "the child does not answer");
	fact("the child's terminal", "%s", sh->said);
}

int main(void)
{
	int slave;
	begin();
	sh = shared(sizeof(*sh));
	check(getsid(0) == getpid(), "it leads no session");
	check(openpty(&master, &slave, NULL, NULL, NULL) == 0, "openpty");
	check(ioctl(slave, TIOCSCTTY, 0) == 0, "TIOCSCTTY");
	opened = open("/dev/tty", O_RDWR | O_CLOEXEC);
	check(opened >= 0, "/dev/tty");
	if (fork() == 0)
		for (;; usleep(1000))
			if (sh->answered != sh->asked) {
				tell(sh->said, sizeof(sh->said));
				sh->answered = sh->asked;
			}
	serve(look, NULL);
}
