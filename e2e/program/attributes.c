/*
 * attributes [root]: what deleted files have beside their contents: times to the
 * nanosecond, extended attributes, flags (chattr(1)), set-user-id bits, a write
 * hint.
 */
#include "state.h"
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

static int file, by_path, dir, immutable = -1, append = -1;

static void make_file(void)
{
	struct timespec t[2] = { { 1000000000, 123456789 }, { 1100000000, 987654321 } };
	uint64_t hint = RWH_WRITE_LIFE_SHORT;
	file = open("file", O_CREAT | O_EXCL | O_RDWR, 0600);
	check(file >= 0 && write(file, "text", 4) == 4 && fchmod(file, 06751) == 0, "file");
	check(fcntl(file, F_SET_RW_HINT, &hint) == 0 || errno == EINVAL, "F_SET_RW_HINT");
	check(fsetxattr(file, "user.colour", "blue", 4, 0) == 0 || errno == ENOTSUP, "fsetxattr");
	int flags = 0;
	if (ioctl(file, FS_IOC_GETFLAGS, &flags) == 0) { /* not every file system has them */
		flags |= FS_NODUMP_FL | FS_NOATIME_FL;
		check(ioctl(file, FS_IOC_SETFLAGS, &flags) == 0, "FS_IOC_SETFLAGS");
	}
	check(futimens(file, t) == 0 && unlink("file") == 0, "unlink");
}

/* Nothing can be read of O_PATH but by the file itself. */
static void make_only_path(void)
{
	int fd = open("only path", O_CREAT | O_EXCL | O_RDWR, 0600);
	check(fd >= 0 && (fsetxattr(fd, "user.colour", "red", 3, 0) == 0 || errno == ENOTSUP), "fsetxattr");
	close(fd);
	by_path = open("only path", O_PATH);
	check(by_path >= 0 && unlink("only path") == 0, "unlink");
}

static void make_dir(void)
{
	struct timespec t[2] = { { 1200000000, 123456789 }, { 1300000000, 987654321 } };
	check(mkdir("dir", 0711) == 0, "mkdir");
	dir = open("dir", O_RDONLY | O_DIRECTORY);
	check(dir >= 0 && (fsetxattr(dir, "user.colour", "green", 5, 0) == 0 || errno == ENOTSUP), "fsetxattr");
	check(rmdir("dir") == 0 && futimens(dir, t) == 0, "rmdir");
}

/* Each becomes so once it is open and has no name: not even root deletes one. */
static int make_flagged(const char *name, int how, int flag)
{
	int flags, fd = open(name, O_CREAT | O_EXCL | O_RDWR | how, 0600);
	check(fd >= 0 && write(fd, name, strlen(name)) > 0 && unlink(name) == 0, "%s", name);
	check(ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0, "FS_IOC_GETFLAGS");
	flags |= flag;
	check(ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0, "FS_IOC_SETFLAGS");
	return fd;
}

static void flags_of(const char *name, int fd)
{
	int flags = 0;
	ioctl(fd, FS_IOC_GETFLAGS, &flags);
	fact(name, "%#x", flags);
}

static void attribute_of(const char *name, int fd)
{
	char path[64], value[64] = "";
	sprintf(path, "/proc/self/fd/%d", fd);
	ssize_t n = getxattr(path, "user.colour", value, sizeof(value) - 1);
	fact(name, "%zd %s", n, value);
}

static void times_of(const char *name, int fd)
{
	struct stat st;
	check(fstat(fd, &st) == 0, "fstat");
	fact(name, "read %ld.%09ld, written %ld.%09ld", st.st_atim.tv_sec, st.st_atim.tv_nsec, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

static void look(void)
{
	uint64_t hint = 0;
	fact_fd("file", file);
	times_of("file, times", file);
	flags_of("file, chattr", file);
	attribute_of("file, attribute", file);
	fcntl(file, F_GET_RW_HINT, &hint);
	fact("file, write hint", "%d", (int)hint);
	attribute_of("only path, attribute", by_path);
	times_of("directory, times", dir);
	attribute_of("directory, attribute", dir);
	if (immutable < 0)
		return;
	flags_of("immutable", immutable);
	flags_of("append", append);
	char path[64];
	sprintf(path, "/proc/self/fd/%d", immutable);
	expect(open(path, O_WRONLY) == -1 && errno == EPERM, "the immutable file can be opened for writing");
}

int main(int argc, char **argv)
{
	begin();
	(void)argv;
	make_file();
	make_only_path();
	make_dir();
	if (argc > 1) {
		immutable = make_flagged("immutable", 0, FS_IMMUTABLE_FL);
		append = make_flagged("append", O_APPEND, FS_APPEND_FL);
	}
	serve(look, NULL);
}
