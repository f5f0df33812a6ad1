/*
 * heirs: processes that do random things to their memory, fork in between, and
 * have others fork, die, and execute their program. Each knows what it must find.
 *
 * usage: heirs SEED
 */
#include "regions.h"
#include <malloc.h>
#include <pthread.h>

#define MOST 40	   /* processes that are ever made */
#define DEEPEST 5  /* generations */
#define FILE_PAGES 80
#define ANSWERS 20 /* where a program that was executed finds its pipes: */
#define BIRTHS 22

static char *self, *seed;
/*
 * Pipes that all have, with a byte once one has done what it was told, and once
 * one is there. Only who told, and who bore, waits for it: both at a time.
 */
static int answers[2], births[2];
static struct {
	int made;
	pid_t pid[MOST]; /* 0: it has ended */
} *family; /* a file */
static int me;
static int generation, sharing;
static unsigned char data[20 * PAGE] __attribute__((aligned(4096))) = { 1 }; /* of the program's file */
static unsigned char bss[12 * PAGE] __attribute__((aligned(4096)));

enum { ACT = 1, LOOK };

static void live(void) __attribute__((noreturn));

static void answer(int where)
{
	char c = judge->bad != 0;
	check(write(where, &c, 1) == 1, "write");
}

static int answered(int where)
{
	char c;
	check(read(where, &c, 1) == 1, "read");
	return c;
}

/* In a new process. */
static void be(int who)
{
	me = who;
	family->pid[me] = getpid();
	dice += 0x9E3779B97F4A7C15ULL * (me + 1);
	inherit();
}

static int next(void) { return generation < DEEPEST && family->made < MOST ? family->made++ : -1; }

static void bear(int who)
{
	pid_t pid = fork();
	check(pid >= 0, "fork");
	if (pid == 0) {
		generation++;
		be(who);
		answer(births[1]);
		live();
	}
}

static void bear_one(void)
{
	int who = next();
	if (who < 0)
		return;
	bear(who);
	check(!answered(births[0]), "process %d", who);
}

static void *bear_and_stay(void *who)
{
	if (who)
		bear(*(int *)who);
	for (;;)
		pause();
	return NULL;
}

static void bear_in_thread(void)
{
	pthread_t t;
	int who = next();
	check(pthread_create(&t, NULL, bear_and_stay, who < 0 ? NULL : &who) == 0, "pthread_create");
	check(who < 0 || !answered(births[0]), "process %d", who);
}

/* Once it is there, it says so in that pipe. */
static void execute(int who, int where)
{
	char number[16], pipe[16];
	sprintf(number, "%d", who);
	sprintf(pipe, "%d", where);
	execl(self, self, seed, number, pipe, NULL);
	_exit(72);
}

static void bear_program(void)
{
	int who = next();
	if (who < 0)
		return;
	if (vfork() == 0)
		execute(who, births[1]);
	check(!answered(births[0]), "process %d", who);
}

/* From here on it lives with so much more of its stack. */
static void go_deeper(void)
{
	static int deep;
	int n = 1 + below(30);
	if (me == 0 || deep++ > 2 || !unused())
		return; /* the first one answers to others */
	unsigned char *stack = alloca((n + 1) * PAGE);
	struct region *r = add((void *)(((uintptr_t)stack + PAGE - 1) & -PAGE), n);
	r->still = 1;
	fill(r, 0, n);
	answer(answers[1]);
	live();
}

static void look_at_all(void)
{
	for (struct region *r = regions; r < regions + REGIONS; r++)
		look_at(r);
	expect(family->pid[me] == getpid(), "pid %d is not that of process %d", getpid(), me);
}

static void act(void)
{
	for (int n = 3 + below(30); n > 0; n--)
		switch (below(32)) {
		case 0 ... 5:
			map();
			break;
		case 6 ... 13:
			write_some();
			break;
		case 14 ... 15:
			unmap();
			break;
		case 16 ... 17:
			protect();
			break;
		case 18 ... 19:
			move();
			break;
		case 20 ... 22:
			advise();
			break;
		case 23:
			below(2) ? lock() : seal();
			break;
		case 24:
			grow_heap();
			break;
		case 25:
			if (sharing && below(3) == 0)
				map_shared();
			break;
		case 26 ... 28:
			bear_one();
			break;
		case 29:
			below(2) ? bear_in_thread() : bear_program();
			break;
		case 30:
			if (me > 0 && below(2))
				below(2) ? setsid() : setpgid(0, 0);
			break;
		case 31:
			if (me > 0 && below(4) == 0) {
				family->pid[me] = 0;
				answer(answers[1]);
				_exit(0);
			}
			if (me > 0 && below(3) == 0)
				execute(me, answers[1]);
		}
}

static void live(void)
{
	sigset_t asked;
	sigemptyset(&asked);
	sigaddset(&asked, SIGUSR1);
	for (siginfo_t si;;) {
		check(sigwaitinfo(&asked, &si) > 0, "sigwaitinfo");
		judge->bad = 0;
		if (si.si_value.sival_int == ACT) {
			act();
			if (below(8) == 0)
				go_deeper();
		}
		look_at_all();
		answer(answers[1]);
	}
}

/* Has one after another do something, those made meanwhile too. */
static void tell(int what)
{
	for (int i = 1; i < family->made; i++) {
		if (family->pid[i] == 0)
			continue;
		check(sigqueue(family->pid[i], SIGUSR1, (union sigval){ .sival_int = what }) == 0, "sigqueue to process %d", i);
		expect(!answered(answers[0]), "process %d finds faults", i);
	}
}

static void look(void)
{
	look_at_all();
	tell(LOOK);
	if (judge->bad || judge->noting)
		return;
	act();
	tell(ACT);
}

static void open_files(int create)
{
	static unsigned char page[PAGE];
	for (int i = 0; i < 2; i++) {
		char name[32];
		sprintf(name, "heirs-%s-%d", seed, i);
		check((files[i] = open(name, O_RDWR | O_CLOEXEC | create, 0600)) >= 0, "open %s", name);
		for (int j = 0; create && j < FILE_PAGES; j++) {
			make_page(FIRST + i * FILE_PAGES + j, page);
			check(pwrite(files[i], page, PAGE, j * PAGE) == PAGE, "pwrite");
		}
	}
	char name[32];
	sprintf(name, "heirs-%s", seed);
	int fd = open(name, O_RDWR | O_CLOEXEC | create, 0600);
	check(fd >= 0 && ftruncate(fd, PAGE) == 0, "open %s", name);
	family = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(family != MAP_FAILED, "mmap");
	close(fd);
}

/* A pipe that programs executed later find. */
static void make_pipe(int ends[2], int at)
{
	check(pipe(ends) == 0 && dup2(ends[0], at) == at && dup2(ends[1], at + 1) == at + 1, "pipe");
}

int main(int argc, char **argv)
{
	check(argc > 1, "usage: heirs SEED");
	self = argv[0];
	seed = argv[1];
	static struct judgement own;
	begin_in(&own);
	mallopt(M_TRIM_THRESHOLD, 1 << 30); /* what is freed stays: malloc has enough of the heap */
	void *volatile room = malloc(100000);
	free(room);
	dice = strtoul(seed, NULL, 10) + 1;
	sharing = dice % 2;
	open_files(argc > 2 ? 0 : O_CREAT | O_TRUNC);
	fill(add(bss, sizeof(bss) / PAGE), 2, 7);
	regions[0].still = 1;
	add(data, sizeof(data) / PAGE)->still = 1;
	for (unsigned long i = 0; i < sizeof(data) / PAGE; i++)
		fill(&regions[1], i, 1);
	if (argc > 2) {
		answers[0] = ANSWERS, answers[1] = ANSWERS + 1, births[0] = BIRTHS, births[1] = BIRTHS + 1;
		generation = 2;
		be(atoi(argv[2]));
		judge->noting = 0;
		answer(atoi(argv[3]));
		live();
	}
	make_pipe(answers, ANSWERS);
	make_pipe(births, BIRTHS);
	family->made = 1;
	be(0);
	judge->noting = 0;
	for (int i = 0; i < 2; i++) {
		act();
		tell(ACT);
	}
	judge->noting = 1;
	serve(look, NULL);
}
