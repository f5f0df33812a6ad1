/*
 * filelocks: who holds a lock on a file (F_GETLK, /proc/locks), that he does,
 * and that who waits gets it when he lets go.
 */
#include "../state.h"
#include "other.h"
#include <sys/file.h>

static struct other *holder, *waiter, *ofd_holder;
static int fd, whole, own;

static struct flock range(int type, int start) { return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = 10 }; }

static void holder_act(struct other *o, int order)
{
	struct flock l = range(F_WRLCK, 10), r = range(F_RDLCK, 30);
	if (order == 0)
		check(fcntl(fd, F_SETLK, &l) == 0 && fcntl(fd, F_SETLK, &r) == 0 && flock(whole, LOCK_EX) == 0, "lock");
}
static void ofd_act(struct other *o, int order)
{
	struct flock l = range(F_WRLCK, 50);
	if (order == 0) {
		int again = open("locked", O_RDWR);
		check(again >= 0 && fcntl(again, F_OFD_SETLK, &l) == 0, "F_OFD_SETLK");
	}
}
static void waiter_act(struct other *o, int order)
{
	struct flock l = range(F_WRLCK, 10);
	if (order == 0)
		return;
	o->word[1] = 1;
	o->word[0] = fcntl(fd, F_SETLKW, &l) == 0 ? 1 : -1;
}

static void asked(const char *name, int cmd, int start)
{
	struct flock l = range(F_WRLCK, start);
	works(fcntl(fd, cmd, &l), "%s", name);
	fact(name, "type %d at %ld by pid %d", l.l_type, (long)l.l_start, l.l_pid);
}

static int somebody_waits(void) { return strstr(contents("/proc/locks"), "->") != NULL; }

static void look(void)
{
	/* Whoever was stopped while he waited begins anew (signal(7)), which takes him a moment. */
	for (int ms = 0; !somebody_waits() && ms < 20000; ms++)
		usleep(1000);
	asked("write lock", F_GETLK, 10);
	asked("read lock", F_GETLK, 30);
	asked("lock of a description", F_GETLK, 50);
	asked("own lock", F_GETLK, 70);
	struct flock l = range(F_WRLCK, 70);
	l.l_pid = 0;
	works(fcntl(whole, F_OFD_GETLK, &l), "F_OFD_GETLK");
	fact("own lock, asked by another description", "type %d by pid %d", l.l_type, l.l_pid);
	expect(flock(own, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK, "flock is free");
	expect(waiter->word[0] == 0, "the waiter does not wait: %ld", waiter->word[0]);
	/* The lines of this file, by number of inode. */
	struct stat st;
	fstat(fd, &st);
	char inode[32];
	int lines = 0;
	snprintf(inode, sizeof(inode), ":%lu ", st.st_ino);
	char *text = contents("/proc/locks");
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		char sort[16], mode[16], how[16];
		int pid, waits = strstr(line, "->") != NULL;
		char *s = strchr(line, ':') + 1;
		s += waits ? strspn(s, " ->") : 0;
		if (!strstr(line, inode) || sscanf(s, "%15s %15s %15s %d", sort, how, mode, &pid) != 4)
			continue;
		char name[64]; /* in any order */
		snprintf(name, sizeof(name), "/proc/locks: %.10s%s %.20s", sort, waits ? " waits" : "", strstr(line, inode) + strlen(inode));
		fact(name, "%s of pid %d", mode, pid);
		lines++;
	}
	fact("/proc/locks", "%d lines", lines);
}

static void finish(void)
{
	kill(holder->pid, SIGKILL);
	ended(holder->pid, SIGKILL);
	for (int ms = 0; waiter->word[0] == 0 && ms < 20000; ms++)
		usleep(1000);
	expect(waiter->word[0] == 1, "the waiter gets no lock");
	struct flock l = range(F_WRLCK, 10);
	works(fcntl(fd, F_GETLK, &l), "F_GETLK");
	expect(l.l_type == F_WRLCK && l.l_pid == waiter->pid, "held by pid %d", l.l_pid);
	works(close(open("locked", O_RDWR)), "close");
	l = range(F_WRLCK, 70);
	if (fork() == 0)
		_exit(fcntl(fd, F_GETLK, &l) == 0 && l.l_type == F_UNLCK ? 0 : 1);
	int status = -1;
	expect(wait(&status) > 0 && status == 0, "a close keeps the lock");
}

int main(void)
{
	begin();
	fd = open("locked", O_CREAT | O_RDWR, 0600);
	whole = open("locked", O_RDWR);
	own = open("locked", O_RDWR);
	struct flock l = range(F_WRLCK, 70);
	check(fd >= 0 && ftruncate(fd, 100) == 0 && fcntl(fd, F_SETLK, &l) == 0, "lock");
	holder = other(holder_act);
	ofd_holder = other(ofd_act);
	waiter = other(waiter_act);
	waiter->order = 1; /* which it does not finish */
	while (!somebody_waits())
		usleep(1000);
	serve(look, finish);
}
