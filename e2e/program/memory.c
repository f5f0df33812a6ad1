// memory.c makes mappings of every sort, remembers what they hold and how
// /proc/self/smaps shows them, and checks both again on every SIGUSR1.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sys/syscall.h>
#include <unistd.h>

#define P 4096UL
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif
static void die(const char *what) { perror(what); exit(1); }
static char *map(size_t n, int prot, int flags, int fd, off_t off) {
	char *p = mmap(NULL, n, prot, flags, fd, off);
	if (p == MAP_FAILED) die("mmap");
	return p;
}
// fill writes a pattern that depends on the address's page number in the map.
static void fill(char *p, size_t n, int seed) {
	for (size_t i = 0; i < n; i += 64) p[i] = (char)(seed + i / P * 7 + i);
}
static int check(const char *name, char *p, size_t n, int seed) {
	for (size_t i = 0; i < n; i += 64)
		if (p[i] != (char)(seed + i / P * 7 + i)) { printf("%s: wrong byte at %zu\n", name, i); return 1; }
	return 0;
}
// shape is smaps without what may change: sizes of what is resident.
static char *shape(void) {
	FILE *f = fopen("/proc/self/smaps", "r");
	static char texts[2][4 << 20];
	static int turn;
	char *out = texts[turn], *q = out, line[8192];
	turn = 1; // the first text stays
	out[0] = 0;
	while (fgets(line, sizeof line, f)) {
		int digits = (line[0] >= '0' && line[0] <= '9') || (line[0] >= 'a' && line[0] <= 'f');
		if (strstr(line, "[heap]") || strstr(line, "[stack]")) { strcpy(q, line + 26); q += strlen(q); continue; }
		if (digits && (strstr(line, "/dev/zero") || strstr(line, "memfd:") || strstr(line, "SYSV") || strstr(line, "(deleted)"))) {
			char *name = strchr(line, '/'); // without the inode number
			sprintf(line + 44, " %s", name);
		}
		char *guard = strncmp(line, "VmFlags", 7) ? NULL : strstr(line, " gu");
		if (guard) memmove(guard, guard + 3, strlen(guard + 3) + 1); // it sticks to what was once merged with a guarded mapping
		char *dirty = strncmp(line, "VmFlags", 7) ? NULL : strstr(line, " sd");
		if (dirty) memmove(dirty, dirty + 3, strlen(dirty + 3) + 1); // soft-dirty (Debian's kernels): every new mapping is
		if (digits || !strncmp(line, "VmFlags", 7)) { strcpy(q, line); q += strlen(q); }
	}
	fclose(f);
	return out;
}
static volatile sig_atomic_t asked;
static char stdout_buffer[BUFSIZ];
static void ask(int s) { (void)s; asked++; }

int main(void) {
	setvbuf(stdout, stdout_buffer, _IOLBF, sizeof stdout_buffer); // no malloc later: it would move the heap's end
	char path[] = "memory-XXXXXX"; // in the working directory
	int fd = mkstemp(path);
	if (fd < 0 || ftruncate(fd, 64 * P)) die("file");
	char *anon = map(32 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fill(anon, 32 * P, 1);
	char *ro = map(8 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fill(ro, 8 * P, 2);
	mprotect(ro, 8 * P, PROT_READ);
	char *none = map(8 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fill(none, 8 * P, 3);
	mprotect(none, 8 * P, PROT_NONE);
	char *exec = map(2 * P, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fill(exec, 2 * P, 4);
	char *shared = map(16 * P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fill(shared, 8 * P, 5); // the second half is a hole
	char *sharedro = map(4 * P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fill(sharedro, 4 * P, 6);
	mprotect(sharedro, 4 * P, PROT_READ);
	munmap(shared + 4 * P, P); // a part of it unmapped
	char *priv = map(16 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 8 * P);
	fill(priv, 4 * P, 7); // four pages of its own, the rest the file's
	char *fshared = map(8 * P, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 32 * P);
	fill(fshared, 8 * P, 8);
	char *down = map(16 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
	fill(down, 16 * P, 9);
	char *locked = map(8 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fill(locked, 8 * P, 10);
	if (mlock(locked, 8 * P)) die("mlock");
	char *onfault = map(8 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mlock2(onfault, 8 * P, MLOCK_ONFAULT)) die("mlock2");
	fill(onfault, 2 * P, 11);
	int advice[] = {MADV_DONTFORK, MADV_DONTDUMP, MADV_MERGEABLE, MADV_NOHUGEPAGE, MADV_HUGEPAGE, MADV_WIPEONFORK, MADV_RANDOM, MADV_SEQUENTIAL};
	char *adv[8];
	for (int i = 0; i < 8; i++) {
		adv[i] = map(2 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		mmap(NULL, P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		fill(adv[i], 2 * P, 20 + i);
		if (madvise(adv[i], 2 * P, advice[i])) fprintf(stderr, "advice %d is not known here\n", advice[i]);
	}
	size_t huge = 8 << 20;
	char *thp = (char *)(((unsigned long)map(huge + (2 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + (2 << 20) - 1) & ~((2UL << 20) - 1));
	madvise(thp, huge, MADV_HUGEPAGE);
	fill(thp, huge, 30);
	char *noreserve = map(1 << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	fill(noreserve + (512 << 20), 4 * P, 31);
	unsigned long node = 1; // beside the 6000 mappings that are made below
	syscall(SYS_mbind, noreserve, 4 * P, 2 /* MPOL_BIND */, &node, 64, 0);
	int mfd = memfd_create("checked", MFD_ALLOW_SEALING);
	if (mfd < 0 || ftruncate(mfd, 16 * P)) die("memfd");
	char *mem = map(16 * P, PROT_READ | PROT_WRITE, MAP_SHARED, mfd, 0);
	fill(mem, 16 * P, 32);
	char *mem2 = map(8 * P, PROT_READ | PROT_WRITE, MAP_SHARED, mfd, 8 * P);
	char *mempriv = map(8 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE, mfd, 0);
	fill(mempriv, P, 33);
	char *named = map(4 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fill(named, 4 * P, 34);
	prctl(0x53564d41, 0, named, 4 * P, "my name");
	mmap(NULL, 4 * P, PROT_READ | PROT_WRITE, MAP_DROPPABLE | MAP_ANONYMOUS, -1, 0);
	char *zero = map(4 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE, open("/dev/zero", O_RDWR), 0);
	fill(zero, 2 * P, 35);
	// Files that nothing leads to but mappings.
	char gonepath[] = "gone-XXXXXX";
	int gfd = mkstemp(gonepath);
	char *gone = map(8 * P, PROT_READ | PROT_WRITE, MAP_SHARED, gfd, 0);
	if (ftruncate(gfd, 8 * P - 100) || unlink(gonepath)) die("gone");
	fill(gone, 8 * P - 128, 40);
	char *gonepriv = map(4 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE, gfd, 2 * P);
	fill(gonepriv, P, 41);
	char *gonero = map(2 * P, PROT_NONE, MAP_PRIVATE, gfd, 5 * P);
	close(gfd);
	int closed = memfd_create("closed", 0);
	if (closed < 0 || ftruncate(closed, 4 * P)) die("memfd");
	char *gonemem = map(4 * P, PROT_READ | PROT_WRITE, MAP_SHARED, closed, 0);
	fill(gonemem, 4 * P, 42);
	close(closed);
	char *guarded = map(32 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fill(guarded, 32 * P, 37);
	int guards = madvise(guarded + 3 * P, 2 * P, 102 /* MADV_GUARD_INSTALL, 6.13 */) == 0 && madvise(guarded + 31 * P, P, 102) == 0;
	mlock(guarded + 30 * P, 2 * P); // it locks, and fails to read in the last page
	int reader[2];
	if (pipe(reader)) die("pipe");
	free(malloc(64 << 10));
	char *brk = sbrk(64 * P);
	fill(brk, 64 * P, 36);
	enum { MANY = 3000 };
	char *many = map(2 * MANY * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < MANY; i++) { fill(many + 2 * i * P, P, i); mprotect(many + 2 * i * P, P, PROT_READ); }

	signal(SIGUSR1, ask);
	pid_t child = fork();
	if (child == 0) {
		char *before = shape();
		int round = 0;
		for (;;) { // bumps a counter that the parent sees
			shared[100]++; mem[100]++; fshared[100]++; gone[100]++; gonemem[100]++;
			usleep(2000);
			(void)before; (void)round;
		}
	}
	char *before = shape();
	printf("ready\n"); fflush(stdout);
	for (int seen = 0;;) {
		if (asked == seen) { pause(); continue; }
		seen = asked;
		int bad = 0;
		char *now = shape();
		if (strcmp(before, now)) {
			bad = 1;
			char *a = before, *b = now; int shown = 0;
			while (*a && *b && shown < 6) {
				char *ea = strchr(a, '\n'), *eb = strchr(b, '\n');
				if (ea - a != eb - b || memcmp(a, b, ea - a)) { printf("smaps was %.*s\nsmaps is  %.*s\n", (int)(ea - a), a, (int)(eb - b), b); shown++; }
				a = ea + 1; b = eb + 1;
			}
		}
		unsigned char c1 = shared[100], c2 = mem[100], c3 = fshared[100];
		for (int i = 0; i < 2000 && (c1 == (unsigned char)shared[100] || c2 == (unsigned char)mem[100] || c3 == (unsigned char)fshared[100]); i++) usleep(5000);
		if (c1 == (unsigned char)shared[100] || c2 == (unsigned char)mem[100] || c3 == (unsigned char)fshared[100]) { bad = 1; printf("the child is not seen in shared memory\n"); }
		if (mem[8 * P + 200] = 77, mem2[200] != 77) { bad = 1; printf("two mappings of a memfd differ\n"); }
		mem[8 * P + 200] = 0;
		bad |= check("anon", anon, 32 * P, 1) | check("ro", ro, 8 * P, 2) | check("exec", exec, 2 * P, 4);
		mprotect(none, 8 * P, PROT_READ); bad |= check("none", none, 8 * P, 3); mprotect(none, 8 * P, PROT_NONE);
		bad |= check("shared", shared + P, 3 * P, 5 + 7) | check("shared", shared + 5 * P, 3 * P, 5 + 35) | check("sharedro", sharedro, 4 * P, 6);
		for (size_t i = 8 * P; i < 16 * P; i++) if (shared[i]) { bad = 1; printf("a hole is not zero\n"); break; }
		bad |= check("priv", priv, 4 * P, 7) | check("fshared", fshared + P, 7 * P, 8 + 7) | check("down", down, 16 * P, 9);
		for (size_t i = 4 * P; i < 16 * P; i++) if (priv[i]) { bad = 1; printf("a page of the file changed\n"); break; }
		bad |= check("locked", locked, 8 * P, 10) | check("onfault", onfault, 2 * P, 11) | check("thp", thp, huge, 30);
		for (int i = 0; i < 8; i++) bad |= check("advised", adv[i], 2 * P, 20 + i);
		bad |= check("noreserve", noreserve + (512 << 20), 4 * P, 31) | check("memfd", mem + P, 7 * P, 32 + 7) | check("mempriv", mempriv, P, 33);
		unsigned char c4 = gone[100], c5 = gonemem[100];
		for (int i = 0; i < 2000 && (c4 == (unsigned char)gone[100] || c5 == (unsigned char)gonemem[100]); i++) usleep(5000);
		if (c4 == (unsigned char)gone[100] || c5 == (unsigned char)gonemem[100]) { bad = 1; printf("the child is not seen in a deleted file\n"); }
		bad |= check("gone", gone + P, 7 * P - 128, 40 + 7) | check("gonemem", gonemem + P, 3 * P, 42 + 7);
		bad |= check("gonepriv", gonepriv, P, 41) | check("gonepriv", gonepriv + P, 3 * P, 40 + 3 * 7);
		mprotect(gonero, 2 * P, PROT_READ); bad |= check("gonero", gonero, 2 * P, 40 + 5 * 7); mprotect(gonero, 2 * P, PROT_NONE);
		gone[5 * P + 64 + 1] = 99; // seen through another mapping
		mprotect(gonero, P, PROT_READ); if (gonero[64 + 1] != 99) { bad = 1; printf("two mappings of a deleted file differ\n"); } mprotect(gonero, P, PROT_NONE);
		gone[5 * P + 64 + 1] = 0;
		bad |= check("guarded", guarded, 3 * P, 37) | check("guarded", guarded + 5 * P, 26 * P, 37 + 35);
		for (int i = 0; i < 32; i++) {
			char byte;
			int readable = write(reader[1], guarded + i * P, 1) == 1 && read(reader[0], &byte, 1) == 1;
			if (readable == (guards && (i == 3 || i == 4 || i == 31))) { bad = 1; printf("page %d is %sguarded\n", i, readable ? "not " : ""); }
		}
		int mode = -1;
		if (syscall(SYS_get_mempolicy, &mode, NULL, 0, noreserve, 2 /* MPOL_F_ADDR */) == 0 && mode != 2) { bad = 1; printf("the memory policy is %d\n", mode); }
		bad |= check("named", named, 4 * P, 34) | check("zero", zero, 2 * P, 35) | check("brk", brk, 64 * P, 36);
		for (int i = 0; i < MANY; i++) bad |= check("many", many + 2 * i * P, P, i);
		if (sbrk(0) != brk + 64 * P) { bad = 1; printf("brk moved\n"); }
		madvise(anon, P, MADV_DONTNEED);
		if (anon[0]) { bad = 1; printf("MADV_DONTNEED gave no zeros\n"); }
		fill(anon, P, 1);
		printf("%s %d\n", bad ? "BAD" : "good", seen); fflush(stdout);
	}
}
