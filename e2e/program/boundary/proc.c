/*
 * proc [dead]: what /proc tells of ids, by name and through descriptors that were
 * opened before, also of a process that has ended since.
 */
#include "../state.h"
#include "other.h"
#include <dirent.h>
#include <sys/syscall.h>

static struct other *it;
static pid_t me;
static volatile pid_t of_it;

static struct held {
	const char *name;
	int fd;
} held[32];
static int n, mem; /* mem: of the other's memory */
static int half;   /* own status, of which the beginning has been read */

static void act(struct other *o, int order)
{
	if (order == 0)
		o->word[1] = resting();
}

static void hold(const char *name, const char *format, pid_t a, pid_t b)
{
	char path[64];
	snprintf(path, sizeof(path), format, a, b);
	int fd = open(path, O_RDONLY);
	check(fd >= 0, "open %s", path);
	held[n++] = (struct held){ name, fd };
}
#define DIRECTORY(h) (strstr((h)->name, "directory") != NULL)

/* The ids at the start of a line of stat, and the name. */
static const char *ids_of(int fd)
{
	static char b[512];
	int r = pread(fd, b, sizeof(b) - 1, 0);
	if (r < 0)
		return strerrorname_np(errno);
	b[r] = 0;
	char *s = strrchr(b, ')');
	for (int i = 0; s && *s && i < 6; s++)
		i += *s == ' ';
	if (s)
		*s = 0; /* pid (name) state ppid pgrp session tty */
	char *state = strchr(b, ')');
	if (state && state[1] == ' ')
		state[2] = '?';
	return b;
}

static void look_held(struct held *h)
{
	char is[64];
	if (DIRECTORY(h)) {
		int fd = openat(h->fd, "stat", O_RDONLY);
		snprintf(is, sizeof(is), "%s: stat in it", h->name);
		fact(is, "%s", fd < 0 ? strerrorname_np(errno) : ids_of(fd));
		close(fd);
		fd = dup(h->fd);
		DIR *d = fdopendir(fd);
		rewinddir(d);
		int files = 0;
		errno = 0;
		while (readdir(d))
			files++;
		snprintf(is, sizeof(is), "%s: files", h->name);
		fact(is, "%s", files > 2 ? "some" : "none");
		closedir(d);
	} else {
		if (strstr(h->name, "to the end")) { /* to look at another place, or lseek, would end what the kernel keeps */
			char c = 0;
			snprintf(is, sizeof(is), "%s: read", h->name);
			int r = read(h->fd, &c, 1);
			fact(is, "%d %d", r, c);
		} else {
			snprintf(is, sizeof(is), "%s: text", h->name);
			fact(is, "%s", ids_of(h->fd));
		}
	}
	snprintf(is, sizeof(is), "%s: link", h->name);
	char path[64], to[128];
	sprintf(path, "/proc/self/fd/%d", h->fd);
	int r = readlink(path, to, sizeof(to) - 1);
	to[r < 0 ? 0 : r] = 0;
	char *gone = strstr(to, " (deleted)"); /* from when on is a matter of the kernel's caches */
	if (gone && strstr(h->name, "dead"))
		*gone = 0;
	fact(is, "%s", to);
}

static void lists(const char *name, const char *path)
{
	DIR *d = opendir(path);
	char all[512] = "";
	for (struct dirent *e; d && (e = readdir(d));)
		if (e->d_name[0] >= '0' && e->d_name[0] <= '9')
			strcat(strcat(all, " "), e->d_name);
	closedir(d);
	fact(name, "%s", all);
}

static void link_in(const char *name, const char *path)
{
	char to[128] = "";
	works(readlink(path, to, sizeof(to) - 1), "%s", path);
	fact(name, "%s", to);
}

static void status_of(const char *name, const char *path)
{
	static const char *const keys[] = { "Name:", "Tgid:", "Ngid:", "Pid:", "PPid:", "TracerPid:", "NStgid:", "NSpid:", "NSpgid:", "NSsid:", "Threads:" };
	for (unsigned i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		char is[64];
		snprintf(is, sizeof(is), "%s: %s", name, keys[i]);
		fact(is, "%s", line_of(path, keys[i]));
	}
}

static volatile int number = 31; /* at the same address in the other */

static void look(void)
{
	char path[64];
	lists("processes", "/proc");
	lists("threads", "/proc/self/task");
	sprintf(path, "/proc/%d/task", it->pid);
	lists("threads of the other", path);
	link_in("self", "/proc/self");
	link_in("thread-self", "/proc/thread-self");
	status_of("self", "/proc/self/status");
	sprintf(path, "/proc/%d/status", it->pid);
	status_of("other", path);
	sprintf(path, "/proc/%d/task/%d/status", it->pid, of_it);
	status_of("thread", path);
	sprintf(path, "/proc/self/task/%d/children", me);
	fact("children", "%s", contents(path));
	sprintf(path, "/proc/%d/sched", it->pid);
	char *s = contents(path);
	*strchr(s, '\n') = 0;
	fact("sched", "%s", s);
	for (int i = 0; i < n; i++)
		look_held(&held[i]);
	int is = 0;
	works(pread(mem, &is, sizeof(is), (off_t)(uintptr_t)&number), "the other's memory");
	expect(is == 31, "the other's memory says %d", is);
	works(access("/proc/1/stat", F_OK), "/proc/1");
	expect(access("/proc/30000", F_OK) == -1, "/proc shows pid 30000");
}

static void finish(void)
{
	char rest[4096] = "";
	works(read(half, rest, sizeof(rest) - 1), "the rest of status");
	expect(strstr(rest, "\tproc\n") == rest && strstr(rest, "\nState:\tR (running)\n"), "the rest of status is: %.100s", rest);
	/* What dies now is seen through descriptors that were restored. */
	kill(it->pid, SIGKILL);
	ended(it->pid, SIGKILL);
	for (int i = 0; i < n; i++)
		if (strncmp(held[i].name, "other", 5) == 0) {
			char c;
			int r = DIRECTORY(&held[i]) ? openat(held[i].fd, "stat", O_RDONLY) : pread(held[i].fd, &c, 1, 0);
			expect(r == -1 && (errno == ESRCH || errno == ENOENT), "%s: lives on: %d, %s", held[i].name, r, strerror(errno));
		}
	expect(strncmp(ids_of(held[0].fd), "2 (", 3) == 0 || me != 2, "self: %s", ids_of(held[0].fd));
}

/* A thread that ends when it is told to, and is gone then. */
static void *ends_soon(void *o)
{
	struct other *it = o;
	it->word[2] = gettid();
	while (!it->word[3])
		usleep(1000);
	return NULL;
}
static pthread_t thread_of(struct other *o)
{
	pthread_t t;
	check(pthread_create(&t, NULL, ends_soon, o) == 0, "thread");
	while (!o->word[2])
		usleep(1000);
	return t;
}
static void act_with_thread(struct other *o, int order)
{
	if (order == 0)
		thread_of(o);
}

static void hold_dead(void)
{
	struct other *dead = other(act_with_thread), *mine = shared(sizeof(*mine));
	char c[4096], path[64];
	hold("dead", "/proc/%d/stat", dead->pid, 0);
	hold("dead, directory", "/proc/%d", dead->pid, 0);
	hold("dead, directory of threads", "/proc/%d/task", dead->pid, 0);
	hold("dead, read to the end", "/proc/%d/stat", dead->pid, 0);
	check(read(held[n - 1].fd, c, sizeof(c)) > 0 && read(held[n - 1].fd, c, sizeof(c)) == 0, "read");
	hold("dead, a short text read to the end", "/proc/%d/comm", dead->pid, 0);
	check(read(held[n - 1].fd, c, sizeof(c)) > 0 && read(held[n - 1].fd, c, sizeof(c)) == 0, "read");
	hold("dead, its leader", "/proc/%d/task/%d/stat", dead->pid, dead->pid);
	hold("dead, its thread", "/proc/%d/task/%d/stat", dead->pid, dead->word[2]);
	hold("dead, its thread, directory", "/proc/%d/task/%d", dead->pid, dead->word[2]);
	hold("dead, its thread as a process", "/proc/%d/stat", dead->word[2], 0);
	hold("dead, memory", "/proc/%d/mem", dead->pid, 0);
	hold("dead, mounts", "/proc/%d/mounts", dead->pid, 0);
	kill(dead->pid, SIGKILL);
	ended(dead->pid, SIGKILL);

	pthread_t t = thread_of(mine);
	hold("own dead thread", "/proc/%d/task/%d/stat", me, mine->word[2]);
	hold("own dead thread, directory", "/proc/%d/task/%d", me, mine->word[2]);
	mine->word[3] = 1;
	pthread_join(t, NULL);
	sprintf(path, "/proc/self/task/%ld", mine->word[2]);
	for (int ms = 0; access(path, F_OK) == 0; ms++, usleep(1000))
		check(ms < 20000, "the thread does not end");
}

int main(int argc, char **argv)
{
	begin();
	me = getpid();
	it = other(act);
	of_it = it->word[1];
	pid_t mine = resting();
	hold("self", "/proc/self/stat", 0, 0);
	hold("thread-self", "/proc/thread-self/stat", 0, 0);
	hold("own thread", "/proc/self/task/%d/stat", mine, 0);
	hold("own directory", "/proc/%d", me, 0);
	hold("other", "/proc/%d/stat", it->pid, 0);
	hold("other, directory", "/proc/%d", it->pid, 0);
	hold("other's thread", "/proc/%d/task/%d/stat", it->pid, of_it);
	hold("other's thread, directory", "/proc/%d/task/%d", it->pid, of_it);
	hold("pid 1", "/proc/1/stat", 0, 0);
	char path[64];
	sprintf(path, "/proc/%d/mem", it->pid);
	check((mem = open(path, O_RDONLY)) >= 0, "open %s", path);
	check((half = open("/proc/self/status", O_RDONLY)) >= 0 && read(half, path, 5) == 5, "read status");
	if (argc > 1)
		hold_dead();
	serve(look, finish);
}
