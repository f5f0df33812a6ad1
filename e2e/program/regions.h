/*
 * Memory to which random things are done, and of which it is known what it must
 * hold: page by page the number that its contents are made from.
 */
#include "state.h"
#include <alloca.h>
#include <sys/syscall.h>

#define PAGE 4096UL
#define REGIONS 32
#define LONGEST 128 /* pages of a region */
#define GUARD_INSTALL 102 /* MADV_GUARD_INSTALL, 6.13 */
#define GUARD_REMOVE 103
#define MSEAL 462 /* 6.10 */

enum { CLEAN = 0, /* as it was mapped: zeros, or the file's */
       ZEROS = 1, /* written */
       ANY = 2,   /* MADV_FREE: what was there, or zeros */
       FIRST = 3 };

static struct region {
	unsigned char *at;
	int n;    /* pages; 0: there is no such region */
	int file; /* -1: none */
	int from; /* its first page in the file */
	int still; /* it stays where it is, and is not unmapped: a stack, sealed */
	int constant, heap, wiped, unforked, locked;
	uint32_t tag[LONGEST];
	unsigned char guard[LONGEST], prot[LONGEST];
} regions[REGIONS];

static uint64_t dice;
static int memory = -1; /* /proc/self/mem, which shows pages of any protection */
static int files[2];

/* xorshift64* */
static uint64_t throw_dice(void)
{
	dice ^= dice >> 12;
	dice ^= dice << 25;
	dice ^= dice >> 27;
	return dice * 0x2545F4914F6CDD1DULL >> 16;
}

static int below(int n) { return n > 0 ? throw_dice() % n : 0; }

static void make_page(uint32_t tag, void *page)
{
	uint64_t x = tag + 0x9E3779B97F4A7C15ULL, *w = page;
	for (unsigned long i = 0; i < PAGE / 8; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		w[i] = x ^= x << 17;
	}
	if (tag < FIRST)
		memset(page, 0, PAGE);
}

/* What page i of r must hold. */
static void wanted(struct region *r, int i, void *page)
{
	if (r->tag[i] == CLEAN && r->file >= 0)
		check(pread(files[r->file], page, PAGE, (r->from + i) * PAGE) == PAGE, "pread");
	else
		make_page(r->tag[i], page);
}

static void look_at(struct region *r)
{
	static unsigned char is[PAGE], want[PAGE];
	for (int i = 0; i < r->n; i++) {
		ssize_t n = pread(memory, is, PAGE, (uintptr_t)r->at + i * PAGE);
		if (r->guard[i]) {
			expect(n < 0, "pid %d: guard page %d of %p can be read", getpid(), i, r->at);
			continue;
		}
		expect(n == PAGE, "pid %d: page %d of %p cannot be read", getpid(), i, r->at);
		wanted(r, i, want);
		expect(r->tag[i] == ANY || memcmp(is, want, PAGE) == 0, "pid %d: page %d of %d at %p, of file %d, number %u, holds something else",
		       getpid(), i, r->n, r->at, r->file, r->tag[i]);
	}
}

static struct region *unused(void)
{
	for (struct region *r = regions; r < regions + REGIONS; r++)
		if (r->n == 0) {
			memset(r, 0, sizeof(*r));
			r->file = -1;
			return r;
		}
	return NULL;
}

/* A region, of those that there are; mostly one is found. */
static struct region *some(void)
{
	for (int i = 0; i < 4 * REGIONS; i++) {
		struct region *r = &regions[below(REGIONS)];
		if (r->n > 0)
			return r;
	}
	return NULL;
}

static struct region *add(void *at, int n)
{
	struct region *r = unused();
	r->at = at;
	r->n = n;
	memset(r->prot, PROT_READ | PROT_WRITE, n);
	return r;
}

/*
 * An address for n pages: one at which relatives are likely to have something
 * else, one beside another region, a low one, or NULL.
 */
static void *place(int n)
{
	struct region *r;
	switch (below(8)) {
	case 0:
		return NULL;
	case 1:
		return (void *)(0x10000UL + below(600) * PAGE);
	case 2:
		r = some();
		return r && !r->still ? r->at + r->n * PAGE : NULL;
	case 3:
		r = some();
		return r && !r->still ? r->at - n * PAGE : NULL;
	}
	return (void *)(0x200000000UL + below(24) * 64 * PAGE + below(4) * PAGE);
}

static void fill(struct region *r, int from, int n)
{
	uint32_t tag = FIRST + throw_dice() % 0x7fffffff;
	int how = below(8); /* 0: zeros, 1: the same in all */
	for (int i = from; i < from + n && i < r->n; i++) {
		if (r->guard[i] || r->constant || !(r->prot[i] & PROT_WRITE))
			continue;
		r->tag[i] = how == 0 ? ZEROS : how == 1 ? tag : tag + i;
		make_page(r->tag[i], r->at + i * PAGE);
	}
}

static void map(void)
{
	int n = 1 + below(below(3) ? 12 : 60), fd = -1, file = -1, from = 0;
	int flags = MAP_PRIVATE | (below(6) ? 0 : MAP_NORESERVE);
	void *at = place(n);
	if (!unused())
		return;
	if (below(3) == 0) {
		fd = files[file = below(2)];
		from = below(20);
	} else {
		flags |= MAP_ANONYMOUS | (below(12) ? 0 : MAP_GROWSDOWN);
	}
	at = mmap(at, n * PAGE, PROT_READ | PROT_WRITE, flags | (at ? MAP_FIXED_NOREPLACE : 0), fd, from * PAGE);
	if (at == MAP_FAILED)
		return;
	struct region *r = add(at, n);
	r->file = file;
	r->from = from;
}

static void write_some(void)
{
	struct region *r = some();
	int step = 1 + below(7);
	if (r && below(3))
		fill(r, below(r->n), 1 + below(r->n));
	else if (r)
		for (int i = below(step); i < r->n; i += step)
			fill(r, i, 1);
}

/* Makes r what is left of it from page n on. */
static void cut(struct region *r, int n)
{
	r->at += n * PAGE;
	r->n -= n;
	r->from += n;
	memmove(r->tag, r->tag + n, r->n * sizeof(*r->tag));
	memmove(r->guard, r->guard + n, r->n);
	memmove(r->prot, r->prot + n, r->n);
}

static void unmap(void)
{
	struct region *r = some(), *rest = unused();
	if (!r || r->still || r->heap || !rest)
		return;
	int from = below(r->n), n = 1 + below(r->n - from);
	if (munmap(r->at + from * PAGE, n * PAGE) < 0)
		return;
	*rest = *r;
	r->n = from;
	cut(rest, from + n);
}

static void protect(void)
{
	static const int prots[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE };
	struct region *r = some();
	if (!r || r->still)
		return;
	int from = below(r->n), n = 1 + below(r->n - from), prot = prots[below(5)];
	if (mprotect(r->at + from * PAGE, n * PAGE, prot) == 0)
		memset(r->prot + from, prot, n);
}

static void move(void)
{
	struct region *r = some();
	if (!r || r->still || r->heap || r->locked)
		return;
	int n = r->n + (r->file < 0 && !r->constant ? below(10) : 0);
	if (n > LONGEST)
		return;
	void *to = place(n), *there = mmap(to, n * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | (to ? MAP_FIXED_NOREPLACE : 0), -1, 0);
	if (there == MAP_FAILED)
		return;
	if (mremap(r->at, r->n * PAGE, n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, there) == MAP_FAILED) {
		munmap(there, n * PAGE); /* r is more than one mapping */
		return;
	}
	r->at = there;
	for (int i = r->n; i < n; i++)
		r->tag[i] = CLEAN, r->guard[i] = 0, r->prot[i] = r->prot[r->n - 1];
	r->n = n;
}

/* madvise(2) for a part, or for all where the kernel keeps it with the mapping. */
static void advise(void)
{
	struct region *r = some();
	if (!r || r->still)
		return;
	int from = below(r->n), n = 1 + below(r->n - from), anonymous = r->file < 0 && !r->constant;
	void *at = r->at + from * PAGE;
	switch (below(8)) {
	case 0:
	case 1:
		if (!r->constant && !r->locked && madvise(at, n * PAGE, MADV_DONTNEED) == 0)
			memset(r->tag + from, 0, n * sizeof(*r->tag));
		break;
	case 2:
		if (anonymous && !r->locked && madvise(at, n * PAGE, MADV_FREE) == 0)
			for (int i = from; i < from + n; i++)
				r->tag[i] = r->guard[i] ? CLEAN : ANY;
		break;
	case 3:
		if (anonymous && !r->heap && madvise(r->at, r->n * PAGE, r->wiped ? MADV_KEEPONFORK : MADV_WIPEONFORK) == 0)
			r->wiped ^= 1;
		break;
	case 4:
		if (!r->heap && madvise(r->at, r->n * PAGE, r->unforked ? MADV_DOFORK : MADV_DONTFORK) == 0)
			r->unforked ^= 1;
		break;
	case 5:
		madvise(at, n * PAGE, below(2) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
		break;
	case 6:
		if (anonymous && !r->locked && madvise(at, n * PAGE, GUARD_INSTALL) == 0) {
			memset(r->guard + from, 1, n);
			memset(r->tag + from, 0, n * sizeof(*r->tag));
		}
		break;
	case 7:
		if (!r->locked && madvise(at, n * PAGE, GUARD_REMOVE) == 0)
			memset(r->guard + from, 0, n);
		break;
	}
}

static void lock(void)
{
	struct region *r = some();
	if (r && !memchr(r->guard, 1, r->n) && (r->locked ? munlock(r->at, r->n * PAGE) : mlock2(r->at, r->n * PAGE, below(2))) == 0)
		r->locked ^= 1;
}

static void seal(void)
{
	struct region *r = some();
	if (r && !r->heap && below(3) == 0 && syscall(MSEAL, r->at, r->n * PAGE, 0) == 0)
		r->still = 1;
}

/* The heap is the region that brk(2) makes; malloc has got what it needs before. */
static void grow_heap(void)
{
	struct region *r = regions;
	while (r < regions + REGIONS && !(r->n > 0 && r->heap))
		r++;
	int n = 1 + below(20);
	if (r == regions + REGIONS) {
		uintptr_t end = (uintptr_t)sbrk(0), at = (end + PAGE - 1) & -PAGE;
		if (unused() && sbrk(at - end + n * PAGE) != (void *)-1)
			add((void *)at, n)->heap = 1;
		return;
	}
	if (memchr(r->guard, 1, r->n) || r->n + n > LONGEST)
		return;
	if (below(3) == 0 && n < r->n) {
		if (sbrk(-n * PAGE) != (void *)-1)
			r->n -= n;
		return;
	}
	if (sbrk(n * PAGE) == (void *)-1)
		return;
	for (int i = r->n; i < r->n + n; i++)
		r->tag[i] = CLEAN, r->guard[i] = 0, r->prot[i] = PROT_READ | PROT_WRITE;
	r->n += n;
}

/* Shared memory holds what its maker has put there. */
static void map_shared(void)
{
	int n = 1 + below(10);
	void *at = place(n);
	if (!unused())
		return;
	at = mmap(at, n * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | (at ? MAP_FIXED_NOREPLACE : 0), -1, 0);
	if (at == MAP_FAILED)
		return;
	struct region *r = add(at, n);
	fill(r, 0, n);
	r->constant = 1;
}

/* What a child that was just forked has of its parent's regions. */
static void inherit(void)
{
	check(memory < 0 || close(memory) == 0, "close");
	check((memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC)) >= 0, "open /proc/self/mem");
	for (struct region *r = regions; r < regions + REGIONS; r++) {
		r->locked = 0;
		if (r->unforked)
			r->n = 0;
		if (r->wiped) {
			memset(r->tag, 0, sizeof(r->tag));
			memset(r->guard, 0, sizeof(r->guard));
		}
	}
}
