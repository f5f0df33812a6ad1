/*
 * process: what belongs to a process, as it reads it about itself, and what
 * goes on working: memory that grows, clocks without a system call, the death
 * of a parent. "process chroot" has another root.
 */
#include "state.h"
#include <elf.h>
#include <linux/membarrier.h>
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

extern char **environ;
static struct {
	volatile int reaper, orphan, orphan_parent, told, died;
} *sh;
static char *heap_end;
static const char *proc = "/proc/self"; /* not where the root is another */

static char *link_of(const char *name)
{
	static char to[4096];
	char path[64];
	sprintf(path, "%s/%s", proc, name);
	ssize_t n = readlink(path, to, sizeof(to) - 1);
	to[n < 0 ? 0 : n] = 0;
	return to;
}

static void limits(void)
{
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		struct rlimit r;
		char name[64];
		sprintf(name, "limit %d", i);
		works(getrlimit(i, &r), "%s", name);
		fact(name, "%lu, at most %lu", r.rlim_cur, r.rlim_max);
	}
}

static void set_limits(void)
{
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		struct rlimit r;
		getrlimit(i, &r);
		switch (i) {
		case RLIMIT_STACK: r.rlim_cur = 64 << 20; break;
		case RLIMIT_NOFILE: r.rlim_cur = 77, r.rlim_max = 99; break;
		case RLIMIT_CORE: r.rlim_cur = 12345, r.rlim_max = RLIM_INFINITY; break;
		case RLIMIT_FSIZE: r.rlim_cur = 1 << 20; break;
		case RLIMIT_DATA: r.rlim_cur = 1 << 30, r.rlim_max = 2UL << 30; break;
		case RLIMIT_AS: r.rlim_cur = 3UL << 30; break;
		case RLIMIT_CPU: r.rlim_cur = 1000, r.rlim_max = 2000; break;
		case RLIMIT_NPROC: case RLIMIT_SIGPENDING: case RLIMIT_MEMLOCK: case RLIMIT_MSGQUEUE: r.rlim_cur = r.rlim_max / 3; break;
		case RLIMIT_RTTIME: r.rlim_cur = 1000000; break;
		}
		check(setrlimit(i, &r) == 0 || r.rlim_max == RLIM_INFINITY, "setrlimit %d", i);
	}
}

/* The nice value of a session, as which all of it is scheduled (sched(7)). */
static void set_autogroup(const char *nice)
{
	if (!proc)
		return;
	int fd = open("/proc/self/autogroup", O_WRONLY);
	check(fd >= 0, "autogroup");
	while (write(fd, nice, strlen(nice)) < 0)
		check(errno == EAGAIN, "autogroup"); /* of users, the kernel takes ten a second */
	close(fd);
}
static void fact_autogroup(const char *of, pid_t pid)
{
	char name[64], path[64];
	sprintf(path, "/proc/%d/autogroup", pid);
	sprintf(name, "autogroup of %s", of);
	char *nice = strstr(contents(path), "nice");
	fact(name, "%s", nice ? nice : "none");
}

static void fact_prctl(const char *name, int option)
{
	fact(name, "%d", prctl(option, 0, 0, 0, 0));
}

static void attributes(void)
{
	int v = 0;
	fact("personality", "%lx", (unsigned long)personality(0xffffffff));
	fact_prctl("dumpable", PR_GET_DUMPABLE);
	fact_prctl("keep capabilities", PR_GET_KEEPCAPS);
	fact_prctl("no_new_privs", PR_GET_NO_NEW_PRIVS);
	fact_prctl("huge pages off", PR_GET_THP_DISABLE);
	fact_prctl("securebits", PR_GET_SECUREBITS);
	fact_prctl("mce kill", PR_MCE_KILL_GET);
	fact_prctl("mdwe", 66);
	fact_prctl("memory merge", 68);
	prctl(PR_GET_CHILD_SUBREAPER, &v);
	fact("subreaper", "%d", v);
	prctl(PR_GET_PDEATHSIG, &v);
	fact("parent-death signal", "%d", v);
	prctl(PR_GET_TSC, &v);
	fact("time stamp counter", "%d", v);
	mode_t m = umask(0);
	umask(m);
	fact("umask", "%o", m);
	static char cwd[4096];
	fact("getcwd", "%s", getcwd(cwd, sizeof(cwd)) ? cwd : strerror(errno));
	struct stat st;
	works(stat(".", &st), "stat .");
	fact("working directory", "%lx %lu", st.st_dev, st.st_ino);
	works(stat("/", &st), "stat /");
	fact("root directory", "%lx %lu", st.st_dev, st.st_ino);
	/* Of one that was not started in a container the parent stays behind. */
	fact("ids", "pid %d ppid %d pgid %d sid %d uid %d gid %d", getpid(), getenv("CKPT_E2E_ADOPTED") ? 0 : getppid(), getpgrp(), getsid(0), getuid(), getgid());
	fact("membarrier", "%ld", syscall(SYS_membarrier, 1 << 9 /* MEMBARRIER_CMD_GET_REGISTRATIONS */, 0, 0));
	works(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0), "membarrier");
	fact("environment in memory", "%p %s %s", environ, environ[0], getenv("CKPT_E2E_OWN"));
	fact("auxv in memory", "entry %lx, vdso %lx, random %lx", getauxval(AT_ENTRY), getauxval(AT_SYSINFO_EHDR), getauxval(AT_RANDOM));
}

/* In stat, from the flags of the process on, what is not to change. */
static void stat_fields(void)
{
	static const char *const name[] = { [4] = "ppid", "pgrp", "session", "tty", "tty pgrp", [18] = "priority", "nice", "threads",
		[26] = "start of code", "end of code", "start of stack", [38] = "exit signal", [40] = "real-time priority", "policy",
		[45] = "start of data", "end of data", "start of heap", "start of arguments", "end of arguments", "start of environment",
		"end of environment" };
	char *s = strrchr(contents("/proc/self/stat"), ')') + 2;
	int n = 3;
	for (char *f = strtok(s, " \n"); f; f = strtok(NULL, " \n"), n++)
		if (n < (int)(sizeof(name) / sizeof(*name)) && name[n] && !(n == 4 && getenv("CKPT_E2E_ADOPTED")))
			fact(name[n], "%s", f);
}

static void files_of_proc(void)
{
	fact("exe", "%s", link_of("exe"));
	fact("cwd", "%s", link_of("cwd"));
	fact("root", "%s", link_of("root"));
	char *b = contents("/proc/self/cmdline");
	fact_bytes("cmdline", b, contents_size);
	b = contents("/proc/self/environ");
	fact_bytes("environ", b, contents_size);
	b = contents("/proc/self/auxv");
	fact_bytes("auxv", b, contents_size);
	fact("oom_score_adj", "%s", contents("/proc/self/oom_score_adj"));
	fact("coredump_filter", "%s", contents("/proc/self/coredump_filter"));
	fact("loginuid", "%s", contents("/proc/self/loginuid"));
	fact("comm", "%s", contents("/proc/self/comm"));
	fact_autogroup("itself", getpid());
	fact_autogroup("its child", sh->orphan_parent);
	fact_autogroup("its grandchild", sh->orphan);
	stat_fields();
	static const char *const keys[] = { "Umask:", "State:", "Tgid:", "Ngid:", "TracerPid:", "Uid:", "Gid:", "Groups:", "NStgid:", "NSpid:",
		"NSpgid:", "NSsid:", "Kthread:", "VmLck:", "VmPin:", "CoreDumping:", "THP_enabled:", "untag_mask:", "Threads:", "SigPnd:",
		"ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:",
		"Seccomp_filters:", "x86_Thread_features:" };
	for (unsigned i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		fact(keys[i], "%s", line_of("/proc/self/status", keys[i]));
	for (const char *const *k = (const char *const[]){ "[heap]", "[stack]", "[vdso]", "[vvar]", "[vsyscall]", NULL }; *k; k++) {
		char *maps = contents("/proc/self/maps"), *at = strstr(maps, *k);
		char *from = at;
		while (from && from > maps && from[-1] != '\n')
			from--;
		char line[256];
		snprintf(line, sizeof(line), "%.*s", at ? (int)(at - from) : 6, at ? from : "absent");
		/* A stack grows down; a heap may be told with the data before it. */
		if ((*k)[1] == 's' || (*k)[1] == 'h')
			memmove(line, strchr(line, '-'), strlen(strchr(line, '-')) + 1);
		fact(*k, "%s", line);
	}
}

/* The vDSO's clock goes with the kernel's. */
static void clocks(void)
{
	static const clockid_t ids[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_COARSE, CLOCK_TAI, CLOCK_MONOTONIC_RAW };
	for (unsigned i = 0; i < sizeof(ids) / sizeof(*ids); i++) {
		struct timespec a, b, c;
		syscall(SYS_clock_gettime, ids[i], &a);
		clock_gettime(ids[i], &b);
		syscall(SYS_clock_gettime, ids[i], &c);
		int64_t x = a.tv_sec * 1000000000LL + a.tv_nsec, y = b.tv_sec * 1000000000LL + b.tv_nsec, z = c.tv_sec * 1000000000LL + c.tv_nsec;
		expect(x <= y && y <= z, "clock %d: the vDSO says %lld, the kernel %lld and %lld", ids[i], (long long)y, (long long)x, (long long)z);
	}
	unsigned cpu = ~0u;
	works(syscall(SYS_getcpu, &cpu, NULL, NULL), "getcpu");
	/* They stand still while the process does not exist, and never jump. */
	static int64_t mono, boot, real;
	int64_t m = now(CLOCK_MONOTONIC), b = now(CLOCK_BOOTTIME), r = now(CLOCK_REALTIME);
	if (mono) {
		expect(m >= mono && m - mono <= r - real + 100000000LL, "CLOCK_MONOTONIC: %lld ms in %lld ms", (long long)(m - mono) / 1000000,
		       (long long)(r - real) / 1000000);
		int64_t d = (b - boot) - (m - mono);
		expect(d > -1000000 && d < 1000000, "CLOCK_BOOTTIME goes %lld us before CLOCK_MONOTONIC", (long long)d / 1000);
	}
	mono = m, boot = b, real = r;
}

static int deep(int n)
{
	volatile char page[4096];
	page[0] = n;
	return n ? deep(n - 1) + page[0] * 0 : 0;
}

static void look(void)
{
	limits();
	attributes();
	if (proc)
		files_of_proc();
	clocks();
	if (!judge->noting && !heap_end)
		heap_end = sbrk(0); /* noting takes memory */
	expect(judge->noting || sbrk(0) == heap_end, "the end of the heap was %p, is %p", heap_end, sbrk(0));
	expect(!sh->died && !sh->told, "a child died early");
	static int depth = 100; /* pages; the stack grows at every look */
	deep(depth += 200);
}

static void finish(void)
{
	deep(8192); /* 32 MiB, of the 64 that the limit allows */
	char *more = sbrk(1 << 20);
	expect(more == heap_end, "sbrk gave %p", more);
	memset(more, 7, 1 << 20);
	char *big = malloc(100 << 20);
	expect(big != NULL, "malloc");
	free(big);
	/* Its parent's death tells the child. */
	kill(sh->orphan_parent, SIGKILL);
	expect(comes(&sh->died, 1), "the parent-death signal does not come");
	/* The process between has reaped it, and then its child came to us. */
	int status;
	pid_t pid = waitpid(sh->orphan_parent, &status, 0);
	expect(pid == sh->orphan_parent && WIFSIGNALED(status), "waitpid gave %d", pid);
	pid = waitpid(sh->orphan, &status, 0);
	expect(pid == sh->orphan && WEXITSTATUS(status) == 9, "the orphan did not come to its subreaper: %d, %s", pid, strerror(errno));
	int fd = open("/tmp", O_RDONLY | O_DIRECTORY), last = fd;
	while (fd >= 0)
		last = fd, fd = dup(last);
	expect(errno == EMFILE && last == 76, "the last descriptor is %d: %s", last, strerror(errno));
}

static void on_death(int sig)
{
	sh->died = 1;
	sh->told = getppid();
	_exit(9);
}

static void children(void)
{
	pid_t parent = fork();
	if (parent == 0) {
		setsid();
		set_autogroup("5");
		if (fork() == 0) {
			setsid();
			set_autogroup("11");
			signal(SIGHUP, on_death);
			prctl(PR_SET_PDEATHSIG, SIGHUP);
			sh->orphan = getpid();
			sh->reaper = 1;
			for (;;)
				pause();
		}
		for (;;)
			pause();
	}
	sh->orphan_parent = parent;
	check(comes(&sh->reaper, 1), "children");
}

int main(int argc, char **argv)
{
	begin();
	sh = shared(sizeof(*sh));
	/* Where the linker and libc put things must not be by chance. */
	if (!(personality(0xffffffff) & ADDR_NO_RANDOMIZE)) {
		check(personality(ADDR_NO_RANDOMIZE) >= 0, "personality");
		setenv("CKPT_E2E_OWN", "of its own", 1);
		execv("/proc/self/exe", argv);
		fail("exec");
	}
	if (argc > 1) {
		check(mkdir("root", 0755) == 0 && mkdir("root/inner", 0755) == 0 && mkdir("root/tmp", 0755) == 0, "mkdir");
		check(chroot("root") == 0 && chdir("/inner") == 0, "chroot");
		proc = NULL;
	}
	personality(ADDR_NO_RANDOMIZE | 0x0020000 /* UNAME26 */);
	strcpy(argv[0], "another");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	children();
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, SIGWINCH);
	prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0);
	umask(0135);
	/* Where the kernel has no such command, it says so. */
	for (const int *c = (const int[]){ MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED,
		     MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, 0 }; *c; c++)
		syscall(SYS_membarrier, *c, 0, 0);
	if (proc) {
		int fd = open("/proc/self/oom_score_adj", O_WRONLY);
		check(write(fd, "321", 3) == 3, "oom_score_adj");
		close(fd);
		fd = open("/proc/self/coredump_filter", O_WRONLY);
		check(write(fd, "0x1f", 4) == 4, "coredump_filter");
		close(fd);
	}
	set_limits();
	serve(look, finish);
}
