/*
 * leases (F_SETLEASE): for reading and for writing, ones that are being broken,
 * one whose owner is another process, one without an owner. Nobody is told
 * anew of what he was told; in the end the others are broken, and told.
 */
#include "state.h"

#define TOLD SIGRTMIN

static struct leased {
	const char *name;
	int how, type, breaks; /* breaks: how it is opened by somebody, -1: not */
	int becomes, fd;
} files[] = {
	{ "reading", O_RDONLY, F_RDLCK, -1, F_RDLCK },
	{ "writing", O_RDWR, F_WRLCK, -1, F_WRLCK },
	{ "writing, by a reader", O_RDONLY, F_WRLCK, -1, F_WRLCK },
	{ "writing, to be for reading", O_RDWR, F_WRLCK, O_RDONLY, F_RDLCK },
	{ "writing, to end", O_WRONLY, F_WRLCK, O_WRONLY, F_UNLCK },
	{ "reading, to end", O_RDONLY, F_RDLCK, O_WRONLY, F_UNLCK },
	{ "of the child", O_RDONLY, F_RDLCK, -1, F_RDLCK },
	{ "of nobody", O_RDONLY, F_RDLCK, -1, F_RDLCK },
};
#define N (int)(sizeof(files) / sizeof(*files))
#define CHILDS 6
#define NOBODYS 7

static sigset_t told_set;
static pid_t child;

/* Opens the file as somebody would who does not wait. */
static int opens(struct leased *f, int how)
{
	int fd = open(f->name, how | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	else
		check(errno == EWOULDBLOCK, "open %s", f->name);
	return fd >= 0;
}

/* The descriptor that the next signal is about, -1: there is none. */
static int told_of(void)
{
	siginfo_t si;
	struct timespec no_time = { 0 };
	return sigtimedwait(&told_set, &si, &no_time) == TOLD ? si.si_fd : -1;
}

static void look(void)
{
	for (int i = 0; i < N; i++) {
		struct leased *f = files + i;
		char what[64];
		expect(fcntl(f->fd, F_GETLEASE) == f->becomes, "%s: lease %d, should be %d", f->name, fcntl(f->fd, F_GETLEASE), f->becomes);
		fact_fd(f->name, f->fd);
		snprintf(what, sizeof(what), "%s: how it is listed", f->name);
		char path[64], state[16] = "", type[16] = "";
		int pid = 0;
		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", f->fd);
		sscanf(line_of(path, "lock:"), "1: LEASE %15s %15s %d", state, type, &pid);
		fact(what, "%s %s, of pid %d", state, type, pid);
	}
	int fd = told_of();
	expect(fd == -1, "told again of fd %d", fd);
}

static void finish(void)
{
	for (int i = 0; i < N; i++) {
		struct leased *f = files + i;
		if (f->breaks != -1)
			continue;
		expect(!opens(f, O_WRONLY), "%s: opened in spite of the lease", f->name);
		int fd = told_of(), mine = i != CHILDS && i != NOBODYS;
		expect(fd == (mine ? f->fd : -1), "%s: told of fd %d, not %d", f->name, fd, f->fd);
	}
	for (int i = 0; i < N; i++) {
		struct leased *f = files + i;
		works(fcntl(f->fd, F_SETLEASE, F_UNLCK), "%s: give it up", f->name);
		expect(opens(f, O_WRONLY), "%s: still leased", f->name);
	}
	int status = 0;
	expect(waitpid(child, &status, 0) == child && WTERMSIG(status) == TOLD, "the child was told nothing: %#x", status);
}

int main(void)
{
	begin();
	sigemptyset(&told_set);
	sigaddset(&told_set, TOLD);
	child = fork();
	check(child >= 0, "fork");
	if (child == 0)
		for (;;)
			pause(); /* until it is told, which kills it */
	check(sigprocmask(SIG_BLOCK, &told_set, NULL) == 0, "sigprocmask");
	for (int i = 0; i < N; i++) {
		struct leased *f = files + i;
		int made = open(f->name, O_CREAT | O_WRONLY, 0600);
		close(made);
		f->fd = open(f->name, f->how | O_CLOEXEC);
		check(made >= 0 && f->fd >= 0 && fcntl(f->fd, F_SETSIG, TOLD) == 0, "open %s", f->name);
		check(fcntl(f->fd, F_SETLEASE, f->type) == 0, "F_SETLEASE %s", f->name);
		if (f->breaks == -1)
			continue;
		check(!opens(f, f->breaks) && told_of() == f->fd, "break %s", f->name);
	}
	check(fcntl(files[CHILDS].fd, F_SETOWN, child) == 0 && fcntl(files[NOBODYS].fd, F_SETOWN, 0) == 0, "F_SETOWN");
	serve(look, finish);
}
