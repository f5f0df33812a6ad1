/*
 * holder: holds files as its arguments say: rFILE to read, wFILE to read and
 * write, aFILE to append, dDIRECTORY, mFILE mapped and closed again. SIGUSR1
 * makes it say the sizes of those it holds.
 */
#include "step.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

int main(int argc, char **argv)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int fds[argc];
	for (int i = 1; i < argc; i++) {
		static const char how[] = "rwadm";
		static const int flags[] = { O_RDONLY, O_RDWR, O_WRONLY | O_APPEND, O_RDONLY | O_DIRECTORY, O_RDONLY };
		const char *p = strchr(how, argv[i][0]);
		check(p, "usage: holder [rwadm]FILE...");
		fds[i] = open(argv[i] + 1, flags[p - how]);
		check(fds[i] >= 0, "open %s", argv[i] + 1);
		if (*p == 'm') {
			check(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fds[i], 0) != MAP_FAILED, "mmap");
			close(fds[i]);
			fds[i] = -1;
		}
	}
	say("ready\n");
	for (int sig;;) {
		sigwait(&set, &sig);
		for (int i = 1; i < argc; i++) {
			struct stat st;
			if (fds[i] >= 0 && fstat(fds[i], &st) == 0)
				say("%s %lld\n", argv[i] + 1, (long long)st.st_size);
		}
		say("held\n");
	}
}
