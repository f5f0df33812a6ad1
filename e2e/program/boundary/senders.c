/*
 * senders: what signals that wait say of who sent them: their pids, in a
 * process, in a thread and in a signalfd. They are read where they wait, in a
 * child, by ptrace, and taken by it in the end.
 */
#include "../state.h"
#include "other.h"
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

static struct other *it, *sender;
static struct report {
	int n;
	siginfo_t si[16];
} *report;

enum { SEND = 1, TAKE };

static int sfd;
static void act(struct other *o, int order)
{
	static pid_t child;
	if (order == 0) {
		sigset_t all;
		sigfillset(&all);
		sigprocmask(SIG_BLOCK, &all, NULL);
		sigemptyset(&all);
		sigaddset(&all, SIGRTMIN + 5);
		sfd = signalfd(-1, &all, SFD_NONBLOCK);
		o->word[0] = resting();
		if ((child = fork()) == 0)
			_exit(6); /* its SIGCHLD waits */
		o->word[1] = child;
		waitid(P_PID, child, &(siginfo_t){ 0 }, WEXITED | WNOWAIT);
	} else {
		struct timespec none = { 0 };
		sigset_t all;
		struct signalfd_siginfo s;
		o->word[2] = read(sfd, &s, sizeof(s)) == sizeof(s) ? s.ssi_pid : -1;
		sigfillset(&all);
		for (report->n = 0; report->n < 16 && sigtimedwait(&all, &report->si[report->n], &none) > 0;)
			report->n++;
	}
}
static void sender_act(struct other *o, int order)
{
	if (order != SEND)
		return;
	kill(it->pid, SIGRTMIN + 1);
	sigqueue(it->pid, SIGRTMIN + 2, (union sigval){ .sival_int = 12 });
	syscall(SYS_tgkill, it->pid, it->word[0], SIGRTMIN + 3);
	kill(it->pid, SIGRTMIN + 5);
}

static void look(void)
{
	siginfo_t si[16];
	int status;
	works(ptrace(PTRACE_SEIZE, it->pid, NULL, NULL), "PTRACE_SEIZE");
	works(ptrace(PTRACE_SEIZE, it->word[0], NULL, NULL), "PTRACE_SEIZE");
	for (int shared = 0; shared < 2; shared++) {
		pid_t tid = shared ? it->pid : it->word[0];
		works(ptrace(PTRACE_INTERRUPT, tid, NULL, NULL), "PTRACE_INTERRUPT");
		works(waitpid(tid, &status, __WALL), "waitpid");
		struct __ptrace_peeksiginfo_args a = { 0, shared ? PTRACE_PEEKSIGINFO_SHARED : 0, 16 };
		int n = ptrace(PTRACE_PEEKSIGINFO, tid, &a, si);
		char is[64];
		sprintf(is, "%s: signals", shared ? "process" : "thread");
		fact(is, "%d", n);
		for (int i = 0; i < n; i++) {
			sprintf(is, "%s: signal %d", shared ? "process" : "thread", i);
			fact(is, "%d code %d from pid %d uid %d", si[i].si_signo, si[i].si_code, si[i].si_pid, si[i].si_uid);
		}
		works(ptrace(PTRACE_DETACH, tid, NULL, NULL), "PTRACE_DETACH");
	}
	char path[64];
	sprintf(path, "/proc/%d/status", it->pid);
	fact("pending", "%s", line_of(path, "ShdPnd:"));
}

static void finish(void)
{
	does(it, TAKE);
	int queued = 0, child = 0;
	for (int i = 0; i < report->n; i++) {
		siginfo_t *si = &report->si[i];
		if (si->si_signo == SIGCHLD)
			child = si->si_pid;
		else
			queued += si->si_pid == sender->pid;
	}
	expect(queued == 2 && child == it->word[1], "%d signals from pid %d, SIGCHLD from pid %d", queued, sender->pid, child);
	expect(it->word[2] == sender->pid, "the signalfd says pid %ld", it->word[2]);
	kill(it->pid, SIGKILL);
	ended(it->pid, SIGKILL);
}

int main(void)
{
	begin();
	report = shared(sizeof(*report));
	it = other(act);
	sender = other(sender_act);
	does(sender, SEND);
	serve(look, finish);
}
