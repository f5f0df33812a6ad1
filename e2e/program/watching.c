/*
 * watching: inotify on files that were moved, deleted, or never had a name.
 */
#include "state.h"
#include <sys/inotify.h>

static int in, many, quiet, wd[16], file, gone, dir_gone, pipes[2];
static char buffer[8192];

/* The next event: of which watch, and what; the name, if there is one. */
static void tells(const char *what, int fd, int want_wd, uint32_t want, const char *name)
{
	static struct {
		char *at;
		ssize_t left;
	} rest;
	if (rest.left <= 0) {
		rest.left = read(fd, buffer, sizeof(buffer));
		rest.at = buffer;
	}
	if (rest.left <= 0) {
		wrong("%s: no event: %s", what, strerror(errno));
		return;
	}
	struct inotify_event *e = (void *)rest.at;
	const char *is = e->len ? e->name : "";
	expect(e->wd == want_wd && e->mask == want && strcmp(is, name) == 0,
	       "%s: watch %d tells %x \"%s\", want %d, %x \"%s\"", what, e->wd, e->mask, is, want_wd, want, name);
	rest.at += sizeof(*e) + e->len;
	rest.left -= sizeof(*e) + e->len;
}

static void silent(const char *what, int fd)
{
	ssize_t n = read(fd, buffer, sizeof(buffer));
	struct inotify_event *e = (void *)buffer;
	expect(n == -1 && errno == EAGAIN, "%s: %zd bytes of events, the first %x of watch %d", what, n, n > 0 ? e->mask : 0, n > 0 ? e->wd : 0);
}

static int make(const char *path, int flags)
{
	int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC | flags, 0600);
	check(fd >= 0, "open %s", path);
	return fd;
}

static int watch(int fd, const char *path, uint32_t mask)
{
	int n = inotify_add_watch(fd, path, mask);
	check(n > 0, "watch %s", path);
	return n;
}

static int by_line(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

/* The watches that have a number, with their events, in some order. */
static void watches(const char *name, int fd)
{
	char path[64], *line[256], out[1 << 14] = "";
	int n = 0;
	sprintf(path, "/proc/self/fdinfo/%d", fd);
	for (char *l = strtok(contents(path), "\n"); l; l = strtok(NULL, "\n")) {
		char *ino = strstr(l, "ino:"), *mask = strstr(l, "mask:");
		if (strncmp(l, "inotify wd:", 11) != 0)
			continue;
		*strchr(mask, ' ') = 0;
		memmove(ino, mask, strlen(mask) + 1);
		line[n++] = l;
	}
	qsort(line, n, sizeof(*line), by_line);
	for (int i = 0; i < n; i++)
		strcat(strcat(out, line[i]), "\n");
	fact(name, "%s", out);
}

static void look(void)
{
	fact_fd("inotify", in);
	watches("watches", in);
	watches("many", many);
	watches("quiet", quiet);
	silent("before", in);
	silent("many, before", many);

	works(write(file, "x", 1), "write");
	tells("moved", in, wd[0], IN_MODIFY, "");
	works(write(gone, "x", 1), "write");
	tells("deleted", in, wd[1], IN_MODIFY, "");
	works(fchmod(dir_gone, 0700), "fchmod");
	tells("deleted directory", in, wd[2], IN_ATTRIB | IN_ISDIR, "");
	works(write(pipes[1], "x", 1), "write");
	tells("pipe", in, wd[3], IN_MODIFY, "");
	char b[4];
	expect(read(pipes[0], b, 4) == 1, "read");
	close(make("inner/new", 0));
	tells("directory", in, wd[4], IN_CREATE, "new");
	works(rename("inner/new", "inner/newer"), "rename");
	tells("directory", in, wd[4], IN_MOVED_FROM, "new");
	tells("directory", in, wd[4], IN_MOVED_TO, "newer");
	works(unlink("inner/newer"), "unlink");
	tells("directory", in, wd[4], IN_DELETE, "newer");
	works(chmod("link", 0600), "chmod");
	tells("hard link", in, wd[5], IN_ATTRIB, "");
	silent("after", in);

	char path[64];
	for (int i = 0; i < 100; i += 33) {
		sprintf(path, "many/%d/x", i);
		close(make(path, 0));
		sprintf(path, "many, %d", i);
		tells(path, many, 3 * i + 1, IN_CREATE, "x");
		sprintf(path, "many/%d/x", i);
		works(unlink(path), "unlink");
	}
	silent("many, after", many);
}

static void finish(void)
{
	close(make("once", 0));
	tells("once", in, wd[6], IN_OPEN, "");
	tells("once", in, wd[6], IN_IGNORED, "");
	close(make("once", 0));
	silent("once", in);
	/* The same file again changes its watch. */
	expect(inotify_add_watch(in, "elsewhere/moved", IN_ATTRIB | IN_MASK_ADD) == wd[0], "IN_MASK_ADD: another watch");
	works(fchmod(file, 0644), "fchmod");
	tells("added", in, wd[0], IN_ATTRIB, "");
	works(write(file, "x", 1), "write");
	tells("added", in, wd[0], IN_MODIFY, "");
	/* The last one that has a deleted file open closes it. */
	close(gone);
	tells("gone", in, wd[1], IN_DELETE_SELF, "");
	tells("gone", in, wd[1], IN_IGNORED, "");
	works(rmdir("inner"), "rmdir");
	tells("directory", in, wd[4], IN_DELETE_SELF, "");
	tells("directory", in, wd[4], IN_IGNORED, "");
	expect(inotify_add_watch(in, "once", IN_OPEN) > wd[6], "a number comes again");
}

int main(void)
{
	begin();
	check(mkdir("watching", 0755) == 0 && chdir("watching") == 0, "mkdir");
	check(mkdir("inner", 0755) == 0 && mkdir("elsewhere", 0755) == 0 && mkdir("soon", 0755) == 0 && mkdir("many", 0755) == 0, "mkdir");
	in = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	file = make("here", O_APPEND);
	gone = make("gone", 0);
	close(make("name", 0));
	close(make("once", 0));
	dir_gone = open("soon", O_RDONLY | O_DIRECTORY);
	check(dir_gone >= 0 && pipe(pipes) == 0, "open");
	wd[0] = watch(in, "here", IN_MODIFY);
	wd[1] = watch(in, "gone", IN_MODIFY | IN_DELETE_SELF);
	wd[2] = watch(in, "soon", IN_ATTRIB);
	char path[64];
	sprintf(path, "/proc/self/fd/%d", pipes[0]);
	wd[3] = watch(in, path, IN_MODIFY);
	wd[4] = watch(in, "inner", IN_CREATE | IN_DELETE | IN_MOVE | IN_DELETE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK);
	wd[5] = watch(in, "name", IN_ATTRIB);
	wd[6] = watch(in, "once", IN_OPEN | IN_ONESHOT);
	check(rename("here", "elsewhere/moved") == 0 && unlink("gone") == 0 && rmdir("soon") == 0, "move");
	check(link("name", "link") == 0 && unlink("name") == 0, "link");

	many = inotify_init1(IN_NONBLOCK);
	for (int i = 0; i < 100; i++) {
		sprintf(path, "many/%d", i);
		check(mkdir(path, 0755) == 0, "mkdir");
		watch(many, path, IN_CREATE);
		/* numbers with gaps */
		for (int k = 0; k < 2; k++)
			check(inotify_rm_watch(many, watch(many, "elsewhere", IN_OPEN)) == 0, "inotify_rm_watch");
	}
	quiet = inotify_init1(IN_NONBLOCK);
	while (read(in, buffer, sizeof(buffer)) > 0)
		;
	while (read(many, buffer, sizeof(buffer)) > 0)
		;
	serve(look, finish);
}
