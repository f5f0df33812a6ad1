/*
 * hugepages [shared|segment|closed]: memory of hugetlbfs (MAP_HUGETLB): private,
 * reserved and not; shared with a child, of a memfd, or of a System V segment; or
 * of a memfd that is closed, which an ordinary user cannot save.
 */
#include "state.h"
#include <sys/shm.h>

#define HUGE (2UL << 20)

static unsigned char *reserved, *unreserved, *readable;

static void fill(unsigned char *p, int with)
{
	for (size_t i = 0; i < HUGE; i += 512)
		p[i] = with + i / 4096;
}

static void contents_of(const char *name, unsigned char *p, int with)
{
	size_t bad = 0;
	for (size_t i = 0; i < HUGE; i++)
		bad += p[i] != (i % 512 ? 0 : (unsigned char)(with + i / 4096));
	expect(bad == 0, "%s: %zu bytes are others", name, bad);
}

/* What smaps tells of the mapping at p. */
static void mapping(const char *name, void *p)
{
	char at[32], is[64], *smaps = contents("/proc/self/smaps");
	sprintf(at, "%lx-", (unsigned long)p);
	char *from = strstr(smaps, at);
	if (!from) {
		fact(name, "not at the beginning of a mapping");
		return;
	}
	fact(name, "%.*s", (int)strcspn(from, " "), from);
	/* The last of what memory has that is nobody else's. */
	const char *const keys[] = { "Size:", "KernelPageSize:", "VmFlags:", "Private_Hugetlb:", NULL };
	int private = strchr(from, ' ')[4] == 'p' && memmem(from, strcspn(from, "\n"), "/anon_hugepage", 14);
	for (const char *const *k = keys; *k && (private || k < keys + 3); k++) {
		char *line = strstr(from, *k);
		snprintf(is, sizeof(is), "%s: %s", name, *k);
		fact(is, "%.*s", line ? (int)strcspn(line, "\n") : 0, line);
	}
}

static void look(void)
{
	mapping("reserved", reserved);
	mapping("unreserved", unreserved);
	mapping("readable", readable);
	contents_of("reserved, first", reserved, 1);
	contents_of("reserved, third", reserved + 2 * HUGE, 2);
	contents_of("unreserved, second", unreserved + HUGE, 3);
	contents_of("readable", readable, 4);
}

static void finish(void)
{
	fill(reserved + HUGE, 7); /* it was kept for this */
	contents_of("reserved, second", reserved + HUGE, 7);
	check(munmap(reserved, HUGE) == 0, "munmap");
}

static unsigned char *common, *lazy, *file, *copy, *segment;
static int memfd, id;

static void look_shared(void)
{
	mapping("shared", common);
	mapping("shared, not reserved", lazy);
	mapping("shared, the third page", lazy + 2 * HUGE);
	mapping("memfd", file);
	mapping("private memfd", copy);
	contents_of("shared, second", common + HUGE, 1);
	contents_of("shared, third", lazy + 2 * HUGE, 2);
	contents_of("memfd, second", file + HUGE, 3);
	contents_of("private memfd, first", copy, 4);
	contents_of("private memfd, second", copy + HUGE, 3);
	fact_fd("memfd", memfd);
	volatile int *word = (volatile int *)common;
	expect(comes(word + 1, ++word[0]), "the child is not seen in shared memory");
}

static void look_segment(void)
{
	struct shmid_ds d;
	mapping("segment, first", segment);
	mapping("segment, third", segment + 2 * HUGE);
	contents_of("segment, first", segment, 1);
	contents_of("segment, third", segment + 2 * HUGE, 2);
	check(shmctl(id, IPC_STAT, &d) == 0, "shmctl");
	fact("segment", "%zu bytes, attached %ld times", d.shm_segsz, (long)d.shm_nattch);
}

static unsigned char *map(size_t pages, int flags) /* MAP_PRIVATE or MAP_SHARED, and more */
{
	unsigned char *p = mmap(NULL, pages * HUGE, PROT_READ | PROT_WRITE,
		MAP_ANONYMOUS | MAP_HUGETLB | 21 << MAP_HUGE_SHIFT | flags, -1, 0);
	check(p != MAP_FAILED, "mmap");
	return p;
}

static void make_memfd(void)
{
	memfd = memfd_create("huge", MFD_HUGETLB | 21 << MAP_HUGE_SHIFT);
	check(memfd >= 0 && ftruncate(memfd, 2 * HUGE) == 0, "memfd_create");
	file = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	copy = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, memfd, 0);
	check(file != MAP_FAILED && copy != MAP_FAILED, "mmap");
	fill(file + HUGE, 3), fill(copy, 4);
}

static void make_shared(void)
{
	make_memfd();
	common = map(2, MAP_SHARED), lazy = map(3, MAP_SHARED | MAP_NORESERVE);
	fill(common + HUGE, 1), fill(lazy + 2 * HUGE, 2);
	check(mprotect(lazy + 2 * HUGE, HUGE, PROT_READ) == 0 && munmap(lazy + HUGE, HUGE) == 0, "munmap");
	pid_t pid = fork();
	check(pid >= 0, "fork");
	while (pid == 0) { /* answers */
		((volatile int *)common)[1] = ((volatile int *)common)[0];
		usleep(500);
	}
}

/* All but the second of its three pages, the last of which is beyond its size. */
static void make_segment(void)
{
	id = shmget(IPC_PRIVATE, 2 * HUGE + 100, IPC_CREAT | 0600 | SHM_HUGETLB | 21 << MAP_HUGE_SHIFT);
	segment = shmat(id, NULL, 0);
	check(id >= 0 && segment != (void *)-1 && munmap(segment + HUGE, HUGE) == 0, "shmat");
	fill(segment, 1), fill(segment + 2 * HUGE, 2);
}

int main(int argc, char **argv)
{
	begin();
	const char *what = argc > 1 ? argv[1] : "";
	if (strcmp(what, "shared") == 0) {
		make_shared();
		serve(look_shared, NULL);
	} else if (strcmp(what, "segment") == 0) {
		make_segment();
		serve(look_segment, NULL);
	} else if (strcmp(what, "closed") == 0) {
		make_memfd();
		close(memfd);
		say("ready\n");
		for (;;)
			pause();
	}
	reserved = map(3, MAP_PRIVATE), unreserved = map(4, MAP_PRIVATE | MAP_NORESERVE), readable = map(1, MAP_PRIVATE);
	fill(reserved, 1), fill(reserved + 2 * HUGE, 2), fill(unreserved + HUGE, 3), fill(readable, 4);
	check(mprotect(readable, HUGE, PROT_READ) == 0, "mprotect");
	serve(look, finish);
}
