/*
 * pending: signals that wait, for a process and for single threads, with all
 * that siginfo_t says. They are taken and compared, and sent again, at every
 * look; the first look has no dump in between.
 */
#include "state.h"
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#define SIGINFO 128 /* bytes of the kernel's siginfo_t */
#define MAXQUEUED 64

static struct {
	volatile int order; /* what the helper is to do */
	volatile int got[8]; /* by the stopped child: values in their order */
	volatile int n, up, continued;
} *sh;
static pid_t me, helper, stopped, changing;
static int fds[2], quiet[2], talk[2];
static volatile int turn;
static pthread_t other;

static void queue(pid_t tgid, pid_t tid, int sig, int value)
{
	siginfo_t si = { .si_signo = sig, .si_code = SI_QUEUE };
	si.si_pid = getpid();
	si.si_uid = getuid();
	si.si_value.sival_int = value;
	works(tid ? syscall(SYS_rt_tgsigqueueinfo, tgid, tid, sig, &si) : syscall(SYS_rt_sigqueueinfo, tgid, sig, &si),
	      "queue signal %d", sig);
}

/* Signals as if the kernel had found a fault. */
static void fault(int tid, int sig, int code, unsigned long addr)
{
	siginfo_t si = { .si_signo = sig, .si_code = code };
	si.si_addr = (void *)addr;
	si.si_addr_lsb = 12;
	works(syscall(SYS_rt_tgsigqueueinfo, me, tid, sig, &si), "queue signal %d", sig);
}

static void help(int order)
{
	sh->order = order;
	expect(comes(&sh->order, 0), "the helper does not help");
}
static void helping(void)
{
	for (;;) {
		while (sh->order == 0)
			usleep(500);
		switch (sh->order) {
		case 1:
			for (int i = 0; i < 3; i++)
				queue(me, 0, SIGRTMIN + 1, 100 + i);
			kill(me, SIGTERM);
			kill(me, SIGTERM);
			break;
		case 2:
			syscall(SYS_tgkill, me, me, SIGRTMIN + 4);
			break;
		}
		sh->order = 0;
	}
}

static void on_continue(int sig) { sh->continued = 1; }
static void changes(void)
{
	signal(SIGCONT, on_continue);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	sh->up++;
	for (;;)
		pause();
}

static void until_pending(int sig)
{
	sigset_t waiting;
	for (int ms = 0; sigpending(&waiting) == 0 && !sigismember(&waiting, sig); ms++) {
		check(ms < 10000, "signal %d does not come", sig);
		usleep(1000);
	}
}

static void shared_signals(void)
{
	for (int i = 0; i < 5; i++)
		queue(me, 0, SIGRTMIN + 1, i);
	help(1);
	queue(me, 0, SIGRTMIN + 1, 5);
	kill(me, SIGRTMIN + 2);
	kill(me, SIGRTMIN + 2);
	kill(me, SIGTSTP);
	kill(me, SIGWINCH); /* ignored by default, but blocked */
	kill(me, SIGPIPE);  /* SIG_IGN, but blocked */
	kill(changing, SIGSTOP);
	waitpid(changing, NULL, WUNTRACED);
	until_pending(SIGCHLD); /* wait(2) may be sooner, and a SIGCONT would be seen in it */
	sh->continued = 0;
	kill(changing, SIGCONT);
	waitpid(changing, NULL, WCONTINUED);
	check(comes(&sh->continued, 1), "the child goes on"); /* it is the child that tells its parent */
	write(fds[1], "x", 1); /* SIGRTMIN + 3, with si_fd and si_band */
	char c;
	read(fds[0], &c, 1);
	queue(me, 0, SIGRTMAX, 7);
}

static void own_signals(pid_t tid)
{
	for (int i = 0; i < 4; i++)
		queue(me, tid, SIGRTMIN + 4, 200 + i);
	syscall(SYS_tgkill, me, tid, SIGRTMIN + 4);
	syscall(SYS_tgkill, me, tid, SIGTTIN);
	syscall(SYS_tgkill, me, tid, SIGRTMIN + 1);
	queue(me, tid, SIGRTMIN + 1, -1);
	fault(tid, SIGSEGV, SEGV_ACCERR, 0x123456789abc);
	fault(tid, SIGBUS, BUS_MCEERR_AO, 0x7000);
	fault(tid, SIGTRAP, -7, 0x1);
}

/* Takes every signal that the calling thread can get. */
static void take(const char *name)
{
	uint64_t all = ~(1ULL << (SIGUSR1 - 1) | 1ULL << (SIGUSR2 - 1));
	struct timespec none = { 0 };
	unsigned char raw[SIGINFO];
	char is[64];
	int n = 0;
	for (;; n++) {
		memset(raw, 0, sizeof(raw));
		if (syscall(SYS_rt_sigtimedwait, &all, raw, &none, 8) < 0)
			break;
		check(n < MAXQUEUED, "%d signals", n);
		siginfo_t *si = (void *)raw;
		if (si->si_signo == SIGCHLD)
			si->si_utime = si->si_stime = 0;
		sprintf(is, "%s: signal %d", name, n);
		char text[1024];
		int at = sprintf(text, "signal %d code %d pid %d uid %d value %d, whole: ", si->si_signo, si->si_code, si->si_pid,
				 si->si_uid, si->si_value.sival_int);
		for (int i = 0; i < SIGINFO; i++)
			at += sprintf(text + at, "%02x", raw[i]);
		fact(is, "%s", text);
	}
	sprintf(is, "%s: signals", name);
	fact(is, "%d", n);
}

static void *second(void *arg)
{
	own_signals(gettid());
	turn = 2;
	for (;;) {
		while (turn != 1)
			usleep(500);
		take("second thread");
		own_signals(gettid());
		turn = 2;
	}
	return NULL;
}

static void mine(void)
{
	own_signals(me);
	help(2);
	shared_signals();
}

static void look(void)
{
	take("main");
	turn = 1;
	expect(comes(&turn, 2), "the second thread does not run");
	mine();
}

/* A process that is stopped gets what was sent meanwhile once it goes on. */
static void got(int sig, siginfo_t *si, void *context)
{
	sh->got[sh->n++ & 7] = sig == SIGCONT ? -1 : si->si_value.sival_int;
}
static void stopping(void)
{
	struct sigaction sa = { .sa_sigaction = got, .sa_flags = SA_SIGINFO };
	sigfillset(&sa.sa_mask);
	sigaction(SIGRTMIN + 5, &sa, NULL);
	sigaction(SIGCONT, &sa, NULL);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	sh->up++;
	for (;;)
		pause();
}

static void finish(void)
{
	expect(sh->n == 0, "the stopped process got %d signals", sh->n);
	kill(stopped, SIGCONT);
	expect(comes(&sh->n, 4), "the stopped process got %d signals of 4", sh->n);
	expect(sh->got[0] == -1 || sh->got[3] == -1, "the stopped process: SIGCONT");
	int at = sh->got[0] == -1;
	expect(sh->got[at] == 1 && sh->got[at + 1] == 2 && sh->got[at + 2] == 3, "the stopped process: order %d %d %d", sh->got[at],
	       sh->got[at + 1], sh->got[at + 2]);
	siginfo_t si;
	expect(waitid(P_PID, stopped, &si, WCONTINUED) == 0 && si.si_code == CLD_CONTINUED, "the stopped process: waitid");
}

static void signals_of(int fd, int n)
{
	check(fcntl(fd, F_SETOWN, me) == 0 && fcntl(fd, F_SETSIG, SIGRTMIN + n) == 0 && fcntl(fd, F_SETFL, O_ASYNC) == 0,
	      "signals of a file");
}

int main(void)
{
	begin();
	me = getpid();
	sh = shared(sizeof(*sh));
	signal(SIGPIPE, SIG_IGN);
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	if ((helper = fork()) == 0)
		helping();
	if ((changing = fork()) == 0)
		changes();
	if ((stopped = fork()) == 0)
		stopping();
	check(comes(&sh->up, 2), "fork");
	kill(stopped, SIGSTOP);
	siginfo_t si;
	check(waitid(P_PID, stopped, &si, WSTOPPED | WNOWAIT) == 0, "waitid");
	sigset_t child;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	check(sigwaitinfo(&child, &si) == SIGCHLD, "sigwaitinfo");
	for (int i = 1; i <= 3; i++)
		queue(stopped, 0, SIGRTMIN + 5, i);
	check(pipe(fds) == 0, "pipe");
	/* What lies in them already must not be told again. */
	check(pipe(quiet) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, talk) == 0, "pipe, socketpair");
	check(write(quiet[1], "abc", 3) == 3 && write(talk[1], "abc", 3) == 3, "write");
	signals_of(fds[0], 3);
	signals_of(quiet[0], 6);
	signals_of(quiet[1], 6);
	signals_of(talk[0], 6);
	pthread_create(&other, NULL, second, NULL);
	check(comes(&turn, 2), "the second thread");
	mine();
	serve(look, finish);
}
