/*
 * changing.c has much memory of known contents: a parent, children that share it
 * copy-on-write, and others that have executed the program, and hold the same at
 * other addresses. At each look all of it is compared, and then a hundredth is
 * written, by each process in a way of its own.
 *
 * usage: changing [FROM TO]  (for itself: the pipes of one that is executed)
 */
#include "state.h"

#define PAGE 4096UL
#define PAGES 4096
#define EACH 40 /* pages that a process writes at a look */
#define CHILDREN 3
#define STRANGERS 2

static uint64_t *area;
static int version[PAGES];
static int me, round_of_writes;
static struct below {
	int ask, answer;
} below[CHILDREN + STRANGERS];

static uint64_t word(int page, int k) { return (page * 1000003UL + version[page]) * 512 + k; }

static void fill(int page)
{
	for (int k = 0; k < 512; k++)
		area[page * 512 + k] = word(page, k);
}

static int holds(void)
{
	for (int i = 0; i < PAGES; i++)
		for (int k = 0; k < 512; k++)
			if (area[i * 512 + k] != word(i, k))
				return 0;
	return 1;
}

static void change(void)
{
	round_of_writes++;
	for (int i = 0; i < EACH; i++) {
		int page = (i * 101 + me * 7 + round_of_writes * 37) % PAGES;
		version[page] = me * 100000 + round_of_writes;
		fill(page);
	}
}

static void make(void)
{
	area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(area != MAP_FAILED, "mmap");
	for (int i = 0; i < PAGES; i++)
		fill(i);
}

/* Looks whenever it is asked to. */
static void answer(int from, int to)
{
	for (char c; read(from, &c, 1) == 1;) {
		c = holds();
		change();
		check(write(to, &c, 1) == 1, "answer");
	}
	_exit(0);
}

static void look(void)
{
	expect(holds(), "the parent's memory has changed");
	for (int i = 0; i < CHILDREN + STRANGERS; i++) {
		char c = 'l';
		check(write(below[i].ask, &c, 1) == 1 && read(below[i].answer, &c, 1) == 1, "child %d", i);
		expect(c == 1, "the memory of child %d has changed", i);
	}
	change();
}

int main(int argc, char **argv)
{
	if (argc == 4) {
		me = atoi(argv[3]);
		make();
		answer(atoi(argv[1]), atoi(argv[2]));
	}
	begin();
	make();
	for (int i = 0; i < CHILDREN + STRANGERS; i++) {
		int ask[2], back[2];
		check(pipe(ask) == 0 && pipe(back) == 0, "pipe");
		pid_t pid = fork();
		check(pid >= 0, "fork");
		if (pid == 0) {
			me = i + 1;
			if (i < CHILDREN)
				answer(ask[0], back[1]);
			char from[16], to[16], number[16];
			sprintf(from, "%d", ask[0]);
			sprintf(to, "%d", back[1]);
			sprintf(number, "%d", me);
			execl("/proc/self/exe", "changing", from, to, number, NULL);
			fail("exec");
		}
		below[i] = (struct below){ ask[1], back[0] };
	}
	serve(look, NULL);
}
