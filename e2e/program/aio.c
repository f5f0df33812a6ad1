/*
 * aio: contexts of io_setup(2), with completed requests that nobody has fetched.
 */
#include "state.h"
#include <linux/aio_abi.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

/* fs/aio.c */
struct ring {
	unsigned id, nr, head, tail, magic, compat, incompat, header;
	struct io_event events[];
};

static aio_context_t empty, some, wrapped, big;
static int file, bell;
static unsigned long serial;

static void submit(aio_context_t c, int n)
{
	static struct iocb cb[1024], *list[1024];
	static char text[] = "0123456789";
	for (int i = 0; i < n; i++) {
		memset(cb + i, 0, sizeof(*cb));
		cb[i].aio_lio_opcode = IOCB_CMD_PWRITE;
		cb[i].aio_fildes = file;
		cb[i].aio_buf = (uint64_t)text;
		cb[i].aio_nbytes = 1 + i % 10;
		cb[i].aio_data = ++serial;
		cb[i].aio_flags = IOCB_FLAG_RESFD;
		cb[i].aio_resfd = bell;
		list[i] = cb + i;
	}
	check(syscall(SYS_io_submit, c, (long)n, list) == n, "io_submit");
}

static long get(aio_context_t c, long n, struct io_event *e)
{
	struct timespec now = { 0 };
	return syscall(SYS_io_getevents, c, 0L, n, e, &now);
}

/* n events whose data counts from first. */
static void take(const char *what, aio_context_t c, long n, unsigned long first)
{
	static struct io_event e[1024];
	long got = get(c, n, e);
	expect(got == n, "%s: %ld events, want %ld", what, got, n);
	for (long i = 0; i < got; i++)
		expect(e[i].data == first + i && e[i].res == 1 + i % 10 && e[i].obj, "%s: event %ld is %llu, %lld", what, i, e[i].data, e[i].res);
}

/* Brings the ring to where it was: as many requests as it has places. */
static void around(aio_context_t c)
{
	struct ring *r = (void *)c;
	struct io_event e[64];
	unsigned at = r->head;
	do {
		submit(c, 1);
		check(get(c, 1, e) == 1, "io_getevents");
	} while (r->head != at);
}

static unsigned long first_some, first_wrapped, first_big;

static void fill(void)
{
	first_some = serial + 1;
	submit(some, 5);
	first_wrapped = serial + 1;
	submit(wrapped, 10);
	first_big = serial + 1;
	submit(big, 500);
}

static void where(const char *name, aio_context_t c)
{
	struct ring *r = (void *)c;
	fact(name, "%lx: %u places, from %u to %u", c, r->nr, r->head, r->tail);
}

static void look(void)
{
	uint64_t rung = 0;
	where("some", some);
	where("wrapped", wrapped);
	where("big", big);
	take("some", some, 5, first_some);
	take("wrapped", wrapped, 10, first_wrapped);
	take("big", big, 500, first_big);
	struct io_event e[4];
	expect(get(some, 4, e) == 0 && get(wrapped, 4, e) == 0 && get(big, 4, e) == 0 && get(empty, 4, e) == 0, "one more event");
	expect(read(bell, &rung, 8) == 8, "eventfd: %s", strerror(errno));
	unsigned long first = serial + 1;
	submit(empty, 3);
	take("empty", empty, 3, first);
	/* As many as there is room for */
	first = serial + 1;
	submit(some, 60);
	expect(get(some, 0, e) == 0, "none asked for");
	take("filled", some, 60, first);
	around(some);
	around(wrapped);
	/* the places looked at before */
	for (struct ring *r = (void *)some; r->head != 3;) {
		submit(some, 1);
		check(get(some, 1, e) == 1, "io_getevents");
	}
	for (struct ring *r = (void *)wrapped; r->head != r->nr - 4;) {
		submit(wrapped, 1);
		check(get(wrapped, 1, e) == 1, "io_getevents");
	}
	for (struct ring *r = (void *)big; r->head != 0;) {
		submit(big, 1);
		check(get(big, 1, e) == 1, "io_getevents");
	}
	fill();
}

static void finish(void)
{
	struct io_event e[64];
	expect(get(some, 64, e) == 5, "the last look");
	works(syscall(SYS_io_destroy, some), "io_destroy");
	works(syscall(SYS_io_destroy, wrapped), "io_destroy"); /* with events in it */
	works(syscall(SYS_io_destroy, big), "io_destroy");
	works(syscall(SYS_io_destroy, empty), "io_destroy");
	aio_context_t again = 0;
	works(syscall(SYS_io_setup, 10L, &again), "io_setup");
}

int main(void)
{
	begin();
	file = open("aio", O_CREAT | O_RDWR, 0600);
	bell = eventfd(0, EFD_NONBLOCK);
	check(file >= 0 && bell >= 0, "open");
	check(syscall(SYS_io_setup, 16L, &empty) == 0 && syscall(SYS_io_setup, 60L, &some) == 0 &&
		      syscall(SYS_io_setup, 60L, &wrapped) == 0 && syscall(SYS_io_setup, 700L, &big) == 0,
	      "io_setup");
	struct io_event e[64];
	for (int i = 0; i < 3; i++) {
		submit(some, 1);
		check(get(some, 1, e) == 1, "io_getevents");
	}
	for (struct ring *r = (void *)wrapped; r->head != r->nr - 4;) {
		submit(wrapped, 1);
		check(get(wrapped, 1, e) == 1, "io_getevents");
	}
	fill();
	serve(look, finish);
}
