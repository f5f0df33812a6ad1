/*
 * Namespaces that processes have made for themselves: of mounts, System V
 * objects, host name and clocks. Each process compares what it is in with what
 * the others are in, and with what the first one sees.
 *
 * spaces [threads]: some processes are made by threads, which are their parents.
 */
#include "state.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

enum { APART, BESIDE, AHEAD, LATER, BEFORE, BELOW, UNDER, WHO };
static const char *const name_of[WHO] = { "apart", "beside", "ahead", "later", "before", "below", "under" };

static struct {
	int ask, done[WHO], born[WHO];
	pid_t first, pid[WHO], thread[WHO]; /* thread: by which it was made */
	int64_t mono[WHO];
} *all;

static const char *const sorts[] = { "mnt", "ipc", "uts", "time" };
enum { SORTS = 4 };

static void space(char *to, size_t n, const char *of, const char *sort)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%s/ns/%s", of, sort);
	ssize_t len = readlink(path, to, n - 1);
	check(len > 0, "readlink %s", path);
	to[len] = 0;
}

/* Which namespaces two threads have in common. */
static void fact_common(const char *what, pid_t a, pid_t b)
{
	char common[64] = "";
	for (int i = 0; i < SORTS; i++) {
		char x[64], y[64], of[16];
		snprintf(of, sizeof(of), "%d", a); /* of a thread, too */
		space(x, sizeof(x), of, sorts[i]);
		snprintf(of, sizeof(of), "%d", b);
		space(y, sizeof(y), of, sorts[i]);
		strcat(common, strcmp(x, y) == 0 ? " " : " not ");
		strcat(common, sorts[i]);
	}
	fact(what, "common:%s", common);
}

static void fact_world(const char *who)
{
	char name[64];
	struct utsname u;
	check(uname(&u) == 0, "uname");
	snprintf(name, sizeof(name), "%s: host", who);
	fact(name, "%s %s", u.nodename, u.domainname);
	snprintf(name, sizeof(name), "%s: msgmnb", who);
	fact(name, "%s", contents("/proc/sys/kernel/msgmnb"));
	char cwd[4096];
	check(getcwd(cwd, sizeof(cwd)), "getcwd");
	snprintf(name, sizeof(name), "%s: directory", who);
	fact(name, "%s", cwd);
	snprintf(name, sizeof(name), "%s: file beside", who);
	fact(name, "%s", contents("file"));
	snprintf(name, sizeof(name), "%s: children's clocks", who);
	char own[64], children[64];
	space(own, sizeof(own), "self", "time");
	space(children, sizeof(children), "self", "time_for_children");
	fact(name, "%s", strcmp(own, children) == 0 ? "its own" : "others");
}

static int beside_fd;

static void attend(int who, void (*look)(void))
{
	all->pid[who] = getpid();
	__atomic_store_n(&all->born[who], 1, __ATOMIC_SEQ_CST);
	for (int n = 0;;) {
		int ask = __atomic_load_n(&all->ask, __ATOMIC_SEQ_CST);
		if (n == ask) {
			syscall(SYS_futex, &all->ask, FUTEX_WAIT, ask, NULL, NULL, 0);
			continue;
		}
		fact_world(name_of[who]);
		all->mono[who] = now(CLOCK_MONOTONIC);
		if (look)
			look();
		n = ask;
		__atomic_store_n(&all->done[who], n, __ATOMIC_SEQ_CST);
	}
}

/* Whether a process sees the mount with that id: the first number of a line. */
static int sees(const char *mountinfo, const char *id)
{
	char key[40];
	snprintf(key, sizeof(key), "%s ", id);
	return strcmp(line_of(mountinfo, key), "(no such line)") != 0;
}

/* What this process has open was opened through its own mounts. */
static void beside_look(void)
{
	fact_fd("beside: file", beside_fd);
	char id[32];
	snprintf(id, sizeof(id), "%s", line_of("/proc/self/fdinfo/9", "mnt_id:"));
	expect(sees("/proc/self/mountinfo", id), "beside: its file is open through a mount of others");
	char first[32];
	snprintf(first, sizeof(first), "/proc/%d/mountinfo", all->first);
	expect(!sees(first, id), "beside: its file is open through a mount of the first process");
}

static int threads;

static void *forks(void *arg)
{
	int who = (long)arg;
	all->thread[who] = syscall(SYS_gettid);
	if (fork() == 0)
		attend(who, NULL);
	while (pause())
		continue;
	return NULL;
}

/* A thread of the caller makes a process. */
static void by_thread(int who)
{
	pthread_t t;
	if (!threads && fork() == 0)
		attend(who, NULL);
	check(!threads || pthread_create(&t, NULL, forks, (void *)(long)who) == 0, "pthread_create");
}

static void fact_children(const char *what, pid_t pid, pid_t tid)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, tid);
	fact(what, "%s", contents(path));
}

static void apart(void)
{
	if (fork() == 0)
		attend(BEFORE, NULL);
	check(unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC) == 0, "unshare");
	check(sethostname("apart", 5) == 0 && setdomainname("from.all", 8) == 0, "sethostname");
	int fd = open("/proc/sys/kernel/msgmnb", O_WRONLY);
	check(fd >= 0 && write(fd, "4711", 4) == 4, "msgmnb");
	close(fd);
	if (fork() == 0) {
		fd = open("file", O_RDONLY);
		check(fd >= 0 && dup2(fd, 9) == 9, "open");
		close(fd);
		beside_fd = 9;
		attend(BESIDE, beside_look);
	}
	by_thread(BELOW);
	attend(APART, NULL);
}

enum { AWAY = 100000 };

static void ahead(void)
{
	check(unshare(CLONE_NEWTIME) == 0, "unshare");
	int fd = open("/proc/self/timens_offsets", O_WRONLY);
	char line[64];
	/* Offsets count from the clocks of the first time namespace of all. */
	long was = atol(line_of("/proc/self/timens_offsets", "monotonic"));
	snprintf(line, sizeof(line), "monotonic %ld 0\n", was + AWAY);
	check(fd >= 0 && write(fd, line, strlen(line)) == (ssize_t)strlen(line), "timens_offsets");
	close(fd);
	if (fork() == 0) {
		by_thread(UNDER);
		attend(LATER, NULL);
	}
	attend(AHEAD, NULL);
}

static void look(void)
{
	fact_world("first");
	int want = __atomic_add_fetch(&all->ask, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &all->ask, FUTEX_WAKE, WHO, NULL, NULL, 0);
	for (int i = 0; i < WHO; i++)
		expect(comes(&all->done[i], want), "%s does not answer", name_of[i]);
	fact_common("first and apart", getpid(), all->pid[APART]);
	fact_common("apart and beside", all->pid[APART], all->pid[BESIDE]);
	fact_common("first and ahead", getpid(), all->pid[AHEAD]);
	fact_common("ahead and later", all->pid[AHEAD], all->pid[LATER]);
	fact_common("first and before", getpid(), all->pid[BEFORE]);
	fact_common("apart and below", all->pid[APART], all->pid[BELOW]);
	fact_common("later and under", all->pid[LATER], all->pid[UNDER]);
	fact_children("apart: its children", all->pid[APART], all->pid[APART]);
	if (threads) {
		fact_common("apart and its thread", all->pid[APART], all->thread[BELOW]);
		fact_common("later and its thread", all->pid[LATER], all->thread[UNDER]);
		fact_children("apart: children of its thread", all->pid[APART], all->thread[BELOW]);
		fact_children("later: children of its thread", all->pid[LATER], all->thread[UNDER]);
	}
	long apart = (all->mono[LATER] - all->mono[AHEAD]) / 1000000000;
	expect(apart >= AWAY - 2 && apart <= AWAY + 2, "clocks are %ld s apart", apart);
	apart = (all->mono[AHEAD] - now(CLOCK_MONOTONIC)) / 1000000000;
	expect(apart >= -2 && apart <= 2, "the clock of whoever sets its children's is %ld s ahead", apart);
}

int main(int argc, char **argv)
{
	begin();
	threads = argc > 1;
	all = shared(sizeof(*all));
	all->first = getpid();
	int fd = open("file", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	check(fd >= 0 && write(fd, "contents", 8) == 8, "file");
	close(fd);
	if (fork() == 0)
		apart();
	if (fork() == 0)
		ahead();
	for (int i = 0; i < WHO; i++)
		while (!__atomic_load_n(&all->born[i], __ATOMIC_SEQ_CST))
			usleep(100);
	serve(look, NULL);
}
