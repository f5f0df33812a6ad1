/*
 * Shared anonymous memory that is open as a file, by /proc/self/map_files:
 * every way to it leads to the same memory. Only root can open it.
 */
#include "state.h"

#define PAGES 6
#define PAGE 4096

static char *whole, *part, *private;
static int fd;

static char *map(int flags, int file, int first, int pages)
{
	char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags, file, first * PAGE);
	check(p != MAP_FAILED, "mmap");
	return p;
}

static void look(void)
{
	static int n;
	char c = 'a' + ++n % 20, read_back = 0;
	fact("copied page", "%c", private[PAGE]);
	fact("page left alone", "%c", private[0]);
	whole[3 * PAGE] = c; /* page 2 of private */
	expect(private[2 * PAGE] == c, "the private mapping does not see a write");
	expect(part[PAGE] == c, "the second shared mapping does not see a write");
	part[2 * PAGE] = c;
	expect(whole[4 * PAGE] == c, "the first shared mapping does not see a write");
	works(pread(fd, &read_back, 1, 4 * PAGE), "pread");
	expect(read_back == c, "the descriptor does not see a write");
	works(pwrite(fd, &c, 1, 5 * PAGE), "pwrite");
	expect(whole[5 * PAGE] == c, "a mapping does not see what was written by the descriptor");
	fact("position", "%ld", lseek(fd, 0, SEEK_CUR));
}

int main(void)
{
	begin();
	whole = shared(PAGES * PAGE);
	for (int i = 0; i < 3; i++)
		whole[i * PAGE] = 'A' + i;
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (long)whole, (long)whole + PAGES * PAGE);
	fd = open(path, O_RDWR | O_CLOEXEC);
	check(fd >= 0 && lseek(fd, 7, SEEK_SET) == 7, "open %s", path);
	private = map(MAP_PRIVATE, fd, 1, PAGES - 1);
	part = map(MAP_SHARED, fd, 2, PAGES - 2);
	private[PAGE] = 'P';
	serve(look, NULL);
}
