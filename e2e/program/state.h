/*
 * What a program finds when it looks at itself: facts, told by name. The first
 * look notes them; every later one says which differ.
 */
#include "step.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define FACTS 1024

/* Shared by all processes of a program, so that each may find a fault. */
static struct judgement {
	int noting; /* the first look */
	int bad;    /* faults of the present look */
} *judge;

static struct fact {
	char name[64];
	char *was;
} fact_of[FACTS];

/* A fault, by its name; a line each. */
#define wrong(format, ...)                                                     \
	do {                                                                   \
		say("BAD " format "\n", ##__VA_ARGS__);                        \
		__atomic_add_fetch(&judge->bad, 1, __ATOMIC_SEQ_CST);          \
	} while (0)

#define expect(ok, format, ...)                                                \
	do {                                                                   \
		if (!(ok))                                                     \
			wrong(format, ##__VA_ARGS__);                          \
	} while (0)

/* expect for a call that must give zero or more. */
#define works(call, format, ...)                                               \
	do {                                                                   \
		if ((long)(call) == -1)                                        \
			wrong(format ": %s", ##__VA_ARGS__, strerror(errno));  \
	} while (0)

/* Notes the fact in the first look, and compares it in the others. */
static inline void fact(const char *name, const char *format, ...)
{
	static char text[1 << 16];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	struct fact *f = fact_of;
	while (f < fact_of + FACTS && f->was && strcmp(f->name, name) != 0)
		f++;
	check(f < fact_of + FACTS && strlen(name) < sizeof(f->name), "too many facts: %s", name);
	if (!f->was) {
		check(judge->noting, "a new fact: %s", name);
		strcpy(f->name, name);
		check(f->was = strdup(text), "strdup");
	} else if (strcmp(f->was, text) != 0) {
		/* say has room for a line only */
		size_t at = 0;
		while (f->was[at] == text[at])
			at++;
		at = at > 100 ? at - 100 : 0;
		wrong("%s: was %s%.400s, is %.400s", name, at ? "..." : "", f->was + at, text + at);
	}
}

/* A fact made of bytes. */
static inline void fact_bytes(const char *name, const void *bytes, size_t n)
{
	char text[4096] = "";
	check(2 * n < sizeof(text), "too many bytes");
	for (size_t i = 0; i < n; i++)
		sprintf(text + 2 * i, "%02x", ((const unsigned char *)bytes)[i]);
	fact(name, "%s", text);
}

static size_t contents_size;

/* The contents of a small file, in memory that the next call uses again. */
static inline char *contents(const char *path)
{
	static char text[1 << 16];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		snprintf(text, sizeof(text), "(%s: %s)", path, strerror(errno));
		return text;
	}
	ssize_t n, at = 0;
	while ((n = read(fd, text + at, sizeof(text) - 1 - at)) > 0)
		at += n;
	text[at] = 0;
	contents_size = at;
	close(fd);
	return text;
}

/* The rest of the line "key..." of a file such as /proc/PID/status. */
static inline char *line_of(const char *path, const char *key)
{
	char *text = contents(path);
	for (char *l = text; l && *l; l = strchr(l, '\n') ? strchr(l, '\n') + 1 : NULL) {
		if (strncmp(l, key, strlen(key)) != 0)
			continue;
		char *end = strchr(l, '\n');
		if (end)
			*end = 0;
		l += strlen(key);
		return l + strspn(l, " \t");
	}
	return "(no such line)";
}

/* What the kernel says of a descriptor and its open file description. */
static inline void fact_fd(const char *what, int fd)
{
	char name[64], path[64], to[512];
	struct stat st = { 0 };
	struct f_owner_ex own = { 0 };
	snprintf(name, sizeof(name), "%s: flags", what);
	fact(name, "descriptor %x, description %o", fcntl(fd, F_GETFD), fcntl(fd, F_GETFL));
	int sig = fcntl(fd, F_GETSIG);
	fcntl(fd, F_GETOWN_EX, &own);
	snprintf(name, sizeof(name), "%s: signals", what);
	fact(name, "%d to %d %d", sig, own.type, own.pid);
	works(fstat(fd, &st), "%s: fstat", what);
	sprintf(path, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(path, to, sizeof(to) - 1);
	to[n < 0 ? 0 : n] = 0;
	int numbered = strncmp(to, "pipe:", 5) == 0 || strncmp(to, "socket:", 7) == 0;
	if (numbered) /* the number is the kernel's */
		*strchr(to, ':') = 0;
	snprintf(name, sizeof(name), "%s: file", what);
	fact(name, "%s, mode %o, owner %d:%d, device %lx", to, st.st_mode, st.st_uid, st.st_gid, st.st_rdev);
	if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode)) {
		/* Those of /proc are numbered as they are looked at. */
		int deleted = strstr(to, " (deleted)") != NULL || st.st_nlink == 0 || strncmp(to, "/proc/", 6) == 0;
		snprintf(name, sizeof(name), "%s: inode", what);
		fact(name, "%lx %lu links %lu", deleted ? 0 : st.st_dev, deleted ? 0 : st.st_ino, S_ISDIR(st.st_mode) ? 0 : st.st_nlink);
		snprintf(name, sizeof(name), "%s: size", what);
		if (S_ISREG(st.st_mode) && strncmp(to, "/proc", 5) != 0)
			fact(name, "%ld, changed %ld.%09ld", st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	}
	snprintf(name, sizeof(name), "%s: position", what);
	fact(name, "%ld", S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) ? -1 : lseek(fd, 0, SEEK_CUR));
}

/* Waits until *word is want, and says whether it came to be. */
static inline int comes(volatile int *word, int want)
{
	for (int64_t until = now(CLOCK_MONOTONIC) + 20000000000LL; __atomic_load_n(word, __ATOMIC_SEQ_CST) != want;) {
		if (now(CLOCK_MONOTONIC) > until)
			return 0;
		usleep(1000);
	}
	return 1;
}

/* Memory that forked children share. */
static inline void *shared(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(p != MAP_FAILED, "mmap");
	return p;
}

static inline void begin_in(struct judgement *memory)
{
	judge = memory;
	judge->noting = 1;
	sigset_t asked;
	sigemptyset(&asked);
	sigaddset(&asked, SIGUSR1);
	sigaddset(&asked, SIGUSR2);
	check(sigprocmask(SIG_BLOCK, &asked, NULL) == 0, "sigprocmask");
}

static inline void begin(void) { begin_in(shared(sizeof(*judge))); }

/*
 * Looks at every SIGUSR1, and at SIGUSR2 does once what only a last look can.
 * The state must be there, and begin called before any of it was made.
 */
static inline void serve(void (*look)(void), void (*finish)(void))
{
	sigset_t asked;
	sigemptyset(&asked);
	sigaddset(&asked, SIGUSR1);
	sigaddset(&asked, SIGUSR2);
	look();
	judge->noting = 0;
	look(); /* what changes by itself is no fact */
	check(judge->bad == 0, "the program is wrong about itself");
	say("ready\n");
	for (int n = 1;;) {
		siginfo_t si;
		if (sigwaitinfo(&asked, &si) < 0)
			continue;
		judge->bad = 0;
		if (si.si_signo == SIGUSR2) {
			look();
			if (finish)
				finish();
			say(judge->bad ? "bad\n" : "done\n");
			continue;
		}
		look();
		say("%s %d\n", judge->bad ? "bad" : "good", n++);
	}
}
