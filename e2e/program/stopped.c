/*
 * stopped: SIGCONT and stop signals that wait, for processes that run and that
 * are stopped, in every mix that there can be: each of these signals drops the
 * others when it is sent (prepare_signal()), so that a wrong order in a dump or
 * a restore loses some. A second SIGSTOP that waits for a stopped process is
 * no fact: it is lost, and nothing comes of that.
 */
#include "state.h"
#include <pthread.h>
#include <sys/syscall.h>

static const struct mix {
	const char *name;
	int blocked[4];
	int by;	     /* stopped by this signal; 0: it runs */
	int first[4]; /* sent before that, and after */
	int then[4];
	int thread; /* to the thread, not the process */
	int handled;
} mixes[] = {
	{ "runs, SIGCONT waits", { SIGCONT }, 0, { SIGCONT } },
	{ "runs, SIGCONT waits for the thread", { SIGCONT }, 0, { SIGCONT }, .thread = 1 },
	{ "runs, ignores SIGCONT, it waits", { SIGCONT }, 0, { SIGCONT }, .handled = -SIGCONT },
	{ "runs, stop signals wait", { SIGTSTP, SIGTTIN, SIGTTOU }, 0, { SIGTTOU, SIGTSTP, SIGTTIN } },
	{ "runs, SIGCONT has dropped those", { SIGTSTP, SIGTTIN, SIGCONT }, 0, { SIGTSTP, SIGTTIN, SIGCONT } },
	{ "runs, SIGTSTP has dropped SIGCONT", { SIGTSTP, SIGCONT }, 0, { SIGCONT, SIGTSTP } },
	{ "stopped, others wait", { SIGTSTP, SIGTTIN, SIGTTOU }, SIGSTOP, { SIGTSTP }, { SIGTTIN, SIGTTOU } },
	{ "stopped, others wait for the thread", { SIGTSTP, SIGTTIN }, SIGSTOP, { SIGTSTP }, { SIGTTIN }, .thread = 1 },
	{ "stopped, SIGTSTP waits, unblocked", { 0 }, SIGSTOP, { 0 }, { SIGTSTP } },
	{ "stopped, SIGTSTP waits, handled", { 0 }, SIGSTOP, { 0 }, { SIGTSTP, SIGSTOP }, .handled = SIGTSTP },
	{ "stopped by SIGTSTP, others wait", { SIGTTIN }, SIGTSTP, { SIGTTIN }, { SIGTSTP, SIGTTOU } },
	{ "stopped by SIGTTOU, SIGSTOP waits", { 0 }, SIGTTOU, { 0 }, { SIGSTOP } },
	{ "stopped, blocks SIGCONT", { SIGCONT, SIGTSTP }, SIGSTOP, { SIGTSTP, SIGCONT } },
	{ "stopped, handles SIGCONT", { SIGTSTP }, SIGSTOP, { SIGTSTP }, .handled = SIGCONT },
};

enum { MIXES = sizeof(mixes) / sizeof(*mixes) };

static pid_t pids[MIXES];
static volatile int *up, *handled;

static void handle(int sig) { ++*handled; }

static void child(const struct mix *m)
{
	sigset_t set;
	sigemptyset(&set);
	for (int i = 0; i < 4 && m->blocked[i]; i++)
		sigaddset(&set, m->blocked[i]);
	check(setpgid(0, 0) == 0, "setpgid"); /* its parent keeps the group from being an orphan */
	if (m->handled)
		signal(abs(m->handled), m->handled < 0 ? SIG_IGN : handle);
	check(sigprocmask(SIG_SETMASK, &set, NULL) == 0, "sigprocmask");
	*up = 1;
	for (;;)
		pause();
}

static void send(const struct mix *m, pid_t pid, const int *sigs)
{
	for (int i = 0; i < 4 && sigs[i]; i++)
		check((m->thread ? syscall(SYS_tgkill, pid, pid, sigs[i]) : kill(pid, sigs[i])) == 0, "send signal %d", sigs[i]);
}

static pid_t make(const struct mix *m)
{
	*up = 0;
	pid_t pid = fork();
	if (pid == 0)
		child(m);
	check(comes(up, 1), "fork");
	send(m, pid, m->first);
	siginfo_t si;
	if (m->by)
		check(kill(pid, m->by) == 0 && waitid(P_PID, pid, &si, WSTOPPED) == 0 && si.si_status == m->by, "stop it");
	send(m, pid, m->then);
	return pid;
}

static uint64_t waiting(pid_t pid, const char *queue)
{
	char path[64];
	sprintf(path, "/proc/%d/status", pid);
	return strtoull(line_of(path, queue), NULL, 16) & ~(1ULL << (SIGSTOP - 1));
}

static int in_state(pid_t pid, char state)
{
	char path[64];
	sprintf(path, "/proc/%d/status", pid);
	for (int ms = 0; *line_of(path, "State:") != state; ms++) {
		if (ms > 10000)
			return 0;
		usleep(1000);
	}
	return 1;
}

/* Processes of two threads that are stopped, and whether their parent knows. */
static struct pair {
	const char *name;
	int dead; /* the leading thread */
	int told;
	pid_t pid;
} pairs[] = {
	{ "of two threads, its parent does not know", 0, 0 },
	{ "its leading thread has ended, its parent does not know", 1, 0 },
	{ "its leading thread has ended, its parent knows", 1, 1 },
};

enum { PAIRS = sizeof(pairs) / sizeof(*pairs) };

static void *waits(void *unused)
{
	*up = 1;
	for (;;)
		pause();
	return unused;
}

static void make_pair(struct pair *p)
{
	*up = 0;
	if ((p->pid = fork()) == 0) {
		pthread_t t;
		check(setpgid(0, 0) == 0 && pthread_create(&t, NULL, waits, NULL) == 0, "pthread_create");
		if (p->dead)
			pthread_exit(NULL);
		waits(NULL);
	}
	check(p->pid > 0 && comes(up, 1), "fork");
	siginfo_t si;
	check(!p->dead || in_state(p->pid, 'Z'), "its leading thread ends");
	check(kill(p->pid, SIGSTOP) == 0 && waitid(P_PID, p->pid, &si, WSTOPPED | (p->told ? 0 : WNOWAIT)) == 0, "stop it");
}

static void look(void)
{
	for (int i = 0; i < PAIRS; i++) {
		struct pair *p = pairs + i;
		siginfo_t si = { 0 };
		works(waitid(P_PID, p->pid, &si, WSTOPPED | WNOWAIT | WNOHANG), "%s: waitid", p->name);
		expect(si.si_pid == (p->told ? 0 : p->pid), "%s: its parent is told of %d", p->name, si.si_pid);
	}
	for (int i = 0; i < MIXES; i++) {
		const struct mix *m = mixes + i;
		expect(in_state(pids[i], m->by ? 'T' : 'S'), "%s: its state", m->name);
		fact(m->name, "SigPnd %lx ShdPnd %lx", waiting(pids[i], "SigPnd:"), waiting(pids[i], "ShdPnd:"));
		siginfo_t si = { 0 };
		expect(waitid(P_PID, pids[i], &si, WSTOPPED | WCONTINUED | WNOHANG) == 0 && si.si_pid == 0, "%s: its parent is told", m->name);
	}
	fact("handlers that ran", "%d", *handled);
}

/* All go on, and nothing of what stops is left. */
static void finish(void)
{
	uint64_t stop = 1ULL << (SIGTSTP - 1) | 1ULL << (SIGTTIN - 1) | 1ULL << (SIGTTOU - 1);
	for (int i = 0; i < MIXES; i++) {
		const struct mix *m = mixes + i;
		siginfo_t si = { 0 };
		works(kill(pids[i], SIGCONT), "%s: SIGCONT", m->name);
		expect(in_state(pids[i], 'S'), "%s: it goes on", m->name);
		uint64_t all = waiting(pids[i], "SigPnd:") | waiting(pids[i], "ShdPnd:");
		expect((all & stop) == 0, "%s: %lx wait", m->name, all);
		if (m->by)
			expect(waitid(P_PID, pids[i], &si, WCONTINUED | WNOHANG) == 0 && si.si_pid == pids[i], "%s: its parent is told that it goes on", m->name);
	}
}

int main(void)
{
	begin();
	up = shared(2 * sizeof(*up));
	handled = up + 1;
	for (int i = 0; i < MIXES; i++)
		pids[i] = make(mixes + i);
	for (int i = 0; i < PAIRS; i++)
		make_pair(pairs + i);
	serve(look, finish);
}
