/*
 * names [root]: open files that have lost the name they were opened by, and
 * others that are seldom met, in the directory that the program is started in.
 */
#include "state.h"
#include <dirent.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#define PAGE 4096
#define FAR ((3LL << 30) + 12345)

static int tmp_writer, linked, linked_far, linked_fifo, moved, sparse, beyond, link_fd, socket_fd, fifo_fd, device, device_path = -1, in_deleted, deleted_dir, half_read;
static char *mapped_far, *mapped_gone, *own_gone;
static pid_t child;
static DIR *dir;
static char shm[96];

static int make(const char *path, const char *text, int flags)
{
	int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0640);
	check(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s", path);
	close(fd);
	fd = open(path, flags);
	check(fd >= 0, "%s", path);
	return fd;
}

static char *map(const char *path)
{
	int fd = make(path, "mapped", O_RDWR);
	check(ftruncate(fd, PAGE) == 0, "ftruncate");
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(p != MAP_FAILED, "mmap");
	close(fd);
	return p;
}

static void to_far(const char *path, const char *far)
{
	check(link(path, far) == 0 && unlink(path) == 0, "link %s", path);
}

/* Where data is and where not. */
static const char *layout(int fd)
{
	static char text[512];
	int n = 0;
	off_t at = lseek(fd, 0, SEEK_CUR), from = 0, to = 0;
	while ((from = lseek(fd, to, SEEK_DATA)) >= 0) {
		to = lseek(fd, from, SEEK_HOLE);
		n += sprintf(text + n, "%lld to %lld, ", (long long)from, (long long)to);
	}
	lseek(fd, at, SEEK_SET);
	sprintf(text + n, "of %lld", (long long)lseek(fd, 0, SEEK_END));
	lseek(fd, at, SEEK_SET);
	return text;
}

/* What is written to fd is read under name. */
static void reaches(int fd, const char *name)
{
	static char last = 'a';
	char c = last == 'z' ? (last = 'a') : ++last, is = 0;
	works(pwrite(fd, &c, 1, 1), "write to what is %s", name);
	int other = open(name, O_RDONLY);
	expect(other >= 0 && pread(other, &is, 1, 1) == 1 && is == c, "%s has %c, %c was written", name, is, c);
	close(other);
}

static void look(void)
{
	struct stat st;
	char text[4096] = "", path[64];
	reaches(linked, "linked2");
	reaches(linked_far, "far/away/linked");
	struct stat other;
	check(fstat(linked_fifo, &st) == 0 && stat("far/fifo", &other) == 0, "stat");
	expect(st.st_ino == other.st_ino, "far/fifo is another");
	mapped_far[2]++;
	int fd = open("far/away/mapped", O_RDONLY);
	expect(fd >= 0 && pread(fd, text, 1, 2) == 1 && text[0] == mapped_far[2], "far/away/mapped does not have what was written into its mapping");
	close(fd);
	fact("deleted and mapped", "%s", mapped_gone);
	fact("deleted and mapped, private", "%s, %s", own_gone, own_gone + 2 * PAGE);
	fact_fd("moved", moved);
	fact_fd("sparse", sparse);
	fact("sparse, layout", "%s", layout(sparse));
	fstat(sparse, &st);
	expect(st.st_blocks < 4096, "sparse: %lld blocks", (long long)st.st_blocks);
	fact_fd("beyond 4 GB", beyond);
	fact_fd("deleted link", link_fd);
	memset(text, 0, sizeof(text));
	works(readlinkat(link_fd, "", text, sizeof(text) - 1), "deleted link: readlinkat");
	fact("deleted link, target", "%s", text);
	fact_fd("deleted socket, path", socket_fd);
	fact_fd("deleted FIFO, path", fifo_fd);
	if (device_path >= 0) {
		fact_fd("deleted device", device);
		fact_fd("deleted device, path", device_path);
		expect(read(device, text, 1) == 1 && text[0] == 0, "deleted device: read");
	}
	fact_fd("in a deleted directory", in_deleted);
	fact_fd("deleted directory", deleted_dir);
	sprintf(path, "/proc/%d/cwd", child);
	memset(text, 0, sizeof(text));
	works(readlink(path, text, sizeof(text) - 1), "%s", path);
	fact("deleted working directory", "%s", text);
	int left = 0;
	long at = telldir(dir);
	while (readdir(dir))
		left++;
	seekdir(dir, at);
	fact("names left in a directory of /dev/shm", "%d", left);
	fact_fd("directory of /dev/shm", half_read);
	DIR *d = opendir(".");
	for (struct dirent *e; (e = readdir(d));)
		expect(strncmp(e->d_name, ".ckpt", 5) != 0 && strcmp(e->d_name, "a") != 0, "%s is left behind", e->d_name);
	closedir(d);
}

static void finish(void)
{
	char path[128];
	sprintf(path, "/proc/self/fd/%d", tmp_writer);
	works(linkat(AT_FDCWD, path, AT_FDCWD, "tmp", AT_SYMLINK_FOLLOW), "O_TMPFILE, write only: linkat");
	expect(strcmp(contents("tmp"), "text") == 0, "O_TMPFILE, write only: %s", contents("tmp"));
	for (int i = 0; i < 300; i++) {
		sprintf(path, "%s/number %d", shm, i);
		unlink(path);
	}
	works(rmdir(shm), "rmdir %s", shm);
}

static void make_linked(void)
{
	check(mkdir("far", 0755) == 0 && mkdir("far/away", 0755) == 0 && mkdir("near", 0755) == 0, "mkdir");
	linked = make("linked", "text", O_RDWR);
	to_far("linked", "linked2");
	linked_far = make("near/linked", "text", O_RDWR);
	to_far("near/linked", "far/away/linked");
	check(mkfifo("near/fifo", 0600) == 0, "mkfifo");
	linked_fifo = open("near/fifo", O_RDWR | O_NONBLOCK);
	to_far("near/fifo", "far/fifo");
	mapped_far = map("near/mapped");
	to_far("near/mapped", "far/away/mapped");
	mapped_gone = map("near/gone");
	unlink("near/gone");
	int fd = make("near/own", "mapped", O_RDWR);
	check(ftruncate(fd, 3 * PAGE) == 0, "ftruncate");
	own_gone = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	check(own_gone != MAP_FAILED, "mmap");
	strcpy(own_gone + 2 * PAGE, "its own");
	close(fd);
	unlink("near/own");
	moved = make("near/before", "text", O_RDONLY);
	check(rename("near/before", "far/after") == 0, "rename");
}

static void make_deleted(int root)
{
	sparse = make("sparse", "begin", O_RDWR);
	check(pwrite(sparse, "far", 3, FAR) == 3 && ftruncate(sparse, 5LL << 30) == 0 && lseek(sparse, FAR, SEEK_SET) == FAR, "sparse");
	unlink("sparse");
	beyond = make("beyond", "text", O_RDONLY);
	check(lseek(beyond, 5LL << 30, SEEK_SET) == 5LL << 30, "lseek");
	check(symlink("where it leads to", "link") == 0, "symlink");
	link_fd = open("link", O_PATH | O_NOFOLLOW);
	unlink("link");
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "socket" };
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	check(bind(s, (void *)&a, sizeof(a)) == 0 && chmod("socket", 0741) == 0, "bind");
	socket_fd = open("socket", O_PATH);
	unlink("socket");
	close(s);
	check(mkfifo("fifo", 0640) == 0, "mkfifo");
	fifo_fd = open("fifo", O_PATH);
	unlink("fifo");
	if (root) {
		check(mknod("device", S_IFCHR | 0604, makedev(1, 5)) == 0, "mknod");
		device = open("device", O_RDONLY);
		device_path = open("device", O_PATH);
		check(device >= 0 && device_path >= 0, "device");
		unlink("device");
	}
	tmp_writer = open(".", O_TMPFILE | O_WRONLY, 0600);
	check(tmp_writer >= 0 && write(tmp_writer, "text", 4) == 4, "O_TMPFILE");
	check(link_fd >= 0 && socket_fd >= 0 && fifo_fd >= 0, "open");
}

static void make_directories(void)
{
	char path[128];
	check(mkdir("a", 0755) == 0 && mkdir("a/b", 0755) == 0 && mkdir("a/b/c", 0755) == 0, "mkdir");
	in_deleted = make("a/b/file", "text", O_RDWR);
	deleted_dir = open("a/b", O_RDONLY | O_DIRECTORY);
	check(chdir("a/b/c") == 0, "chdir");
	child = fork();
	if (child == 0)
		for (;;)
			pause();
	check(chdir("../../..") == 0 && unlink("a/b/file") == 0 && rmdir("a/b/c") == 0 && rmdir("a/b") == 0 && rmdir("a") == 0, "rmdir");
	snprintf(shm, sizeof(shm), "/dev/shm/%s.%lld", test_name(), (long long)now(CLOCK_REALTIME));
	check(mkdir(shm, 0700) == 0, "mkdir %s", shm);
	for (int i = 0; i < 300; i++) {
		sprintf(path, "%s/number %d", shm, i);
		close(make(path, "", O_RDONLY));
	}
	dir = opendir(shm);
	half_read = dirfd(dir);
	for (int i = 0; i < 100; i++)
		check(readdir(dir) != NULL, "readdir");
}

int main(int argc, char **argv)
{
	begin();
	(void)argv;
	check(mkdir("names", 0755) == 0 && chdir("names") == 0, "mkdir");
	umask(022);
	make_linked();
	make_deleted(argc > 1);
	make_directories();
	serve(look, finish);
}
