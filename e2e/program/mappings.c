/*
 * mappings: memory in all the shapes that mmap(2), mremap(2), mprotect(2),
 * madvise(2), mlock(2) and mbind(2) give it: what each page holds or what signal it
 * gives, and how the kernel lists it.
 */
#include "state.h"
#include <linux/mempolicy.h>
#include <setjmp.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#define P 4096UL
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static char *map(size_t pages, int prot, int flags, int fd, off_t at)
{
	char *p = mmap(NULL, pages * P, prot, flags, fd, at * P);
	check(p != MAP_FAILED, "mmap");
	return p;
}

static void fill(char *p, size_t pages, int with)
{
	for (size_t i = 0; i < pages; i++)
		p[i * P] = with + i;
}

/* A file of so many pages, each with its number. */
static int file(size_t pages)
{
	char name[] = "mappings-XXXXXX";
	int fd = mkstemp(name);
	check(fd >= 0 && ftruncate(fd, pages * P) == 0, "mkstemp");
	for (size_t i = 0; i < pages; i++)
		check(pwrite(fd, &(char){ i + 1 }, 1, i * P) == 1, "pwrite");
	return fd;
}

static sigjmp_buf back;
static void hit(int sig, siginfo_t *si, void *context)
{
	(void)context;
	siglongjmp(back, sig * 256 + si->si_code);
}

/* The byte at p, or the signal of reading it and its code, less 65536. */
static int byte(volatile char *p)
{
	int sig = sigsetjmp(back, 1);
	return sig ? sig - 65536 : *p;
}

static void pages(const char *name, char *p, size_t n)
{
	static char text[1 << 12];
	char *at = text;
	for (size_t i = 0; i < n; i++)
		at += sprintf(at, " %d", byte(p + i * P));
	fact(name, "%s", text);
}

/* What the kernel lists, with a newline before it. */
static char *smaps(void)
{
	static char text[1 << 20] = "\n";
	FILE *f = fopen("/proc/self/smaps", "r");
	check(f, "smaps");
	text[1 + fread(text + 1, 1, sizeof(text) - 2, f)] = 0;
	fclose(f);
	return text;
}

/*
 * How the kernel lists the mapping that begins at p, but for what sticks to it of
 * the past: that it was writable ("ac"), or part of one with guard pages ("gu").
 */
static void listed(const char *what, void *p)
{
	char name[64];
	snprintf(name, sizeof(name), "%.40s, listed", what);
	char start[32];
	sprintf(start, "\n%08lx-", (unsigned long)p);
	char *at = strstr(smaps(), start), *flags = at ? strstr(at, "VmFlags:") : NULL;
	check(flags, "%s: no flags", what);
	*strchr(flags, '\n') = 0;
	for (int i = 0; i < 2; i++) {
		char *past = strstr(flags, i ? " ac" : " gu");
		if (past)
			memmove(past, past + 3, strlen(past + 3) + 1);
	}
	fact(name, "%.*s %s", (int)strcspn(at + 1, " ") + 5, at + 1, flags);
}

/* Mappings, each with a name for its facts. */
static struct part {
	char name[32];
	char *at;
	size_t pages;
} parts[64];
static int count;

static void part(const char *name, char *at, size_t n)
{
	struct part *p = &parts[count++];
	snprintf(p->name, sizeof(p->name), "%s", name);
	p->at = at, p->pages = n;
}

/* Every protection, in memory of every sort; what it hides is seen at the end. */
static void protections(void)
{
	int fd = file(64);
	char name[32];
	char *sort[] = {
		map(64, RW, ANON, -1, 0), map(64, RW, MAP_PRIVATE, fd, 0), map(64, RW, MAP_SHARED, fd, 0), map(64, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0),
	};
	fill(sort[0], 64, 30), fill(sort[1], 60, 50), fill(sort[2], 64, 20), fill(sort[3], 64, 40);
	for (int i = 0; i < 4; i++)
		for (int prot = 0; prot < 8; prot++) {
			check(mprotect(sort[i] + prot * 8 * P, 8 * P, prot) == 0, "mprotect");
			sprintf(name, "sort %d, protection %d", i, prot);
			part(name, sort[i] + prot * 8 * P, 8);
		}
	close(fd);
}

/* A file that has become shorter, and mappings behind the end of one. */
static void truncated(void)
{
	int fd = file(16), gone = memfd_create("short", 0);
	char *private = map(16, RW, MAP_PRIVATE, fd, 0);
	private[2 * P] = private[12 * P] = 77;
	part("truncated, private", private, 16);
	part("truncated, shared", map(16, RW, MAP_SHARED, fd, 0), 16);
	check(ftruncate(fd, 8 * P + 100) == 0, "ftruncate");
	part("behind the end", map(4, PROT_READ, MAP_SHARED, fd, 64), 4);
	part("far behind the end", map(4, PROT_READ, MAP_PRIVATE, fd, 1L << 28), 4);
	char *locked = map(16, PROT_READ, MAP_SHARED, fd, 0), *none = map(4, PROT_NONE, ANON, -1, 0);
	mlock(locked, 16 * P), mlock(none, 4 * P); /* fail to read it in, and lock */
	part("locked and truncated", locked, 16);
	part("locked and without access", none, 4);
	close(fd);
	check(gone >= 0 && ftruncate(gone, 8 * P) == 0, "memfd");
	char *shared = map(8, RW, MAP_SHARED, gone, 0);
	fill(shared, 8, 1);
	check(ftruncate(gone, 3 * P) == 0, "ftruncate");
	part("truncated memfd", shared, 8);
	close(gone);
}

/* Both ends of the address space. */
static void ends(void)
{
	int prot = MAP_FIXED_NOREPLACE | ANON;
	char *top = mmap((void *)0x7fffffffe000, P, RW, prot, -1, 0), *low = mmap((void *)0x10000, P, RW, prot, -1, 0);
	check(top == (void *)0x7fffffffe000 && low == (void *)0x10000, "mmap");
	*top = 1, *low = 2;
	part("top", top, 1), part("low", low, 1);
}

static char *whole, *moved;

/* Shared memory in pieces, here and there; pages that were moved away. */
static void pieces(void)
{
	whole = map(64, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fill(whole, 64, 1);
	char *again = mremap(whole + 8 * P, 0, 8 * P, MREMAP_MAYMOVE);
	moved = mremap(whole + 16 * P, 8 * P, 8 * P, MREMAP_MAYMOVE | MREMAP_FIXED, map(8, PROT_NONE, ANON, -1, 0));
	check(again != MAP_FAILED && moved != MAP_FAILED && munmap(whole + 56 * P, 8 * P) == 0 && mprotect(again, P, PROT_READ) == 0, "mremap");
	part("shared, first", whole, 16), part("shared, last", whole + 24 * P, 32), part("shared, again", again, 8), part("shared, moved", moved, 8);

	char *from = map(8, RW, ANON, -1, 0);
	fill(from, 8, 60);
	char *to = mremap(from, 8 * P, 8 * P, MREMAP_MAYMOVE | 4 /* MREMAP_DONTUNMAP */, NULL);
	check(to != MAP_FAILED, "mremap");
	part("left", from, 8), part("arrived", to, 8);

	int fd = file(8);
	char *turned = map(8, RW, MAP_SHARED, fd, 0);
	for (int i = 0; i < 8; i++)
		check(remap_file_pages(turned + i * P, P, 0, 7 - i, 0) == 0, "remap_file_pages");
	part("turned", turned, 8);
	close(fd);
}

/* Guard pages, also in files (MADV_GUARD_INSTALL; 6.13, and 6.15). */
static void guards(void)
{
	int fd = file(16);
	char *sort[] = { map(16, RW, ANON, -1, 0), map(16, RW, MAP_PRIVATE, fd, 0), map(16, RW, MAP_SHARED, fd, 0) };
	for (int i = 0; i < 3; i++) {
		sort[i][P] = 9;
		madvise(sort[i] + 4 * P, 2 * P, 102), madvise(sort[i] + 15 * P, P, 102);
	}
	part("guards", sort[0], 16), part("guards, private", sort[1], 16), part("guards, shared", sort[2], 16);
	close(fd);
}

/* A System V segment with advice, and locked where there is access. */
static void segment(void)
{
	if (getenv("CKPT_E2E_ADOPTED")) /* it would be the host's, and is refused */
		return;
	int id = shmget(IPC_PRIVATE, 4 * P, 0600 | IPC_CREAT);
	char *at = shmat(id, NULL, 0);
	check(id >= 0 && at != (void *)-1 && shmctl(id, IPC_RMID, NULL) == 0, "shmat");
	fill(at, 4, 7);
	check(madvise(at, 4 * P, MADV_DONTFORK) == 0 && madvise(at, 4 * P, MADV_DONTDUMP) == 0 && mlock(at, 4 * P) == 0, "madvise");
	part("segment", at, 4);
}

/* Memory that is to be on a node of choice, in parts (mbind(2)). */
static void bound(void)
{
	char *private = map(8, RW, ANON, -1, 0), *shared = map(4, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned long node = 1;
	private[0] = 1;
	syscall(SYS_mbind, private + 2 * P, 2 * P, MPOL_BIND, &node, 64, 0);
	syscall(SYS_mbind, private + 5 * P, P, MPOL_INTERLEAVE | MPOL_F_STATIC_NODES, &node, 64, 0);
	syscall(SYS_mbind, shared + P, P, MPOL_PREFERRED, &node, 64, 0);
	part("bound, first", private, 2), part("bound, third", private + 2 * P, 2), part("bound, sixth", private + 5 * P, 1);
	part("shared, bound", shared + P, 1);
}

/* Shared memory of which there is little: looking at it must not make it more. */
static char *sparse;
static void holes(void)
{
	sparse = map(1 << 18, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	sparse[P] = 1, sparse[(1UL << 30) - 1] = 2;
}

static void look_at_holes(void)
{
	char start[32];
	fact("sparse", "%d %d", sparse[P], sparse[(1UL << 30) - 1]);
	sprintf(start, "\n%08lx-", (unsigned long)sparse);
	char *at = strstr(smaps(), start), *rss = at ? strstr(at, "Rss:") : NULL;
	fact("sparse, resident", "%.*s", rss ? (int)strcspn(rss, "\n") : 0, rss);
}

/* Sealed memory (mseal(2), 6.10). */
static char *sealed;
static void seals(void)
{
	int fd = file(4);
	char *sort[] = { map(4, RW, ANON, -1, 0), map(4, PROT_READ, MAP_PRIVATE, fd, 0), map(4, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0) };
	sort[0][0] = 3, sort[2][P] = 4;
	for (int i = 0; i < 3; i++)
		syscall(462, sort[i], 4 * P, 0);
	sealed = sort[0];
	part("sealed", sort[0], 4), part("sealed, private", sort[1], 4), part("sealed, shared", sort[2], 4);
	close(fd);
}

/* Where the memory at p is to be. */
static void policy(const char *what, char *p)
{
	char name[64];
	int mode = -1;
	unsigned long nodes[16] = { 0 };
	syscall(SYS_get_mempolicy, &mode, nodes, 1024, p, MPOL_F_ADDR);
	snprintf(name, sizeof(name), "%.40s, policy", what);
	fact(name, "%x of %lx", mode, nodes[0]);
}

static void look(void)
{
	for (int i = 0; i < count; i++) {
		pages(parts[i].name, parts[i].at, parts[i].pages);
		listed(parts[i].name, parts[i].at);
		policy(parts[i].name, parts[i].at);
	}
	look_at_holes();
	int r = mprotect(sealed, P, RW);
	fact("change of sealed memory", "%d", r);
	fact("end of the heap", "%p", sbrk(0));
}

static int deep(int n)
{
	volatile char here[1 << 16];
	here[0] = here[sizeof(here) - 1] = n;
	return n == 0 ? 0 : deep(n - 1) + here[0] - here[sizeof(here) - 1];
}

static char *down;

/* What grows by itself still does, and what was hidden is there. */
static void finish(void)
{
	for (int i = 1; i <= 5; i++) {
		down[-i * (long)P] = i;
		expect(byte(down - i * P) == i, "memory that grows down has not grown");
	}
	deep(100);
	char *end = sbrk(50 * P);
	expect(end != (void *)-1 && (*end = 1), "the heap does not grow");
	whole[P] = 99;
	moved[P] = 98;
	for (int i = 0; i < 8; i++)
		for (int k = 0; k < 8 && i < 4; k++) {
			struct part *p = &parts[8 * i + k] /* made first */;
			works(mprotect(p->at, 8 * P, RW), "mprotect");
			static const char first[] = { 30, 50, 20, 40 };
			for (int n = 0; n < 8; n++) {
				int at = 8 * k + n, want = i == 1 && at >= 60 ? 20 + at : first[i] + at;
				expect(byte(p->at + n * P) == (char)want, "%s: page %d holds %d", p->name, n, byte(p->at + n * P));
			}
		}
}

int main(void)
{
	begin();
	struct sigaction a = { .sa_sigaction = hit, .sa_flags = SA_SIGINFO };
	check(sigaction(SIGSEGV, &a, NULL) == 0 && sigaction(SIGBUS, &a, NULL) == 0, "sigaction");
	protections();
	truncated();
	ends();
	pieces();
	guards();
	segment();
	bound();
	holes();
	seals();
	char *room = map(256, PROT_NONE, ANON, -1, 0);
	check(munmap(room, 256 * P) == 0, "munmap");
	down = mmap(room + 250 * P, 2 * P, RW, ANON | MAP_FIXED | MAP_GROWSDOWN, -1, 0);
	check(down != MAP_FAILED, "mmap");
	part("growing down", down, 2);
	serve(look, finish);
}
