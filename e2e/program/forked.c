/*
 * forked.c has pages in common, copy-on-write, with children and theirs, who
 * have written some, dropped, unmapped and protected others, and where the parent
 * has but read, or guards what is there. Each knows what it must find, and counts
 * the pages that are not its alone.
 *
 * usage: forked shared|private|apart|beside  (whether they share other memory, too;
 * apart: a child does that its parent has not, who may then be on its own; beside:
 * the two mappings lie below the others, and the second is one with these)
 */
#include "state.h"

#define PAGE 4096UL
#define PAGES 2048
#define GROWN 64
#define EMPTY 4
#define PAIR 8
#define TILES 1000 /* mappings of a page, with a hole behind each */
#define GUARD_INSTALL 102 /* MADV_GUARD_INSTALL, 6.13 */
#define GUARD_REMOVE 103

static unsigned char *area, *heap;
static unsigned char *empty; /* the parent has not written there */
static unsigned char empty_want[EMPTY];
static unsigned char *pair; /* two mappings, the second with advice */
static unsigned char *tiles;
static int paved; /* all is one mapping there */
static int apart;
static int guarded; /* pages of it, from the third on */
static unsigned char want[PAGES]; /* what a page is full of; 0: not to be looked at */
static unsigned char heap_want = 9;
static unsigned char data[GROWN * PAGE] __attribute__((aligned(4096))) = { 1 }; /* of the program's file */
static unsigned char data_want[GROWN];
static char name[16] = "parent";

/* Those below a process, and how it hears from them. */
static struct below {
	int ask, answer;
} below[8];
static int children;

static void put(int page, unsigned char what)
{
	memset(area + page * PAGE, what, PAGE);
	want[page] = what;
}

/* Pages of [from, from + n), not a file's, that another process may have, too (pagemap.rst). */
static int common(unsigned char *from, int n)
{
	uint64_t entry[PAGES];
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), found = 0;
	check(pread(fd, entry, n * 8, (uintptr_t)from / PAGE * 8) == n * 8, "pagemap");
	close(fd);
	for (int i = 0; i < n; i++)
		found += entry[i] >> 63 && !(entry[i] >> 61 & 1) && !(entry[i] >> 56 & 1);
	return found;
}

/* How many mappings [from, from + n) pages are. */
static int mappings(unsigned char *from, int n)
{
	static char text[1 << 18];
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), at = 0, found = 0;
	for (int got; (got = read(fd, text + at, sizeof(text) - 1 - at)) > 0;)
		at += got;
	close(fd);
	text[at] = 0;
	for (char *line = text; *line; line = strchr(line, '\n') + 1) {
		char *end;
		uintptr_t start = strtoul(line, &end, 16);
		found += start < (uintptr_t)from + n * PAGE && strtoul(end + 1, NULL, 16) > (uintptr_t)from;
	}
	return found;
}

static void look(void)
{
	char what[64];
	for (int i = 0; i < PAGES; i++) {
		if (want[i] == 0)
			continue;
		unsigned char *p = area + i * PAGE;
		int is = want[i] == 255 ? 0 : want[i]; /* 255: dropped */
		expect(p[0] == is && memcmp(p, p + 1, PAGE - 1) == 0, "%s: page %d is %d, not %d", name, i, p[0], is);
	}
	for (unsigned long i = 0; i < GROWN * PAGE; i++)
		if (heap[i] != heap_want) {
			wrong("%s: the heap is %d at %lu", name, heap[i], i);
			break;
		}
	for (unsigned long i = 0; i < GROWN * PAGE; i += 512)
		expect(data[i] == data_want[i / PAGE], "%s: data is %d at %lu", name, data[i], i);
	for (int i = 0; i < EMPTY - guarded; i++)
		expect(empty[i * PAGE] == empty_want[i], "%s: page %d of the empty ones is %d", name, i, empty[i * PAGE]);
	for (int i = 0; i < TILES; i++)
		expect(tiles[2 * i * PAGE] == (paved ? 77 : i % 100), "%s: tile %d is %d", name, i, tiles[2 * i * PAGE]);
	snprintf(what, sizeof(what), "%s: pair", name);
	fact(what, "%d mappings, %d %d", mappings(pair, PAIR), pair[0], pair[(PAIR - 1) * PAGE]);
	snprintf(what, sizeof(what), "%s: common", name);
	if (!apart || strcmp(name, "parent") != 0)
		fact(what, "%d %d %d %d", common(area, PAGES), common(heap, GROWN), common(data, GROWN), children > 0 ? 0 : common(empty, EMPTY) + common(tiles, paved ? PAGES : 1));
	for (int i = 0; i < children; i++) {
		char bad = judge->noting ? 'n' : 'l';
		check(write(below[i].ask, &bad, 1) == 1 && read(below[i].answer, &bad, 1) == 1, "child %d", i);
		expect(bad == 0, "%s: child %d finds faults", name, i);
	}
}

/* A child that runs make, and then looks when it is told to. */
static void bear(const char *called, void (*make)(void))
{
	int ask[2], answer[2];
	check(pipe(ask) == 0 && pipe(answer) == 0, "pipe");
	pid_t pid = fork();
	check(pid >= 0, "fork");
	if (pid > 0) {
		below[children++] = (struct below){ ask[1], answer[0] };
		char ready;
		check(read(answer[0], &ready, 1) == 1, "%s", called);
		return;
	}
	children = 0;
	strcpy(name, called);
	judge = calloc(1, sizeof(*judge)); /* its own faults */
	make();
	for (char c = 0; write(answer[1], &c, 1) == 1 && read(ask[0], &c, 1) == 1;) {
		judge->noting = c == 'n';
		judge->bad = 0;
		look();
		c = judge->bad != 0;
		judge->bad = 0;
	}
	_exit(0);
}

static void fill_data(int from, int step, int with)
{
	for (int i = from; i < GROWN; i += step)
		memset(data + i * PAGE, data_want[i] = with, PAGE);
}

static void writes(void)
{
	fill_data(0, 4, 5);
	for (int i = 0; i < PAGES; i += 10)
		put(i, 100);
}

static void grows(void)
{
	for (int i = 0; i < 512; i += 7)
		put(i, 55);
	heap = sbrk(GROWN * PAGE); /* a mapping of its own beside the one from fork */
	memset(heap, heap_want = 3, GROWN * PAGE);
}

static void drops(void)
{
	for (int i = 3; i < PAGES; i += 16)
		put(i, 101);
	madvise(area + 256 * PAGE, 256 * PAGE, MADV_DONTNEED);
	memset(want + 256, 255, 256);
	munmap(area + 600 * PAGE, 3 * PAGE);
	memset(want + 600, 0, 3);
	mprotect(area + 700 * PAGE, 50 * PAGE, PROT_READ);
	memset(empty, 0, 2 * PAGE);
	madvise(empty + 2 * PAGE, 2 * PAGE, GUARD_REMOVE);
	guarded = 0;
	memset(empty + 2 * PAGE, empty_want[2] = empty_want[3] = 8, 2 * PAGE);
	bear("grandchild", grows);
}

static void nothing(void) {}

static void paves(void)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE; /* which the tiles have not */
	check(mmap(tiles, PAGES * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0) == tiles, "mmap");
	memset(tiles, 77, PAGES * PAGE);
	paved = 1;
	munmap(pair + PAIR / 2 * PAGE, PAIR / 2 * PAGE);
	check(mremap(pair, PAIR / 2 * PAGE, PAIR * PAGE, 0) == pair, "mremap");
	bear("heir", nothing);
}

static void leads(void)
{
	check(setsid() > 0, "setsid");
	for (int i = 5; i < PAGES; i += 32)
		put(i, 102);
	bear("follower", writes);
}

static void shares(void)
{
	if (apart)
		*(char *)shared(PAGE) = 1;
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "shared") == 0)
		begin();
	else
		begin_in(malloc(sizeof(*judge)));
	apart = argc > 1 && strcmp(argv[1], "apart") == 0;
	int beside = argc > 1 && strcmp(argv[1], "beside") == 0;
	area = mmap(NULL, (PAIR + PAGES) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(area != MAP_FAILED && (beside ? munmap(area, PAIR * PAGE) : mprotect(area, PAIR * PAGE, PROT_NONE)) == 0, "mmap");
	area += PAIR * PAGE;
	check(madvise(area, PAGES * PAGE, MADV_NOHUGEPAGE) == 0, "mmap");
	for (int i = 0; i < PAGES; i++)
		put(i, 1 + i % 90);
	heap = (void *)(((uintptr_t)sbrk((GROWN + 1) * PAGE) + PAGE - 1) & -PAGE);
	memset(heap, heap_want, GROWN * PAGE);
	fill_data(0, 2, 4);
	empty = mmap(NULL, EMPTY * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(empty != MAP_FAILED && *(volatile char *)empty == 0, "mmap");
	guarded = madvise(empty + 2 * PAGE, 2 * PAGE, GUARD_INSTALL) == 0 ? 2 : 0;
	pair = mmap(beside ? area - PAIR * PAGE : NULL, PAIR * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (beside ? MAP_FIXED_NOREPLACE : 0), -1, 0);
	check(pair != MAP_FAILED && madvise(pair + PAIR / 2 * PAGE, PAIR / 2 * PAGE, MADV_NOHUGEPAGE) == 0, "mmap");
	memset(pair, 6, PAIR * PAGE);
	tiles = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(tiles != MAP_FAILED, "mmap");
	for (int i = 0; i < TILES; i++) {
		memset(tiles + 2 * i * PAGE, i % 100, PAGE);
		check(munmap(tiles + (2 * i + 1) * PAGE, PAGE) == 0, "munmap");
	}
	bear("writer", writes);
	bear("dropper", drops);
	bear("leader", leads);
	bear("paver", paves);
	bear("sharer", shares);
	serve(look, NULL);
}
