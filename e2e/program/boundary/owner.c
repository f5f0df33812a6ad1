/*
 * owner: whom a file's signals are for (F_SETOWN, F_SETOWN_EX): a process, a
 * thread, a group, a group whose leader is dead; and who gets them.
 */
#include "../state.h"
#include "other.h"
#include <sys/ioctl.h>
#include <sys/socket.h>

static struct other *it, *member;
static pid_t leader;
static struct other *self;

static void got(int sig, siginfo_t *si, void *context)
{
	self->word[0] = si->si_fd;
	self->word[1] = gettid();
	self->word[2] = si->si_code;
	self->up++;
}
static void take_signals(void)
{
	struct sigaction sa = { .sa_sigaction = got, .sa_flags = SA_SIGINFO | SA_RESTART };
	sigaction(34, &sa, NULL);
	sigaction(SIGIO, &sa, NULL);
}
static void act(struct other *o, int order)
{
	if (order == 0) {
		self = o;
		take_signals();
		setpgid(0, 0);
		o->word[3] = resting();
	}
}
static void member_act(struct other *o, int order)
{
	self = o;
	take_signals();
}
static void lead(void) { check(setpgid(0, 0) == 0, "setpgid"); }

static struct owned {
	const char *name;
	int type, sig;
	int in, out;
	struct other **to;
	pid_t pid;
} files[] = {
	{ "process", F_OWNER_PID, 34, .to = &it },
	{ "thread", F_OWNER_TID, 34, .to = &it },
	{ "group", F_OWNER_PGRP, 34, .to = &it },
	{ "group without a leader", F_OWNER_PGRP, 34, .to = &member },
	{ "plain SIGIO", F_OWNER_PID, 0, .to = &it },
	{ "plain SIGIO to the group", F_OWNER_PGRP, 0, .to = &member },
	{ "without O_ASYNC", F_OWNER_PID, 34, .to = &it },
};
#define FILES (sizeof(files) / sizeof(*files))
#define ASYNC(f) ((f)->name[0] != 'w')

static void look(void)
{
	for (struct owned *f = files; f < files + FILES; f++) {
		struct f_owner_ex o = { 0 };
		char is[64];
		works(fcntl(f->in, F_GETOWN_EX, &o), "%s: F_GETOWN_EX", f->name);
		snprintf(is, sizeof(is), "%s: owner", f->name);
		fact(is, "type %d id %d, by F_GETOWN %d, signal %d", o.type, o.pid, fcntl(f->in, F_GETOWN), fcntl(f->in, F_GETSIG));
		int pgrp = 0;
		works(ioctl(f->in, SIOCGPGRP, &pgrp), "%s: SIOCGPGRP", f->name);
		snprintf(is, sizeof(is), "%s: SIOCGPGRP", f->name);
		fact(is, "%d", pgrp);
		struct other *to = *f->to;
		char c;
		int had = to->up;
		works(write(f->out, "x", 1), "%s: write", f->name);
		if (ASYNC(f)) {
			expect(comes(&to->up, had + 1), "%s: the signal does not come", f->name);
			expect(!f->sig || (to->word[0] == f->in && to->word[2] == POLL_IN), "%s: of descriptor %ld, code %ld", f->name, to->word[0], to->word[2]);
			expect(f->type != F_OWNER_TID || to->word[1] == f->pid, "%s: comes to thread %ld", f->name, to->word[1]);
		}
		expect(read(f->in, &c, 1) == 1, "%s: read", f->name);
		expect(ASYNC(f) || to->up == had, "%s: a signal comes", f->name);
	}
}

int main(void)
{
	begin();
	it = other(act);
	member = orphan(member_act, lead, &leader);
	waitpid(leader, NULL, 0);
	for (struct owned *f = files; f < files + FILES; f++) {
		int p[2];
		check(socketpair(AF_UNIX, SOCK_DGRAM, 0, p) == 0, "socketpair");
		f->in = p[0], f->out = p[1];
		f->pid = f->type == F_OWNER_TID ? it->word[3] : *f->to == member ? leader : it->pid;
		struct f_owner_ex o = { f->type, f->pid };
		check(fcntl(f->in, F_SETOWN_EX, &o) == 0 && fcntl(f->in, F_SETSIG, f->sig) == 0, "F_SETOWN_EX");
		check(!ASYNC(f) || fcntl(f->in, F_SETFL, O_ASYNC) == 0, "O_ASYNC");
	}
	serve(look, NULL);
}
