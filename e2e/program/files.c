/*
 * files: descriptors of files, directories and devices, in the directory that
 * the program is started in.
 */
#include "state.h"
#include <dirent.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define TEXT "0123456789abcdefghijklmnopqrstuvwxyz\n"
static struct open_file {
	const char *name;
	int fd;
} files[64];
static int n;

static int keep(const char *name, int fd)
{
	check(fd >= 0, "%s", name);
	files[n++] = (struct open_file){ name, fd };
	return fd;
}
static int get(const char *name)
{
	for (int i = 0; i < n; i++)
		if (strcmp(files[i].name, name) == 0)
			return files[i].fd;
	fail("no file %s", name);
}
static int text(const char *path, int flags)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_EXCL, 0640);
	check(fd >= 0 && write(fd, TEXT, 37) == 37, "write %s", path);
	close(fd);
	return open(path, flags);
}

static struct {
	volatile int turn, was;
} *child;
static DIR *dir;
static int left_in_dir;

/* The child moves the position that it shares. */
static void share(int shared_fd, int private_fd)
{
	for (;;) {
		char c[2];
		while (child->turn != 1)
			usleep(1000);
		int r = read(shared_fd, c, 2);
		lseek(shared_fd, 0, SEEK_SET);
		child->was = r == 2 ? c[0] << 8 | c[1] : -1;
		if (lseek(private_fd, 0, SEEK_CUR) != 4)
			child->was = -2;
		child->turn = 2;
	}
}

static void make_plain(void)
{
	int fd = keep("read only", text("plain", O_RDONLY));
	lseek(fd, 7, SEEK_SET);
	keep("dup", dup(fd));
	keep("high", fcntl(fd, F_DUPFD_CLOEXEC, 700));
	keep("another", open("plain", O_RDWR | O_CLOEXEC));
	lseek(get("another"), 11, SEEK_SET);
	keep("append", text("append", O_RDWR | O_APPEND));
	keep("append, write only", open("append", O_WRONLY | O_APPEND | O_NONBLOCK));
	keep("beyond its end", text("beyond", O_RDWR));
	lseek(get("beyond its end"), 1 << 20, SEEK_SET);
	keep("sync", text("sync", O_RDWR | O_SYNC));
	keep("dsync", text("dsync", O_WRONLY | O_DSYNC | O_NOATIME));
	keep("of a path", open("plain", O_PATH));
	check(symlink("plain", "link") == 0, "symlink");
	keep("of a link", open("link", O_PATH | O_NOFOLLOW));
	keep("through a link", open("link", O_RDONLY));
	keep("mode 0", text("mode0", O_RDWR));
	check(fchmod(get("mode 0"), 0) == 0, "fchmod");
	keep("signals", text("signals", O_RDONLY));
	fcntl(get("signals"), F_SETOWN, -getpgrp());
	fcntl(get("signals"), F_SETSIG, SIGRTMIN + 7);
	int direct = open("plain", O_RDONLY | O_DIRECT);
	if (direct >= 0) /* not every file system has it */
		keep("direct", direct);
}

/* Opens a file once more, by a process's descriptor of it in /proc. */
static int again(pid_t pid, const char *name, int flags)
{
	char path[64];
	sprintf(path, "/proc/%d/fd/%d", pid, get(name));
	return open(path, flags);
}

static void make_deleted(void)
{
	int fd = keep("deleted", text("deleted", O_RDWR));
	lseek(fd, 5, SEEK_SET);
	keep("deleted, another", open("deleted", O_RDONLY | O_CLOEXEC));
	check(pwrite(fd, "far", 3, 3 << 20) == 3, "pwrite");
	check(fsetxattr(fd, "user.test", "value", 5, 0) == 0 || errno == ENOTSUP, "fsetxattr");
	struct timespec t[2] = { { 1000000000, 5 }, { 1100000000, 123456789 } };
	check(futimens(fd, t) == 0 && fchmod(fd, 0604) == 0, "futimens");
	check(unlink("deleted") == 0, "unlink");
	keep("deleted, empty", open("empty", O_CREAT | O_RDWR, 0600));
	unlink("empty");
	keep("deleted, read only", text("gone", O_RDONLY));
	unlink("gone");
	keep("deleted, large", open("large", O_CREAT | O_RDWR, 0600));
	static char block[65536];
	for (int i = 0; i < 80; i++) {
		memset(block, i, sizeof(block));
		check(write(get("deleted, large"), block, sizeof(block)) == sizeof(block), "write");
	}
	unlink("large");
	int tmp = open(".", O_TMPFILE | O_RDWR, 0600);
	if (tmp >= 0)
		check(write(keep("without a name", tmp), TEXT, 37) == 37, "write");
	keep("deleted, by /proc", again(getpid(), "deleted", O_RDONLY | O_CLOEXEC));
	lseek(get("deleted, by /proc"), 9, SEEK_SET);
	pid_t pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	keep("deleted, by a child", again(pid, "deleted, read only", O_RDWR | O_APPEND));
	kill(pid, SIGKILL);
	check(waitpid(pid, NULL, 0) == pid, "waitpid");
}

/* A process in a directory that has been deleted. */
static pid_t nowhere;

static void make_nowhere(void)
{
	check(mkdir("nowhere", 0751) == 0 && chdir("nowhere") == 0, "mkdir");
	nowhere = fork();
	if (nowhere == 0)
		for (;;)
			pause();
	check(chdir("..") == 0 && rmdir("nowhere") == 0, "rmdir");
}

static void look_nowhere(void)
{
	struct stat st;
	char path[64], at[4096];
	sprintf(path, "/proc/%d/cwd", nowhere);
	check(stat(path, &st) == 0, "%s", path);
	ssize_t n = readlink(path, at, sizeof(at) - 1);
	check(n > 0, "%s", path);
	at[n] = 0;
	fact("deleted working directory", "%s, mode %#o, %ju links", at, st.st_mode, (uintmax_t)st.st_nlink);
}

static void make_dirs(void)
{
	check(mkdir("dir", 0755) == 0, "mkdir");
	for (int i = 0; i < 500; i++) {
		char path[64];
		sprintf(path, "dir/file with a rather long name, number %d", i);
		check(close(open(path, O_CREAT | O_WRONLY, 0600)) == 0, "%s", path);
	}
	dir = opendir("dir");
	for (int i = 0; i < 100; i++)
		check(readdir(dir) != NULL, "readdir");
	keep("directory, half read", dirfd(dir));
	keep("directory", open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	keep("directory, path", open("dir", O_PATH | O_DIRECTORY));
	long at = telldir(dir);
	while (readdir(dir))
		left_in_dir++;
	seekdir(dir, at);
}

static void make_others(void)
{
	keep("null", open("/dev/null", O_RDWR));
	keep("zero", open("/dev/zero", O_RDONLY | O_CLOEXEC));
	keep("full", open("/dev/full", O_WRONLY));
	keep("random", open("/dev/random", O_RDONLY));
	keep("urandom", open("/dev/urandom", O_RDONLY | O_NONBLOCK));
	int log = open("/dev/kmsg", O_WRONLY);
	if (log >= 0) /* root's */
		keep("kernel log", log);
	int console = open("/dev/console", O_WRONLY | O_NOCTTY);
	if (console >= 0)
		keep("console", console);
	keep("proc", open("/proc/self/status", O_RDONLY));
	char some[100];
	check(read(get("proc"), some, sizeof(some)) == sizeof(some), "read");
	keep("proc, directory", open("/proc/self", O_RDONLY | O_DIRECTORY));
	keep("proc, sysctl", open("/proc/sys/kernel/hostname", O_RDONLY));
	keep("proc, mem", open("/proc/self/mem", O_RDONLY));
	keep("sys", open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY));
}

/* Content through each that can be read. */
static void reads(const char *name, int at, const char *want)
{
	char got[64] = "";
	int r = pread(get(name), got, strlen(want), at);
	expect(r == (int)strlen(want) && memcmp(got, want, r) == 0, "%s: pread at %d gave %d: %s", name, at, r, got);
}

static void look(void)
{
	for (int i = 0; i < n; i++)
		if (strcmp(files[i].name, "without a name") != 0) /* it has its inode's number */
			fact_fd(files[i].name, files[i].fd);
	reads("dup", 10, "abc");
	reads("another", 36, "\n");
	reads("deleted", 10, "abc");
	reads("deleted, another", 3 << 20, "far");
	reads("deleted", (3 << 20) - 4, "\0");
	reads("deleted, read only", 0, "0123");
	reads("deleted, large", 65536 * 79 + 7, "OOOO");
	reads("mode 0", 1, "123");
	reads("through a link", 1, "123");
	struct stat st;
	fstat(get("deleted"), &st);
	fact("deleted: holes", "%d", st.st_blocks * 512 < 1 << 20);
	char value[16];
	fact("deleted: attribute", "%zd", fgetxattr(get("deleted"), "user.test", value, sizeof(value)));
	look_nowhere();
	long at = telldir(dir);
	int left = 0;
	while (readdir(dir))
		left++;
	seekdir(dir, at);
	expect(left == left_in_dir, "directory: %d names are left of %d", left, left_in_dir);
	char c = 1;
	expect(read(get("zero"), &c, 1) == 1 && c == 0, "zero: read");
	expect(read(get("urandom"), &c, 1) == 1 && read(get("random"), &c, 1) == 1, "random: read");
	expect(write(get("full"), &c, 1) == -1 && errno == ENOSPC, "full: write");
	expect(write(get("null"), &c, 1) == 1 && read(get("null"), &c, 1) == 0, "null");
	expect(openat(get("directory, path"), "no such", O_RDONLY) == -1 && errno == ENOENT, "directory: openat");
	child->turn = 1;
	expect(comes(&child->turn, 2), "the child does not run");
	expect(child->was == ('0' << 8 | '1'), "the child read %x", child->was);
	works(lseek(get("shared"), 0, SEEK_SET), "lseek");
}

static void finish(void)
{
	char got[128] = "";
	works(write(get("append"), "+one", 4), "write");
	works(write(get("append, write only"), "+two", 4), "write");
	int r = pread(get("append"), got, sizeof(got), 36);
	expect(r == 9 && memcmp(got, "\n+one+two", 9) == 0, "append: %s", got);
	expect(read(get("read only"), got, 3) == 3 && lseek(get("dup"), 0, SEEK_CUR) == 10 && lseek(get("high"), 0, SEEK_CUR) == 10 &&
		       lseek(get("another"), 0, SEEK_CUR) == 11, "positions are not shared as they were");
	expect(write(get("read only"), "x", 1) == -1 && errno == EBADF, "read only: can be written");
	works(write(get("deleted, by a child"), "end", 3), "write");
	expect(pread(get("deleted, read only"), got, 4, 36) == 4 && memcmp(got, "\nend", 4) == 0, "deleted, by a child: is two files");
	works(pwrite(get("deleted"), "new", 3, 0), "write");
	expect(pread(get("deleted, by /proc"), got, 3, 0) == 3 && memcmp(got, "new", 3) == 0, "deleted, by /proc: is two files");
	expect(pread(get("deleted, another"), got, 3, 0) == 3 && memcmp(got, "new", 3) == 0, "deleted: is two files");
	char path[64];
	sprintf(path, "/proc/self/fd/%d", get("of a path"));
	int fd = open(path, O_RDONLY);
	expect(fd >= 0 && read(fd, got, 4) == 4 && memcmp(got, "0123", 4) == 0, "of a path: open: %s", strerror(errno));
	lseek(get("shared"), 20, SEEK_SET);
	child->turn = 1;
	comes(&child->turn, 2);
	expect(child->was == ('k' << 8 | 'l'), "the child read %x at 20", child->was);
	int tmp = get("without a name");
	sprintf(path, "/proc/self/fd/%d", tmp);
	works(linkat(AT_FDCWD, path, AT_FDCWD, "now it has", AT_SYMLINK_FOLLOW), "without a name: linkat");
	expect(unlink("now it has") == 0 && pread(tmp, got, 3, 10) == 3 && memcmp(got, "abc", 3) == 0, "without a name: contents");
	expect(access("deleted", F_OK) == -1 && access("empty", F_OK) == -1, "a deleted file has its name back");
	expect(lseek(get("proc"), 0, SEEK_SET) == 0 && read(get("proc"), got, 10) == 10, "proc: read");
	DIR *d = opendir(".");
	int names = 0;
	while (readdir(d))
		names++;
	closedir(d);
	fact("names in the directory", "%d", names);
}

int main(void)
{
	begin();
	check(mkdir("files", 0755) == 0 && chdir("files") == 0, "mkdir");
	umask(022);
	child = shared(sizeof(*child));
	keep("shared", text("shared", O_RDONLY));
	keep("private", open("shared", O_RDONLY));
	lseek(get("private"), 4, SEEK_SET);
	pid_t pid = fork();
	if (pid == 0)
		share(get("shared"), get("private"));
	make_plain();
	make_deleted();
	make_nowhere();
	make_dirs();
	make_others();
	DIR *d = opendir(".");
	int names = 0;
	while (readdir(d))
		names++;
	closedir(d);
	fact("names in the directory", "%d", names);
	serve(look, finish);
}
