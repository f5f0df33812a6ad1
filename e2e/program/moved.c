/*
 * moved [root]: a program in a directory that is moved between dump and
 * restore. The file "here" in it says where it is. With "root", a child has the
 * directory "jail" in it as its root.
 */
#include "state.h"
#include <poll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>

#define PAGE 4096

static int file, dir, fifo, path_fd, gone, watch, of_name, of_path;
static char *map;
static pid_t jailed;

static const char *here(void)
{
	static char path[4096];
	int fd = open("here", O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, path, sizeof(path) - 1);
	check(n > 0, "here");
	close(fd);
	path[n] = 0;
	return path;
}

/* What link leads to is name in the directory; "": that itself. */
static void leads(const char *link, const char *name)
{
	char want[8192], is[8192];
	snprintf(want, sizeof(want), "%s%s%s", here(), *name ? "/" : "", name);
	ssize_t n = readlink(link, is, sizeof(is) - 1);
	check(n > 0, "%s", link);
	is[n] = 0;
	expect(strcmp(is, want) == 0, "%s leads to %s, not %s", link, is, want);
}

static void fd_leads(int fd, const char *name)
{
	char link[64];
	sprintf(link, "/proc/self/fd/%d", fd);
	leads(link, name);
}

static void mapped(const char *name)
{
	char want[8192], line[8192];
	int found = 0;
	snprintf(want, sizeof(want), "%s/%s\n", here(), name);
	FILE *f = fopen("/proc/self/maps", "r");
	while (fgets(line, sizeof(line), f))
		found |= strstr(line, want) != NULL;
	fclose(f);
	expect(found, "no mapping of %s", want);
}

static int listening(const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	strcpy(a.sun_path, name);
	check(fd >= 0 && bind(fd, (void *)&a, sizeof(a)) == 0, "bind %s", name);
	return fd;
}

/* Whoever sends to name reaches fd. */
static void reaches(const char *name, int fd)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	char c = 0;
	int s = socket(AF_UNIX, SOCK_DGRAM, 0);
	strcpy(a.sun_path, name);
	works(sendto(s, "x", 1, 0, (void *)&a, sizeof(a)), "send to %s", name);
	expect(recv(fd, &c, 1, MSG_DONTWAIT) == 1 && c == 'x', "nothing has come to %s", name);
	close(s);
}

static void named(int fd, const char *want)
{
	struct sockaddr_un a;
	socklen_t n = sizeof(a);
	check(getsockname(fd, (void *)&a, &n) == 0, "getsockname");
	expect(strcmp(a.sun_path, want) == 0, "the name of a socket is %s, not %s", a.sun_path, want);
}

static void look(void)
{
	char at[8192], c = 0;
	leads("/proc/self/exe", "program");
	leads("/proc/self/cwd", "");
	fd_leads(file, "data/file");
	fd_leads(dir, "data");
	fd_leads(fifo, "fifo");
	fd_leads(path_fd, "data/file");
	fd_leads(gone, "data/gone (deleted)");
	mapped("program");
	mapped("data/mapped");
	expect(map[0] == 'm', "mapped: %c", map[0]);
	expect(pread(file, &c, 1, 0) == 1 && c == 'f', "file: %c", c);
	expect(pread(gone, &c, 1, 0) == 1 && c == 'g', "deleted: %c", c);
	expect(write(fifo, "p", 1) == 1 && read(fifo, &c, 1) == 1 && c == 'p', "fifo: %c", c);
	snprintf(at, sizeof(at), "%s/s2", here());
	named(of_name, "s1");
	named(of_path, at);
	reaches("s1", of_name);
	reaches(at, of_path);
	char events[4096];
	while (read(watch, events, sizeof(events)) > 0)
		;
	close(open("data/new", O_CREAT | O_WRONLY, 0600));
	unlink("data/new");
	expect(read(watch, events, sizeof(events)) > 0, "nothing is told of data");
	if (jailed) {
		sprintf(at, "/proc/%d/root", jailed);
		leads(at, "jail");
	}
}

static void put(const char *path, char c)
{
	int fd = open(path, O_CREAT | O_WRONLY, 0600);
	check(fd >= 0 && pwrite(fd, &c, 1, 0) == 1 && pwrite(fd, "", 1, PAGE - 1) == 1, "write %s", path);
	close(fd);
}

int main(int argc, char **argv)
{
	begin();
	char at[8192];
	check(mkdir("data", 0755) == 0 && mkfifo("fifo", 0600) == 0, "mkdir");
	put("data/file", 'f');
	put("data/mapped", 'm');
	put("data/gone", 'g');
	file = open("data/file", O_RDWR);
	dir = open("data", O_RDONLY | O_DIRECTORY);
	path_fd = open("data/file", O_PATH);
	gone = open("data/gone", O_RDONLY);
	unlink("data/gone");
	fifo = open("fifo", O_RDWR | O_NONBLOCK);
	int fd = open("data/mapped", O_RDONLY);
	map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	snprintf(at, sizeof(at), "%s/s2", here());
	of_name = listening("s1");
	of_path = listening(at);
	watch = inotify_init1(IN_NONBLOCK);
	check(inotify_add_watch(watch, "data", IN_CREATE) > 0, "inotify_add_watch");
	check(file >= 0 && dir >= 0 && path_fd >= 0 && gone >= 0 && fifo >= 0 && map != MAP_FAILED, "open");
	if (argc > 1) {
		check(mkdir("jail", 0755) == 0, "mkdir");
		int ready[2];
		char c;
		check(pipe(ready) == 0, "pipe");
		jailed = fork();
		if (jailed == 0) {
			check(chroot("jail") == 0 && write(ready[1], "x", 1) == 1, "chroot");
			for (;;)
				pause();
		}
		check(read(ready[0], &c, 1) == 1, "read");
	}
	serve(look, NULL);
}
