/*
 * mqueue: POSIX message queues. Messages stay in their order, in queues that
 * the program has open, that nobody has, and that have lost their name; calls
 * go on waiting for them.
 *
 * mqueue many: thousands of them.
 *
 * mqueue notify: who is to be told of a message, and what. The kernel shows the
 * pid, and the sender's comes with the signal.
 */
#include "../state.h"
#include <mqueue.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

#define LENGTH 100
#define MOST 7

static mqd_t make(const char *name, int flags, mode_t mode, long most)
{
	struct mq_attr a = { .mq_maxmsg = most, .mq_msgsize = LENGTH };
	mqd_t q = mq_open(name, O_CREAT | O_EXCL | flags, mode, &a);
	check(q >= 0, "mq_open %s", name);
	return q;
}

static void put(mqd_t q, const char *text, unsigned priority)
{
	check(mq_send(q, text, strlen(text), priority) == 0, "mq_send %s", text);
}

/* What waits in a queue, told in the order in which it is received. It is put back. */
static void fact_messages(const char *name, mqd_t in, mqd_t out)
{
	static char text[MOST][LENGTH + 1], all[MOST * (LENGTH + 32)];
	unsigned priority[MOST];
	ssize_t length[MOST];
	struct timespec past = { 0 };
	int n = 0;
	while (n < MOST && (length[n] = mq_timedreceive(in, text[n], LENGTH, &priority[n], &past)) >= 0)
		n++;
	all[0] = 0;
	for (int i = 0; i < n; i++) {
		text[i][length[i]] = 0;
		sprintf(all + strlen(all), "%u: %zd %s; ", priority[i], length[i], text[i]);
		check(mq_send(out, text[i], length[i], priority[i]) == 0, "put %s back", text[i]);
	}
	fact(name, "%d: %s", n, all);
}

static void fact_queue(const char *name, mqd_t q)
{
	struct mq_attr a;
	char key[64];
	check(mq_getattr(q, &a) == 0, "mq_getattr %s", name);
	snprintf(key, sizeof(key), "%s: attributes", name);
	fact(key, "flags %lo, %ld of %ld messages, each up to %ld", a.mq_flags, a.mq_curmsgs, a.mq_maxmsg, a.mq_msgsize);
	struct stat st;
	char path[64], link[64] = "";
	check(fstat(q, &st) == 0, "fstat %s", name);
	sprintf(path, "/proc/self/fd/%d", q);
	link[readlink(path, link, sizeof(link) - 1)] = 0;
	snprintf(key, sizeof(key), "%s: file", name);
	fact(key, "%s, descriptor %x, description %o, at %ld, mode %o, owner %d:%d, links %lu", link, fcntl(q, F_GETFD), fcntl(q, F_GETFL),
	     lseek(q, 0, SEEK_CUR), st.st_mode, st.st_uid, st.st_gid, st.st_nlink);
	/* Whom it tells what; the kernel's own count of bytes is in it, too. */
	char text[256] = "";
	if ((fcntl(q, F_GETFL) & O_ACCMODE) != O_WRONLY) {
		check(pread(q, text, sizeof(text) - 1, 0) > 0, "read %s", name);
		snprintf(key, sizeof(key), "%s: status", name);
		fact(key, "%s", text);
	}
}

/* --- without notifications --- */

static mqd_t mixed, gone_in, gone_out, same, full, empty;
static volatile int got, sent;

static void *sender(void *arg)
{
	for (;; __atomic_add_fetch(&sent, 1, __ATOMIC_SEQ_CST))
		check(mq_send(full, "more", 4, 3) == 0, "mq_send");
	return arg;
}

static void *receiver(void *arg)
{
	char text[LENGTH];
	unsigned priority;
	for (;; __atomic_add_fetch(&got, 1, __ATOMIC_SEQ_CST)) {
		struct timespec late;
		clock_gettime(CLOCK_REALTIME, &late);
		late.tv_sec += 3600;
		check(mq_timedreceive(empty, text, sizeof(text), &priority, &late) == 4, "mq_timedreceive");
		expect(priority == 9 && memcmp(text, "news", 4) == 0, "received %.4s, priority %u", text, priority);
	}
	return arg;
}

static void look(void)
{
	fact_queue("mixed", mixed);
	fact_queue("gone in", gone_in);
	fact_queue("gone out", gone_out);
	fact_queue("same", same);
	fact_messages("mixed: messages", mixed, mixed);
	fact_messages("gone: messages", gone_in, gone_out);
	fact_messages("same: messages", same, same);

	mqd_t q = mq_open("/left", O_RDWR | O_NONBLOCK);
	works(q, "mq_open /left");
	if (q >= 0) {
		fact_queue("left", q);
		fact_messages("left: messages", q, q);
		mq_close(q);
	}
	expect(mq_open("/never", O_RDONLY) == -1 && errno == ENOENT, "a queue that never was: %s", strerror(errno));

	/* One goes out of the full queue, and one that waited comes in. */
	char text[LENGTH];
	unsigned priority;
	ssize_t n = mq_receive(full, text, sizeof(text), &priority);
	expect(n == 4 && priority == 3, "received %zd bytes, priority %u", n, priority);
	int was = got;
	put(empty, "news", 9);
	expect(comes(&got, was + 1), "who waits for a message was not woken");
}

static void plain(void)
{
	mixed = make("/mixed", O_RDWR, 0600, MOST);
	put(mixed, "b", 5);
	put(mixed, "first", 0);
	put(mixed, "c", 5);
	put(mixed, "top", 31000);
	put(mixed, "", 5);
	put(mixed, "second", 0);
	check(fchmod(mixed, 0640) == 0, "fchmod");
	if (geteuid() == 0)
		check(fchown(mixed, 12, 34) == 0, "fchown");

	/* Two of one name, which one of them has lost. */
	gone_out = make("/same", O_WRONLY | O_NONBLOCK, 0644, 4);
	check((gone_in = mq_open("/same", O_RDONLY)) >= 0, "mq_open");
	check(mq_unlink("/same") == 0, "mq_unlink");
	put(gone_out, "old", 1);
	put(gone_out, "older", 0);
	check(lseek(gone_in, 5, SEEK_SET) == 5, "lseek");
	same = make("/same", O_RDWR | O_NONBLOCK, 0600, 3);
	check(fcntl(same, F_SETFD, 0) == 0, "fcntl");
	put(same, "new", 1);

	mqd_t left = make("/left", O_WRONLY, 0600, 2);
	put(left, "for later", 17);
	put(left, "for even later", 17);
	check(mq_close(left) == 0, "mq_close");

	full = make("/full", O_RDWR, 0600, 2);
	put(full, "more", 3);
	put(full, "more", 3);
	empty = make("/empty", O_RDWR, 0600, 2);
	pthread_t t;
	check(pthread_create(&t, NULL, sender, NULL) == 0 && pthread_create(&t, NULL, receiver, NULL) == 0, "thread");
	serve(look, NULL);
}

/* --- a queue with so many messages that looking at them takes a while --- */

/* The queue of a container that has ended counts for a moment yet, and a user
 * may have some 800 kB (RLIMIT_MSGQUEUE): two of these are less. */
#define MANY 3500

static mqd_t many;

/* The n-th message received: the greatest priority first, the oldest first among equals. */
static void expected(int n, int *number, unsigned *priority)
{
	*priority = 6 - n / (MANY / 7);
	*number = *priority + 7 * (n % (MANY / 7));
}

static void look_many(void)
{
	static int got[MANY];
	static unsigned of[MANY];
	/* If ckpt was just killed they may still be on their way back, and who
	 * read already would see them in another order. */
	struct mq_attr a;
	struct timespec late;
	clock_gettime(CLOCK_REALTIME, &late);
	late.tv_sec += 20;
	while (mq_getattr(many, &a) == 0 && a.mq_curmsgs < MANY && now(CLOCK_REALTIME) < late.tv_sec * 1000000000LL)
		usleep(1000);
	for (int i = 0; i < MANY; i++) {
		int number;
		unsigned priority;
		expected(i, &number, &priority);
		check(mq_timedreceive(many, (char *)&got[i], sizeof(int), &of[i], &late) == sizeof(int), "message %d", i);
		expect(got[i] == number && of[i] == priority, "message %d is %d of priority %u, not %d of %u", i, got[i], of[i], number, priority);
	}
	for (int i = 0; i < MANY; i++)
		check(mq_send(many, (char *)&got[i], sizeof(int), of[i]) == 0, "message %d", i);
}

static void crowd(void)
{
	int fd = open("/proc/sys/fs/mqueue/msg_max", O_WRONLY);
	check(fd >= 0 && dprintf(fd, "%d", MANY) > 0, "msg_max");
	close(fd);
	struct mq_attr a = { .mq_maxmsg = MANY, .mq_msgsize = sizeof(int) };
	check((many = mq_open("/many", O_CREAT | O_EXCL | O_RDWR, 0600, &a)) >= 0, "mq_open");
	for (int i = 0; i < MANY; i++)
		check(mq_send(many, (char *)&i, sizeof(i), i % 7) == 0, "message %d", i);
	serve(look_many, NULL);
}

/* --- notifications --- */

static mqd_t by_signal, busy, silent, by_thread[2], nameless, to_child;
static volatile int ran[2];
static struct {
	int seen;
	int asked;
	pid_t sender;
	long value;
} *its;

static const char *const waits[] = { "high", "low", "low as well" };
static const unsigned priority_of[] = { 9, 1, 1 };

static void ask(mqd_t q, int how, int signal, union sigval value)
{
	struct sigevent e = { .sigev_notify = how, .sigev_signo = signal, .sigev_value = value };
	check(mq_notify(q, &e) == 0, "mq_notify");
}

static void called(union sigval v)
{
	__atomic_add_fetch(&ran[v.sival_int - 100], 1, __ATOMIC_SEQ_CST);
}

static void ask_thread(int i)
{
	struct sigevent e = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = called, .sigev_value.sival_int = 100 + i };
	check(mq_notify(by_thread[i], &e) == 0, "mq_notify");
}

static void fill(mqd_t q)
{
	for (int i = 0; i < 3; i++)
		put(q, waits[i], priority_of[i]);
}

static void drain(mqd_t q)
{
	char text[LENGTH];
	struct timespec past = { 0 };
	while (mq_timedreceive(q, text, sizeof(text), NULL, &past) >= 0)
		;
}

/* A message arrives, and the signal says so. */
static void signalled(const char *name, int signal, union sigval value)
{
	sigset_t set;
	siginfo_t si;
	mqd_t q = mq_open(name, O_WRONLY);
	check(q >= 0, "mq_open %s", name);
	put(q, "news", 3);
	mq_close(q);
	sigemptyset(&set);
	sigaddset(&set, signal);
	works(sigtimedwait(&set, &si, &(struct timespec){ 20, 0 }), "no signal of %s", name);
	expect(si.si_code == SI_MESGQ && si.si_pid == getpid() && si.si_uid == getuid() && si.si_value.sival_ptr == value.sival_ptr,
	       "%s: code %d, pid %d, uid %d, value %p", name, si.si_code, si.si_pid, si.si_uid, si.si_value.sival_ptr);
}

#define POINTER ((union sigval){ .sival_ptr = (void *)0x123456789abcdef0 })
#define NUMBER ((union sigval){ .sival_ptr = (void *)-42L })

static void look_notified(void)
{
	static const char *const name[] = { "by thread", "by thread, too" };
	struct sigevent e = { .sigev_notify = SIGEV_NONE };
	siginfo_t none;
	sigset_t own;
	sigemptyset(&own);
	sigaddset(&own, SIGRTMIN + 1);
	sigaddset(&own, SIGIO);
	expect(sigtimedwait(&own, &none, &(struct timespec){ 0 }) == -1 && errno == EAGAIN, "a signal that nobody sent");
	fact_queue("by signal", by_signal);
	fact_queue("busy", busy);
	fact_queue("silent", silent);
	fact_queue("nameless", nameless);
	int was = its->seen;
	expect(comes(&its->asked, was + 1), "the child has not asked");
	fact_queue("to child", to_child);

	expect(mq_notify(by_signal, &e) == -1 && errno == EBUSY, "asked twice: %s", strerror(errno));
	signalled("/by-signal", SIGRTMIN + 1, POINTER);
	drain(by_signal);
	ask(by_signal, SIGEV_SIGNAL, SIGRTMIN + 1, POINTER);

	/* Nobody is told of a message that comes to others. */
	put(busy, "one more", 0);
	drain(busy);
	signalled("/busy", SIGIO, NUMBER);
	drain(busy);
	fill(busy);
	ask(busy, SIGEV_SIGNAL, SIGIO, NUMBER);

	expect(mq_notify(silent, &e) == -1 && errno == EBUSY, "asked twice: %s", strerror(errno));
	fact_messages("silent: messages", silent, silent);
	ask(silent, SIGEV_NONE, 0, NUMBER);
	expect(mq_notify(nameless, &e) == -1 && errno == EBUSY, "asked twice: %s", strerror(errno));

	for (int i = 0; i < 2; i++) {
		fact_queue(name[i], by_thread[i]);
		int calls = ran[i];
		drain(by_thread[i]);
		put(by_thread[i], "news", 0);
		expect(comes(&ran[i], calls + 1), "%s: the function was not called", name[i]);
		drain(by_thread[i]);
		if (i == 1)
			put(by_thread[i], "is there", 2);
		ask_thread(i);
	}

	put(to_child, "news", 0);
	expect(comes(&its->seen, was + 1) && its->sender == getpid() && its->value == 7, "the child: sender %d, value %ld", its->sender, its->value);
	expect(comes(&its->asked, was + 2), "the child has not asked again");
	expect(mq_notify(to_child, &e) == -1 && errno == EBUSY, "asked by another: %s", strerror(errno));
}

static void child(void)
{
	sigset_t set;
	siginfo_t si;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	for (;;) {
		ask(to_child, SIGEV_SIGNAL, SIGRTMIN + 1, (union sigval){ .sival_int = 7 });
		__atomic_add_fetch(&its->asked, 1, __ATOMIC_SEQ_CST);
		while (sigwaitinfo(&set, &si) < 0)
			;
		drain(to_child);
		its->sender = si.si_pid;
		its->value = si.si_value.sival_int;
		__atomic_add_fetch(&its->seen, 1, __ATOMIC_SEQ_CST);
	}
}

static void notified(void)
{
	sigset_t own;
	sigemptyset(&own);
	sigaddset(&own, SIGRTMIN + 1);
	sigaddset(&own, SIGIO);
	check(sigprocmask(SIG_BLOCK, &own, NULL) == 0, "sigprocmask");
	its = shared(sizeof(*its));

	mqd_t both = make("/by-signal", O_RDWR, 0600, 3);
	check((by_signal = mq_open("/by-signal", O_RDONLY)) >= 0 && mq_close(both) == 0, "mq_open");
	ask(by_signal, SIGEV_SIGNAL, SIGRTMIN + 1, POINTER);
	busy = make("/busy", O_RDWR, 0600, 4);
	fill(busy);
	ask(busy, SIGEV_SIGNAL, SIGIO, NUMBER);
	silent = make("/silent", O_RDWR, 0600, 4);
	fill(silent);
	ask(silent, SIGEV_NONE, 0, NUMBER);
	by_thread[0] = make("/by-thread", O_RDWR, 0600, 3);
	ask_thread(0);
	by_thread[1] = make("/by-thread-too", O_RDWR, 0600, 3);
	put(by_thread[1], "is there", 2);
	ask_thread(1);
	nameless = make("/nameless", O_RDONLY, 0600, 3);
	check(mq_unlink("/nameless") == 0, "mq_unlink");
	ask(nameless, SIGEV_SIGNAL, SIGRTMIN + 1, NUMBER);
	to_child = make("/to-child", O_RDWR, 0600, 3);
	if (fork() == 0)
		child();
	serve(look_notified, NULL);
}

int main(int argc, char **argv)
{
	begin();
	if (argc > 1 && strcmp(argv[1], "notify") == 0)
		notified();
	if (argc > 1 && strcmp(argv[1], "many") == 0)
		crowd();
	plain();
}
