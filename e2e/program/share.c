#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
// share.c has children that share descriptors, fs, memory and signal handlers with
// it by clone(2) flags. Each changes its object on command, and the parent must
// see it: it says "ok N", or "BAD N MASK".
struct box { volatile int go[8]; volatile int done[8]; } *b;
static volatile int vmword;
static void nop(int s) { (void)s; }
static int child(void *arg) {
	long k = (long)arg;
	for (int seen = 0;;) {
		if (b->go[k] == seen) { usleep(1000); continue; }
		seen = b->go[k];
		switch (k) {
		case 0: close(100); dup2(1, 100); break;          // files: parent sees fd 100
		case 1: umask(seen % 2 ? 077 : 022); break;       // fs
		case 2: vmword = seen; break;                      // vm
		case 3: signal(SIGUSR2, seen % 2 ? SIG_IGN : nop); break; // vm+sighand
		case 4: dup2(1, 200 + seen); break;               // sibling files
		}
		b->done[k] = seen;
	}
	return 0;
}
static int act(int k) { int n = ++b->go[k]; while (b->done[k] != n) usleep(500); return n; }
static pid_t mk(int flags, long k) { char *st = malloc(65536); return clone(child, st + 65536, flags, (void *)k); }
int main(void) {
	b = mmap(0, 4096, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS, -1, 0);
	setvbuf(stdout, 0, _IOLBF, 0);
	pid_t p0 = mk(CLONE_FILES|SIGCHLD, 0), p1 = mk(CLONE_FS|SIGCHLD, 1), p2 = mk(CLONE_VM|SIGCHLD, 2), p3 = mk(CLONE_VM|CLONE_SIGHAND|SIGUSR1, 3);
	signal(SIGUSR1, SIG_IGN);
	printf("%d %d %d %d\n", p0, p1, p2, p3);
	for (int i = 0;; i++) {
		int bad = 0;
		close(100); act(0); if (fcntl(100, F_GETFD) < 0) bad |= 1;
		int n = act(1); mode_t u = umask(0); umask(u); if (u != (n % 2 ? 077 : 022)) bad |= 2;
		n = act(2); if (vmword != n) bad |= 4;
		n = act(3); struct sigaction sa; sigaction(SIGUSR2, 0, &sa); if ((sa.sa_handler == SIG_IGN) != (n % 2)) bad |= 8;
		printf("%s %d %d\n", bad ? "BAD" : "ok", i, bad);
		usleep(50000);
	}
}
