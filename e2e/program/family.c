/*
 * A family of processes: memory shared in every way, locks and condition
 * variables in it, SysV IPC, signals with values, file locks, zombies, an
 * orphan in a session and a group whose leaders are dead, a stopped child,
 * timers, eventfd, signalfd, timerfd and epoll. Every one checks at each step
 * what it has to do with the others.
 *
 * SIGUSR1 to the first process makes it reap its two zombies, which must have
 * ended as they did, and make two new ones, wake the stopped child and signal
 * the group; it counts how often.
 *
 * family DIR [interruptible]: DIR is a directory to work in. With a second
 * argument, ckpt may be killed: calls that signal(7) says a stop may make fail
 * with EINTR may do so: they are made again, and who made them counts how often.
 */
#include "step.h"
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#define PERIOD 50000000L /* 50 ms */

static void rest(void)
{
	struct timespec t = { 0, PERIOD };
	while (nanosleep(&t, &t) < 0)
		check(errno == EINTR, "nanosleep");
}

static int interruptible;

/* Whether a call that failed is to be made again. */
static int again(int *count)
{
	return interruptible && errno == EINTR && ++*count;
}

/* Shared by the whole family, anonymous. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t turned;
	int turn, turns;
	sem_t ping, pong;
	int balls;
	int woken; /* times the stopped child went on */
	int group; /* signals the group's member counted */
	int echo_again; /* see again() */
	pid_t orphan, member, locker, echo;
} *all;

static pid_t child(void (*body)(void))
{
	pid_t pid = fork();
	check(pid >= 0, "fork");
	if (pid == 0) {
		body();
		_exit(0);
	}
	return pid;
}

/* Two who take turns under a mutex and a condition variable. */
static void turns(int me, const char *who)
{
	int n = 0;
	for (;;) {
		check(pthread_mutex_lock(&all->lock) == 0, "pthread_mutex_lock");
		while (all->turn != me)
			check(pthread_cond_wait(&all->turned, &all->lock) == 0, "pthread_cond_wait");
		check(all->turns % 2 == me, "turn %d is not that of %d", all->turns, me);
		all->turns++;
		all->turn = !me;
		pthread_cond_signal(&all->turned);
		pthread_mutex_unlock(&all->lock);
		told(who, &n, 0, "");
		rest();
	}
}
static void turns0(void) { turns(0, "turns0"); }
static void turns1(void) { turns(1, "turns1"); }

/* Two who play with unnamed semaphores. */
static void pinger(void)
{
	for (int n = 0;;) {
		all->balls++;
		sem_post(&all->ping);
		check(sem_wait(&all->pong) == 0, "sem_wait");
		check(all->balls % 2 == 0, "%d balls", all->balls);
		told("pinger", &n, 0, "");
		rest();
	}
}
static void ponger(void)
{
	for (;;) {
		check(sem_wait(&all->ping) == 0, "sem_wait");
		all->balls++;
		sem_post(&all->pong);
	}
}

/* SysV: a counter in a segment, under a semaphore, told by messages. */
struct message {
	long type;
	int counter;
};
static int shm, sem, msg;

static void sysv_counter(void)
{
	int *counter = shmat(shm, NULL, 0);
	check(counter != (void *)-1, "shmat");
	struct sembuf down = { 0, -1, SEM_UNDO }, up = { 0, 1, SEM_UNDO };
	for (int n = 0, count = 0;;) {
		while (semop(sem, &down, 1) != 0)
			check(again(&count), "semop");
		struct message m = { 7, ++*counter };
		check(semop(sem, &up, 1) == 0, "semop");
		check(msgsnd(msg, &m, sizeof(m.counter), 0) == 0, "msgsnd");
		told("sysv", &n, count, "");
		rest();
	}
}
static void sysv_reader(void)
{
	int *counter = shmat(shm, NULL, SHM_RDONLY);
	check(counter != (void *)-1, "shmat");
	int last = 0;
	for (int n = 0;;) {
		struct message m;
		check(msgrcv(msg, &m, sizeof(m.counter), 7, 0) == sizeof(m.counter), "msgrcv");
		check(m.counter == last + 1, "message %d after %d", m.counter, last);
		check(*counter >= m.counter, "segment holds %d, message %d", *counter, m.counter);
		last = m.counter;
		struct shmid_ds ds;
		/* One more is a bare child of a ckpt that was killed. */
		check(shmctl(shm, IPC_STAT, &ds) == 0 && (ds.shm_nattch == 2 || (interruptible && ds.shm_nattch == 3)), "%d are attached", (int)ds.shm_nattch);
		told("reader", &n, 0, "");
	}
}

/* Queued signals with values: each must arrive, in order, from the right one. */
static void echo(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	pid_t from = 0;
	for (int want = 0;; want++) {
		siginfo_t si;
		int sig;
		while ((sig = sigwaitinfo(&set, &si)) < 0)
			check(again(&all->echo_again), "sigwaitinfo");
		check(sig == SIGRTMIN, "sigwaitinfo gave %d", sig);
		check(si.si_value.sival_int == want, "signal %d instead of %d", si.si_value.sival_int, want);
		from = from ? from : si.si_pid;
		check(si.si_pid == from, "signal from pid %d instead of %d", si.si_pid, from);
		check(sigqueue(si.si_pid, SIGRTMIN + 1, si.si_value) == 0, "sigqueue to pid %d", si.si_pid);
	}
}
static void caller(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	char ids[64];
	snprintf(ids, sizeof(ids), "echo %d", all->echo);
	for (int n = 0, v = 0, count = 0;; v++) {
		union sigval value = { .sival_int = v };
		check(sigqueue(all->echo, SIGRTMIN, value) == 0, "sigqueue");
		siginfo_t si;
		struct timespec t = { 30, 0 };
		int sig;
		while ((sig = sigtimedwait(&set, &si, &t)) < 0)
			check(again(&count), "sigtimedwait");
		check(sig == SIGRTMIN + 1, "sigtimedwait gave %d", sig);
		check(si.si_value.sival_int == v && si.si_pid == all->echo, "signal %d from pid %d", si.si_value.sival_int, si.si_pid);
		told("caller", &n, count + all->echo_again, ids);
		rest();
	}
}

/* Locks on files: one holds them, one looks who does. */
static char lockpath[4096];
static void locker(void)
{
	int fd = open(lockpath, O_RDWR);
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 20 };
	check(fd >= 0 && fcntl(fd, F_SETLK, &l) == 0, "F_SETLK");
	int whole = open(lockpath, O_RDONLY);
	check(whole >= 0 && flock(whole, LOCK_EX) == 0, "flock");
	all->locker = getpid();
	for (;;)
		pause();
}
static void watcher(void)
{
	int fd = open(lockpath, O_RDWR);
	check(fd >= 0, "open");
	while (*(volatile pid_t *)&all->locker == 0)
		rest();
	for (int n = 0;;) {
		struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
		check(fcntl(fd, F_GETLK, &l) == 0, "F_GETLK");
		check(l.l_type == F_WRLCK && l.l_start == 10 && l.l_len == 20 && l.l_pid == all->locker,
		      "lock of type %d at %d by pid %d", l.l_type, (int)l.l_start, l.l_pid);
		check(flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK, "flock");
		told("watcher", &n, 0, "");
		rest();
	}
}

/* A session leader and a group leader that die and leave one behind. */
static void orphan(void)
{
	while (getppid() != 1)
		rest();
	for (int n = 0;;) {
		told("orphan", &n, 0, "");
		rest();
	}
}
static void session(void)
{
	setsid();
	all->orphan = child(orphan); /* known before this one is waited for */
}
static volatile sig_atomic_t usr2;
static void on_usr2(int sig) { usr2++; }
static void member(void)
{
	signal(SIGUSR2, on_usr2);
	while (getppid() != 1)
		rest();
	for (int n = 0;;) {
		all->group = usr2;
		told("member", &n, usr2, "");
		rest();
	}
}
static void group(void)
{
	setpgid(0, 0);
	all->member = child(member);
}

/* A child that is stopped whenever nobody looks. */
static void sleeper(void)
{
	for (;;) {
		raise(SIGSTOP);
		all->woken++;
	}
}

/* Descriptors that are events, all in one epoll set. */
static void events(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int fds[3] = { eventfd(3, EFD_SEMAPHORE), timerfd_create(CLOCK_MONOTONIC, 0), signalfd(-1, &set, 0) };
	struct itimerspec every = { { 0, PERIOD }, { 0, PERIOD } };
	struct itimerval alarms = { { 0, PERIOD / 1000 }, { 0, PERIOD / 1000 } };
	int ep = epoll_create1(0);
	check(timerfd_settime(fds[1], 0, &every, NULL) == 0, "timerfd_settime");
	check(setitimer(ITIMER_REAL, &alarms, NULL) == 0, "setitimer");
	for (int i = 0; i < 3; i++) {
		struct epoll_event e = { EPOLLIN, { .u64 = 1000 + i } };
		check(fds[i] >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &e) == 0, "epoll_ctl");
	}
	int seen[3] = { 0 }, n = 0, count = 0;
	for (;;) {
		struct epoll_event e;
		int r;
		while ((r = epoll_wait(ep, &e, 1, 30000)) < 0)
			check(again(&count), "epoll_wait");
		check(r == 1, "epoll_wait gave %d", r);
		int i = e.data.u64 - 1000;
		check(i >= 0 && i < 3, "epoll gave data %llu", (unsigned long long)e.data.u64);
		uint64_t v = 1;
		if (i == 2) {
			struct signalfd_siginfo si;
			check(read(fds[2], &si, sizeof(si)) == sizeof(si) && si.ssi_signo == SIGALRM, "signalfd");
		} else {
			check(read(fds[i], &v, sizeof(v)) == sizeof(v), "read");
			check(i != 0 || v == 1, "eventfd gave %llu", (unsigned long long)v);
		}
		seen[i]++;
		if (i == 0) {
			rest();
			check(write(fds[0], &v, sizeof(v)) == sizeof(v), "write");
		}
		if (seen[0] && seen[1] && seen[2]) {
			memset(seen, 0, sizeof(seen));
			told("events", &n, count, "");
		}
	}
}

/* A POSIX timer, with its signal aimed at one thread. */
static void timer(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 2, .sigev_value = { .sival_int = 4711 } };
	ev._sigev_un._tid = gettid();
	timer_t id;
	struct itimerspec every = { { 0, PERIOD }, { 0, PERIOD } };
	check(timer_create(CLOCK_MONOTONIC, &ev, &id) == 0, "timer_create");
	check(timer_settime(id, 0, &every, NULL) == 0, "timer_settime");
	for (int n = 0, count = 0;;) {
		siginfo_t si;
		struct timespec t = { 30, 0 };
		int sig;
		while ((sig = sigtimedwait(&set, &si, &t)) < 0)
			check(again(&count), "sigtimedwait");
		check(sig == SIGRTMIN + 2, "sigtimedwait gave %d", sig);
		check(si.si_code == SI_TIMER && si.si_value.sival_int == 4711, "signal with code %d", si.si_code);
		told("timer", &n, count, "");
	}
}

static pid_t exited, killed, stopped;

static void exit42(void) { _exit(42); }
static void killself(void) { kill(getpid(), SIGKILL); }

/* Two children that have ended and are not waited for. */
static void make_zombies(void)
{
	exited = child(exit42);
	killed = child(killself);
	siginfo_t si;
	check(waitid(P_PID, exited, &si, WEXITED | WNOWAIT) == 0, "waitid");
	check(waitid(P_PID, killed, &si, WEXITED | WNOWAIT) == 0, "waitid");
}

static void reap_zombies(void)
{
	int status;
	check(waitpid(exited, &status, 0) == exited, "waitpid");
	check(WIFEXITED(status) && WEXITSTATUS(status) == 42, "status %#x of the one that exited", status);
	check(waitpid(killed, &status, 0) == killed, "waitpid");
	check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %#x of the one that was killed", status);
}

static void wait_stopped(void)
{
	int status;
	check(waitpid(stopped, &status, WUNTRACED) == stopped, "waitpid");
	check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, "status %#x of the stopped child", status);
}

static volatile sig_atomic_t usr1;
static void on_usr1(int sig) { usr1++; }

static void client_was_here(pid_t pgrp)
{
	reap_zombies();
	make_zombies();
	int woken = all->woken, seen = all->group;
	check(kill(stopped, SIGCONT) == 0, "kill");
	wait_stopped();
	check(all->woken == woken + 1, "the stopped child went on %d times", all->woken - woken);
	check(kill(-pgrp, SIGUSR2) == 0, "kill group");
	for (int i = 0; *(volatile int *)&all->group == seen; i++) {
		check(i < 200, "the group got no signal");
		rest();
	}
}

static void share(const char *dir)
{
	all = mmap(NULL, sizeof(*all), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(all != MAP_FAILED, "mmap");
	pthread_mutexattr_t ma;
	pthread_condattr_t ca;
	pthread_mutexattr_init(&ma);
	pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED);
	pthread_condattr_init(&ca);
	pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&all->lock, &ma);
	pthread_cond_init(&all->turned, &ca);
	sem_init(&all->ping, 1, 0);
	sem_init(&all->pong, 1, 0);
	shm = shmget(IPC_PRIVATE, 8192, IPC_CREAT | 0600);
	sem = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
	msg = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
	check(shm >= 0 && sem >= 0 && msg >= 0, "SysV IPC");
	check(semctl(sem, 0, SETVAL, 1) == 0, "semctl");
	snprintf(lockpath, sizeof(lockpath), "%s/lock", dir);
	int fd = open(lockpath, O_CREAT | O_RDWR, 0600);
	check(fd >= 0 && ftruncate(fd, 100) == 0, "create %s", lockpath);
	close(fd);
}

int main(int argc, char **argv)
{
	check(argc == 2 || argc == 3, "usage: family DIR [interruptible]");
	interruptible = argc == 3;
	share(argv[1]);
	sigset_t set;
	sigemptyset(&set);
	for (int i = 0; i < 3; i++)
		sigaddset(&set, SIGRTMIN + i);
	sigprocmask(SIG_BLOCK, &set, NULL);
	check(signal(SIGUSR1, on_usr1) != SIG_ERR, "signal");

	pid_t leader = child(session);
	check(waitpid(leader, NULL, 0) == leader, "waitpid");
	pid_t pgrp = child(group);
	check(waitpid(pgrp, NULL, 0) == pgrp, "waitpid");
	void (*bodies[])(void) = { turns0, turns1, pinger, ponger, sysv_counter, sysv_reader, locker, watcher, events, timer };
	for (unsigned i = 0; i < sizeof(bodies) / sizeof(*bodies); i++)
		child(bodies[i]);
	all->echo = child(echo);
	child(caller);
	stopped = child(sleeper);
	wait_stopped();
	make_zombies();

	char ids[64];
	snprintf(ids, sizeof(ids), "session %d group %d", leader, pgrp);
	int served = 0;
	for (int n = 0;;) {
		for (; served < usr1; served++)
			client_was_here(pgrp);
		check(getsid(all->orphan) == leader, "session of the orphan");
		check(getpgid(all->member) == pgrp, "group of the member");
		check(kill(exited, 0) == 0 && kill(killed, 0) == 0, "zombies are gone");
		told("main", &n, served, ids);
		rest();
	}
}
