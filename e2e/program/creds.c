/*
 * creds: credentials, which the kernel keeps for each thread: ids by raw
 * system calls, capability sets, securebits; and that they are in force.
 */
#include "state.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

struct caps {
	uint64_t eff, prm, inh;
};
static void capset_(uint64_t eff, uint64_t prm, uint64_t inh)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = { { eff, prm, inh }, { eff >> 32, prm >> 32, inh >> 32 } };
	check(syscall(SYS_capset, &h, d) == 0, "capset");
}
static struct caps capget_(void)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2];
	check(syscall(SYS_capget, &h, d) == 0, "capget");
	return (struct caps){ d[0].effective | (uint64_t)d[1].effective << 32, d[0].permitted | (uint64_t)d[1].permitted << 32,
		d[0].inheritable | (uint64_t)d[1].inheritable << 32 };
}
#define CAP(c) (1ULL << CAP_##c)

static void setids(int r, int e, int s)
{
	check(syscall(SYS_setresgid, r + 100, e + 100, s + 100) == 0, "setresgid");
	check(syscall(SYS_setresuid, r, e, s) == 0, "setresuid");
}
static void setgroups_(int n, ...)
{
	gid_t g[32];
	for (int i = 0; i < n; i++)
		g[i] = 2000 + i * 100001;
	check(syscall(SYS_setgroups, n, g) == 0, "setgroups");
}

static void t_root(void) {}
static void t_user(void) { setids(1001, 1001, 1001); }
static void t_three(void) { setgroups_(5); setids(1001, 1002, 1003); }
static void t_effective(void) { setgroups_(0); setids(0, 1002, 0); }
static void t_fsuid(void) { setgroups_(32); setfsgid(77); setfsuid(66); }
static void t_less(void) { capset_(CAP(CHOWN) | CAP(NET_RAW), CAP(CHOWN) | CAP(NET_RAW) | CAP(KILL), CAP(SETUID)); }
static void t_ambient(void)
{
	prctl(PR_SET_KEEPCAPS, 1);
	setids(1004, 1004, 1004);
	capset_(CAP(NET_BIND_SERVICE) | CAP(CHOWN), CAP(NET_BIND_SERVICE) | CAP(CHOWN), CAP(NET_BIND_SERVICE) | CAP(CHOWN));
	check(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0) == 0, "ambient");
}
static void t_bounding(void)
{
	for (int c = 0; c < 20; c++)
		check(prctl(PR_CAPBSET_DROP, c, 0, 0, 0) == 0, "bounding set");
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}
static void t_securebits(void)
{
	check(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_KEEP_CAPS |
		    SECBIT_NO_CAP_AMBIENT_RAISE) == 0, "securebits");
	setids(1005, 1006, 1007); /* capabilities stay */
}
static void t_nothing(void)
{
	check(prctl(PR_SET_SECUREBITS, 0xef & ~SECBIT_KEEP_CAPS) == 0, "securebits");
	setids(1008, 1008, 1008);
	capset_(0, 0, 0);
}
static void t_setuid_root(void) { setids(1009, 0, 0); }

static int inner;

static struct self {
	const char *name;
	void (*become)(void);
	volatile int turn;
} selves[] = {
	{ "root", t_root }, { "user", t_user }, { "three ids", t_three }, { "effective", t_effective }, { "fsuid", t_fsuid }, { "less", t_less },
	{ "ambient", t_ambient }, { "bounding", t_bounding }, { "securebits", t_securebits }, { "nothing", t_nothing },
	{ "setuid root", t_setuid_root },
};
#define N (sizeof(selves) / sizeof(*selves))
#define told_as(s, what) (snprintf(name, sizeof(name), "%s: %s", (s)->name, what), name)

static void look_self(struct self *s)
{
	char name[64], path[64];
	sprintf(path, "/proc/self/task/%d/status", gettid());
	for (const char *const *k = (const char *const[]){ "Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:",
		     "NoNewPrivs:", NULL }; *k; k++)
		fact(told_as(s, *k), "%s", line_of(path, *k));
	int ids[6], fs[2] = { setfsuid(-1), setfsgid(-1) };
	syscall(SYS_getresuid, ids, ids + 1, ids + 2);
	syscall(SYS_getresgid, ids + 3, ids + 4, ids + 5);
	fact(told_as(s, "ids"), "%d %d %d, %d %d %d, %d %d", ids[0], ids[1], ids[2], ids[3], ids[4], ids[5], fs[0], fs[1]);
	struct caps c = capget_();
	fact(told_as(s, "capabilities"), "%lx %lx %lx", c.eff, c.prm, c.inh);
	fact(told_as(s, "securebits"), "%x", prctl(PR_GET_SECUREBITS));
	fact(told_as(s, "keep"), "%d", prctl(PR_GET_KEEPCAPS));
	fact(told_as(s, "no_new_privs"), "%d", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	fact(told_as(s, "ambient chown"), "%d", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0));
	/* Do they do what they say? */
	int fd = open("secret", O_RDONLY | O_CLOEXEC), made = mkdir("made", 0700);
	struct stat st = { 0 };
	stat("made", &st);
	fact(told_as(s, "opens a file of root"), "%d", fd >= 0);
	fact(told_as(s, "makes a directory"), "%d of %d:%d", made, st.st_uid, st.st_gid);
	fact(told_as(s, "gives it away"), "%d", made == 0 ? chown("made", 1, 1) : 0);
	rmdir("made");
	close(fd);
}

static void *run(void *arg)
{
	struct self *s = arg;
	s->become();
	s->turn = 2;
	for (;;) {
		while (__atomic_load_n(&s->turn, __ATOMIC_SEQ_CST) != 1)
			usleep(2000);
		look_self(s);
		__atomic_store_n(&s->turn, 2, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static struct {
	volatile int turn, dumpable;
	pid_t pid;
} *child;

static void look(void)
{
	for (unsigned i = 0; i < N; i++) {
		selves[i].turn = 1;
		expect(comes(&selves[i].turn, 2), "%s: does not run", selves[i].name);
	}
	fact("dumpable", "%d", prctl(PR_GET_DUMPABLE));
	/* A process that is nobody and may not be traced. */
	child->turn = 1;
	expect(comes(&child->turn, 2), "the child does not run");
	fact("child: dumpable", "%d", child->dumpable);
	char path[64];
	struct stat st = { 0 };
	sprintf(path, "/proc/%d/status", child->pid);
	fact("child: ids", "%s", line_of(path, "Uid:"));
	fact("child: capabilities", "%s", line_of(path, "CapPrm:"));
	stat(path, &st);
	if (!inner) /* which is the container's then */
		fact("child: owner of its files", "%d:%d", st.st_uid, st.st_gid);
}

/* "inner": it runs in a user namespace made inside. */
int main(int argc, char **argv)
{
	begin();
	inner = argc > 1 && strcmp(argv[1], "inner") == 0;
	umask(0);
	check(close(open("secret", O_CREAT | O_WRONLY, 0600)) == 0 && chmod(".", 0777) == 0, "secret");
	check(chmod("secret", 0600) == 0, "chmod");
	child = shared(sizeof(*child));
	pid_t pid = fork();
	if (pid == 0) {
		sigset_t all;
		sigfillset(&all);
		sigprocmask(SIG_BLOCK, &all, NULL);
		setgroups_(1);
		setids(4711, 4711, 4711); /* this makes it not dumpable */
		for (;;) {
			while (child->turn != 1)
				usleep(2000);
			child->dumpable = prctl(PR_GET_DUMPABLE);
			child->turn = 2;
		}
	}
	child->pid = pid;
	for (unsigned i = 0; i < N; i++) {
		pthread_t t;
		check(pthread_create(&t, NULL, run, &selves[i]) == 0, "pthread_create");
		check(comes(&selves[i].turn, 2), "%s starts", selves[i].name);
	}
	/* A thread's setresuid made it 0 or 2, by fs.suid_dumpable. */
	prctl(PR_SET_DUMPABLE, 1);
	serve(look, NULL);
}
