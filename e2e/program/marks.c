/*
 * marks: fanotify. Of an ordinary user only what is told by file handle.
 */
#include "state.h"
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

#ifndef FAN_MARK_IGNORE
#define FAN_MARK_IGNORE 0x400
#endif

static int by_handle, plain, wide, content, file, gone, root;
static char buffer[1 << 16];

/* Which events a group is told of: the bits of all that wait, by whom. */
static uint64_t tells(int fd)
{
	uint64_t all = 0;
	ssize_t n;
	while ((n = read(fd, buffer, sizeof(buffer))) > 0)
		for (struct fanotify_event_metadata *e = (void *)buffer; FAN_EVENT_OK(e, n); e = FAN_EVENT_NEXT(e, n)) {
			if (e->fd >= 0)
				close(e->fd);
			if (e->pid == getpid())
				all |= e->mask;
		}
	return all;
}

static int by_line(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

static void marks(const char *name, int fd)
{
	char path[64], *line[64], out[1 << 13] = "";
	int n = 0;
	sprintf(path, "/proc/self/fdinfo/%d", fd);
	for (char *l = strtok(contents(path), "\n"); l; l = strtok(NULL, "\n")) {
		char *ino = strstr(l, "ino:"), *mount = strstr(l, "mnt_id:"), *mflags = strstr(l, "mflags:"), *handle = strstr(l, " fhandle");
		if (strncmp(l, "fanotify ", 9) != 0)
			continue;
		/* numbers of mounts and of deleted files are the kernel's */
		if (handle)
			*handle = 0;
		if (ino || mount)
			memmove((ino ? ino : mount) + 4, mflags, strlen(mflags) + 1);
		line[n++] = l;
	}
	qsort(line, n, sizeof(*line), by_line);
	for (int i = 0; i < n; i++)
		strcat(strcat(out, line[i]), "\n");
	fact(name, "%s", out);
}

static void of(const char *what, int fd, uint64_t want)
{
	uint64_t got = tells(fd);
	expect(got == want, "%s: told of %lx, want %lx", what, got, want);
}

static void touch(const char *path)
{
	int fd = open(path, O_CREAT | O_WRONLY, 0600);
	check(fd >= 0, "open %s", path);
	works(write(fd, "x", 1), "write");
	close(fd);
}

static void look(void)
{
	fact_fd("by handle", by_handle);
	marks("by handle", by_handle);
	of("nothing yet", by_handle, 0);
	if (root)
		of("nothing yet", plain, 0);
	works(write(file, "x", 1), "write");
	of("moved file", by_handle, FAN_MODIFY);
	works(write(gone, "x", 1), "write");
	of("deleted file", by_handle, FAN_MODIFY);
	touch("inner/new");
	works(unlink("inner/new"), "unlink");
	of("directory", by_handle, FAN_CREATE | FAN_DELETE | FAN_CLOSE_WRITE);
	if (!root)
		return;
	fact_fd("plain", plain);
	marks("plain", plain);
	marks("wide", wide);
	marks("content", content);
	tells(plain), tells(content);
	tells(wide); /* what ckpt has done there */
	touch("inner/a");
	of("children", plain, FAN_CLOSE_WRITE);
	touch("inner/ignored");
	of("ignored", plain, 0);
	works(unlink("inner/a"), "unlink");
	touch("/dev/shm/marks");
	of("mount", wide, FAN_CLOSE_WRITE | FAN_OPEN);
	works(chmod("/dev/shm/marks", 0600), "chmod");
	of("file system", wide, 0);
	works(unlink("/dev/shm/marks"), "unlink");
	works(write(file, "x", 1), "write");
	of("content", content, FAN_MODIFY);
	tells(by_handle), tells(plain);
}

static int make(const char *path)
{
	int fd = open(path, O_CREAT | O_RDWR | O_APPEND, 0600);
	check(fd >= 0, "open %s", path);
	return fd;
}

static void mark(int fd, unsigned flags, uint64_t mask, const char *path)
{
	check(fanotify_mark(fd, FAN_MARK_ADD | flags, mask, AT_FDCWD, path) == 0, "fanotify_mark %s", path);
}

int main(void)
{
	begin();
	root = getuid() == 0;
	check(mkdir("marks", 0755) == 0 && chdir("marks") == 0 && mkdir("inner", 0755) == 0 && mkdir("elsewhere", 0755) == 0, "mkdir");
	file = make("here");
	gone = make("gone");
	close(make("inner/ignored"));
	by_handle = fanotify_init(FAN_REPORT_FID | FAN_NONBLOCK, 0);
	check(by_handle >= 0, "fanotify_init");
	mark(by_handle, 0, FAN_MODIFY, "here");
	mark(by_handle, 0, FAN_MODIFY, "gone");
	mark(by_handle, FAN_MARK_ONLYDIR, FAN_CREATE | FAN_DELETE | FAN_CLOSE_WRITE | FAN_EVENT_ON_CHILD, "inner");
	if (root) {
		plain = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE, O_RDWR | O_LARGEFILE | O_CLOEXEC);
		wide = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK, O_RDONLY);
		content = fanotify_init(FAN_CLASS_CONTENT | FAN_NONBLOCK, O_RDONLY);
		check(plain >= 0 && wide >= 0 && content >= 0, "fanotify_init");
		mark(plain, 0, FAN_CLOSE_WRITE | FAN_EVENT_ON_CHILD, "inner");
		mark(plain, FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY, FAN_CLOSE_WRITE, "inner/ignored");
		mark(wide, FAN_MARK_MOUNT, FAN_CLOSE_WRITE, "/dev/shm");
		mark(wide, FAN_MARK_FILESYSTEM, FAN_OPEN, "/dev/shm");
		mark(content, 0, FAN_MODIFY, "here");
	}
	check(rename("here", "elsewhere/moved") == 0 && unlink("gone") == 0, "move");
	tells(by_handle);
	if (root)
		tells(plain), tells(wide), tells(content);
	serve(look, NULL);
}
