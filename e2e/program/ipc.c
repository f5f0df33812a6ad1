/*
 * ipc: System V objects, POSIX shared memory and semaphores, and locks on
 * files, of which a child tells whether it could take them.
 */
#include "state.h"
#include <semaphore.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#define P 4096
static struct {
	volatile int order, answer, waits, undone;
	char path[64];
	int whence, type;
	long start, len;
} *sh;

/* --- System V --- */
static int shm_key, shm_gone, shm_alone, sem_key, sem_plain, msg_key, msg_full;
static char *at, *at_ro, *at_gone, *at_parts, *at_moved;
static int shm_parts;
static pid_t helper, undoer, waiter;
static key_t key;

static void fill(char *p, size_t n, int seed)
{
	for (size_t i = 0; i < n; i += 8)
		p[i] = seed + i / P;
}
static int same(const char *p, size_t n, int seed)
{
	for (size_t i = 0; i < n; i += 8)
		if (p[i] != (char)(seed + i / P))
			return 0;
	return 1;
}
struct message {
	long type;
	char text[2000];
};
static void put(int q, long type, const char *text)
{
	struct message m = { type };
	strcpy(m.text, text);
	check(msgsnd(q, &m, strlen(text), IPC_NOWAIT) == 0, "msgsnd");
}
static void take(int q, long type, const char *want)
{
	struct message m = { 0 };
	ssize_t n = msgrcv(q, &m, sizeof(m.text), type, IPC_NOWAIT);
	expect(n == (ssize_t)strlen(want) && memcmp(m.text, want, n) == 0, "message of type %ld: \"%.20s\" (%zd)", type, m.text, n);
}
static void perm(const char *name, struct ipc_perm *p)
{
	fact(name, "key %x, owner %d:%d, maker %d:%d, mode %o", p->__key, p->uid, p->gid, p->cuid, p->cgid, p->mode);
}
/*
 * A segment of which parts are left, one of them moved, with other protections,
 * and other memory where the rest was.
 */
static void parts(void)
{
	check((shm_parts = shmget(key + 2, 6 * P, IPC_CREAT | IPC_EXCL | 0600)) >= 0, "shmget"); /* removed, it shows its key */
	check((at_parts = shmat(shm_parts, NULL, 0)) != (void *)-1, "shmat");
	fill(at_parts, 6 * P, 4);
	check(mmap(at_parts, P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at_parts, "mmap");
	fill(at_parts, P, 9);
	check(mprotect(at_parts + P, P, PROT_READ) == 0 && munmap(at_parts + 3 * P, P) == 0, "munmap");
	char *far = mmap(NULL, 3 * P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(far != MAP_FAILED && mremap(at_parts + 5 * P, P, P, MREMAP_MAYMOVE | MREMAP_FIXED, far + P) == far + P, "mremap");
	at_moved = far + P;
	check(shmctl(shm_parts, IPC_RMID, NULL) == 0, "shmctl");
}
static void look_parts(void)
{
	struct shmid_ds s;
	works(shmctl(shm_parts, IPC_STAT, &s), "shmctl");
	fact("shm, in parts: attached", "%lu", s.shm_nattch);
	perm("shm, in parts", &s.shm_perm);
	expect(shmget(key + 2, 0, 0) == -1, "shm, in parts: found by its key");
	expect(same(at_parts, P, 9), "shm, in parts: other memory differs");
	expect(same(at_parts + P, 2 * P, 5) && same(at_parts + 4 * P, P, 8) && same(at_moved, P, 9), "shm, in parts: contents differ");
	char *maps = contents("/proc/self/maps"), name[32];
	sprintf(name, " %d ", shm_parts);
	int n = 0;
	for (char *l = strtok(maps, "\n"); l; l = strtok(NULL, "\n"))
		if (strstr(l, "/SYSV") && strstr(l, name)) {
			char of[64];
			sprintf(of, "shm, in parts: %d", n++);
			fact(of, "%s", l);
		}
}
static void finish_parts(void)
{
	struct shmid_ds s;
	works(mprotect(at_parts + P, P, PROT_READ | PROT_WRITE), "shm, in parts: mprotect");
	works(shmctl(shm_parts, IPC_STAT, &s), "shmctl");
	unsigned long before = s.shm_nattch;
	works(shmdt(at_parts), "shm, in parts: shmdt");
	works(shmctl(shm_parts, IPC_STAT, &s), "shmctl");
	expect(before == 4 && s.shm_nattch == 1, "shm, in parts: %lu attached, then %lu", before, s.shm_nattch);
}

static void sysv(void)
{
	key = 0x434b0000 | (getpid() & 0xffff);
	check((shm_key = shmget(key, 5 * P + 100, IPC_CREAT | IPC_EXCL | 0640)) >= 0, "shmget");
	check((shm_gone = shmget(IPC_PRIVATE, 3 * P, 0600)) >= 0 && (shm_alone = shmget(key + 1, 2 * P, IPC_CREAT | 0604)) >= 0, "shmget");
	at = shmat(shm_key, NULL, 0);
	at_ro = shmat(shm_key, NULL, SHM_RDONLY);
	at_gone = shmat(shm_gone, NULL, 0);
	char *p = shmat(shm_alone, NULL, 0);
	check(at != (void *)-1 && at_ro != (void *)-1 && at_gone != (void *)-1 && p != (void *)-1, "shmat");
	fill(at, 5 * P, 1);
	fill(at_gone, 3 * P, 2);
	fill(p, 2 * P, 3);
	check(shmdt(p) == 0 && shmctl(shm_gone, IPC_RMID, NULL) == 0, "shmdt");
	check(shmctl(shm_alone, SHM_LOCK, NULL) == 0, "SHM_LOCK"); /* its mode shows it */
	unsigned short values[5] = { 3, 0, 32767, 1, 9 };
	check((sem_key = semget(key, 5, IPC_CREAT | IPC_EXCL | 0660)) >= 0 && semctl(sem_key, 0, SETALL, values) == 0, "semget");
	check((sem_plain = semget(IPC_PRIVATE, 1, 0600)) >= 0, "semget");
	check((msg_key = msgget(key, IPC_CREAT | IPC_EXCL | 0666)) >= 0 && (msg_full = msgget(IPC_PRIVATE, 0600)) >= 0, "msgget");
	put(msg_key, 5, "five");
	put(msg_key, 1, "one");
	put(msg_key, 5, "five again");
	put(msg_key, 0x7fffffffffff, "");
	struct msqid_ds q;
	check(msgctl(msg_full, IPC_STAT, &q) == 0, "msgctl");
	q.msg_qbytes = 1000;
	check(msgctl(msg_full, IPC_SET, &q) == 0, "msgctl");
	for (int i = 0; i < 10; i++) {
		char text[101] = "";
		memset(text, 'a' + i, 100);
		put(msg_full, i + 1, text);
	}
}
/* Who waits on a semaphore does so again as soon as it has run again. */
static int waits(void)
{
	for (int64_t until = now(CLOCK_MONOTONIC) + 20000000000LL; semctl(sem_key, 1, GETNCNT) != 1;) {
		if (now(CLOCK_MONOTONIC) > until)
			return 0;
		usleep(1000);
	}
	return 1;
}
static void look_sysv(void)
{
	struct shmid_ds s;
	works(shmctl(shm_key, IPC_STAT, &s), "shmctl");
	perm("shm", &s.shm_perm);
	fact("shm: size", "%zu, attached %lu", s.shm_segsz, s.shm_nattch);
	works(shmctl(shm_gone, IPC_STAT, &s), "shmctl");
	perm("shm, removed", &s.shm_perm);
	works(shmctl(shm_alone, IPC_STAT, &s), "shmctl");
	perm("shm, alone", &s.shm_perm);
	fact("shm, alone: attached", "%lu", s.shm_nattch);
	fact("shm: ids", "%d %d %d", shm_key, shm_gone, shm_alone);
	expect(shmget(key, 0, 0) == shm_key && shmget(key + 1, 0, 0) == shm_alone, "shmget finds another");
	expect(same(at, 5 * P, 1) && same(at_ro, 5 * P, 1) && same(at_gone, 3 * P, 2), "shm: contents differ");
	at[8 * 100]++;
	expect(at_ro[8 * 100] == at[8 * 100], "shm: attached twice, is two");
	at[8 * 100]--;
	char *p = shmat(shm_alone, NULL, 0);
	expect(p != (void *)-1 && same(p, 2 * P, 3), "shm, alone: contents differ");
	shmdt(p);
	struct semid_ds d;
	unsigned short v[5] = { 0 };
	works(semctl(sem_key, 0, IPC_STAT, &d), "semctl");
	perm("sem", &d.sem_perm);
	works(semctl(sem_key, 0, GETALL, v), "semctl");
	fact("sem: values", "%d %d %d %d %d", v[0], v[1], v[2], v[3], v[4]);
	fact("sem: last pid", "%d", semctl(sem_key, 3, GETPID));
	expect(waits(), "sem: nobody waits");
	fact("sem: waiting for 0", "%d", semctl(sem_key, 0, GETZCNT));
	fact("sem: ids", "%d %d", sem_key, sem_plain);
	struct msqid_ds q;
	works(msgctl(msg_key, IPC_STAT, &q), "msgctl");
	perm("msg", &q.msg_perm);
	fact("msg: queue", "%lu messages, %lu of %lu bytes, id %d", q.msg_qnum, q.__msg_cbytes, q.msg_qbytes, msg_key);
	works(msgctl(msg_full, IPC_STAT, &q), "msgctl");
	fact("msg, full: queue", "%lu messages, %lu of %lu bytes, id %d", q.msg_qnum, q.__msg_cbytes, q.msg_qbytes, msg_full);
	struct message m = { 1 };
	expect(msgsnd(msg_full, &m, 1, IPC_NOWAIT) == -1 && errno == EAGAIN, "msg, full: has room");
	expect(sh->waits == 1, "a wait on a semaphore has ended");
}
static void finish_sysv(void)
{
	take(msg_key, 0, "five"), take(msg_key, 0, "one"), take(msg_key, 0, "five again"), take(msg_key, 0, "");
	struct message m;
	expect(msgrcv(msg_full, &m, 200, -3, IPC_NOWAIT) == 100 && m.text[0] == 'a', "msg, full: msgrcv");
	kill(undoer, SIGKILL);
	waitpid(undoer, NULL, 0);
	expect(semctl(sem_key, 3, GETVAL) == 1, "sem: SEM_UNDO left %d", semctl(sem_key, 3, GETVAL));
	struct sembuf up = { 1, 1, 0 };
	works(semop(sem_key, &up, 1), "semop");
	expect(comes(&sh->waits, 2), "sem: the wait does not end");
	waitpid(waiter, NULL, 0);
	kill(helper, SIGKILL);
	waitpid(helper, NULL, 0);
	shmdt(at_gone);
	struct shmid_ds s;
	expect(shmctl(shm_gone, IPC_STAT, &s) == -1 && errno == EINVAL, "shm, removed: outlives its last user");
	shmctl(shm_key, IPC_RMID, NULL), shmctl(shm_alone, IPC_RMID, NULL);
	semctl(sem_key, 0, IPC_RMID), semctl(sem_plain, 0, IPC_RMID), msgctl(msg_key, IPC_RMID, NULL), msgctl(msg_full, IPC_RMID, NULL);
}

/* --- POSIX --- */
static char shm_name[96], sem_name[96];
static char *posix, *posix_gone;
static sem_t *named, *anonymous;
static int posix_fd, gone_fd;
static void posix_objects(void)
{
	long long unique = now(CLOCK_REALTIME);
	snprintf(shm_name, sizeof(shm_name), "/%s.%lld", test_name(), unique);
	posix_fd = shm_open(shm_name, O_CREAT | O_EXCL | O_RDWR, 0600);
	check(posix_fd >= 0 && ftruncate(posix_fd, 4 * P) == 0, "shm_open");
	posix = mmap(NULL, 4 * P, PROT_READ | PROT_WRITE, MAP_SHARED, posix_fd, 0);
	fill(posix, 4 * P, 5);
	char name[104];
	snprintf(name, sizeof(name), "%s-gone", shm_name);
	gone_fd = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
	check(gone_fd >= 0 && ftruncate(gone_fd, 6 * P) == 0 && shm_unlink(name) == 0, "shm_open");
	posix_gone = mmap(NULL, 4 * P, PROT_READ | PROT_WRITE, MAP_SHARED, gone_fd, P);
	fill(posix_gone, 4 * P, 6);
	strcpy(sem_name, shm_name);
	named = sem_open(sem_name, O_CREAT | O_EXCL, 0600, 2);
	check(named != SEM_FAILED, "sem_open");
	anonymous = shared(P);
	sem_init(anonymous, 1, 3);
}
static void look_posix(void)
{
	int v = -1;
	expect(same(posix, 4 * P, 5) && same(posix_gone, 4 * P, 6), "POSIX shm: contents differ");
	fact_fd("POSIX shm", posix_fd);
	sem_getvalue(named, &v);
	fact("POSIX semaphore", "%d", v);
	sem_getvalue(anonymous, &v);
	fact("POSIX semaphore, anonymous", "%d", v);
	/* A mapping and the file it is of are one, with a name and without. */
	posix[16] = 99;
	char c = 0;
	expect(pread(posix_fd, &c, 1, 16) == 1 && c == 99, "POSIX shm: mapping and file are two");
	posix[16] = 5;
	posix_gone[16] = 98;
	expect(pread(gone_fd, &c, 1, P + 16) == 1 && c == 98, "POSIX shm, unlinked: mapping and file are two");
	posix_gone[16] = 6;
}
static void finish_posix(void)
{
	int fd = shm_open(shm_name, O_RDONLY, 0);
	expect(fd >= 0, "POSIX shm: cannot be opened again");
	works(shm_unlink(shm_name), "shm_unlink");
	sem_t *again = sem_open(sem_name, 0);
	expect(again != SEM_FAILED && sem_trywait(again) == 0 && sem_trywait(again) == 0 && sem_trywait(again) == -1, "POSIX semaphore: count");
	works(sem_unlink(sem_name), "sem_unlink");
}

/* --- locks --- */
static int flock_ex, flock_sh, flock_dup, ofd, posix_lock;
static void lock(int fd, int cmd, int type, long start, long len)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };
	check(fcntl(fd, cmd, &l) == 0, "lock");
}
static void locks(void)
{
	static const char *const names[] = { "flock-ex", "flock-sh", "ofd", "posix" };
	for (int i = 0; i < 4; i++)
		check(close(open(names[i], O_CREAT | O_WRONLY, 0600)) == 0 && truncate(names[i], 100) == 0, "%s", names[i]);
	flock_ex = open("flock-ex", O_RDWR);
	flock_sh = open("flock-sh", O_RDONLY);
	check(flock(flock_ex, LOCK_EX) == 0 && flock(flock_sh, LOCK_SH) == 0, "flock");
	flock_dup = dup(flock_ex);
	ofd = open("ofd", O_RDWR);
	lock(ofd, F_OFD_SETLK, F_WRLCK, 10, 20);
	lock(ofd, F_OFD_SETLK, F_RDLCK, 50, 0);
	posix_lock = open("posix", O_RDWR);
	lock(posix_lock, F_SETLK, F_WRLCK, 0, 10);
	lock(posix_lock, F_SETLK, F_RDLCK, 20, 5);
	lock(posix_lock, F_SETLK, F_WRLCK, 90, 0);
}
/* Can another process lock that part? 1: yes, 0: no. */
static int can(const char *path, int type, long start, long len)
{
	strcpy(sh->path, path);
	sh->type = type, sh->start = start, sh->len = len;
	sh->order = 1;
	expect(comes(&sh->order, 0), "the helper does not help");
	return sh->answer;
}
static void helping(void)
{
	for (;;) {
		while (!sh->order)
			usleep(500);
		int fd = open(sh->path, O_RDWR);
		if (sh->len < 0) { /* flock(2) */
			sh->answer = flock(fd, sh->type | LOCK_NB) == 0;
		} else {
			struct flock l = { .l_type = sh->type, .l_whence = SEEK_SET, .l_start = sh->start, .l_len = sh->len };
			sh->answer = fcntl(fd, F_OFD_SETLK, &l) == 0;
		}
		close(fd);
		sh->order = 0;
	}
}
static void look_locks(void)
{
	fact("flock", "exclusive: shared %d; shared: shared %d, exclusive %d", can("flock-ex", LOCK_SH, 0, -1), can("flock-sh", LOCK_SH, 0, -1),
	     can("flock-sh", LOCK_EX, 0, -1));
	static const struct { const char *name; int type; long start, len; } parts[] = { { "ofd", F_RDLCK, 0, 10 }, { "ofd", F_RDLCK, 10, 1 },
		{ "ofd", F_RDLCK, 29, 1 }, { "ofd", F_WRLCK, 30, 20 }, { "ofd", F_RDLCK, 50, 1 }, { "ofd", F_WRLCK, 1000, 1 },
		{ "posix", F_RDLCK, 0, 1 }, { "posix", F_WRLCK, 10, 10 }, { "posix", F_RDLCK, 20, 5 }, { "posix", F_WRLCK, 24, 1 },
		{ "posix", F_WRLCK, 25, 65 }, { "posix", F_RDLCK, 500, 1 } };
	for (unsigned i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		char name[64];
		sprintf(name, "%s: another locks %ld bytes at %ld (%d)", parts[i].name, parts[i].len, parts[i].start, parts[i].type);
		fact(name, "%d", can(parts[i].name, parts[i].type, parts[i].start, parts[i].len));
	}
}
static void finish_locks(void)
{
	close(flock_ex);
	expect(!can("flock-ex", LOCK_SH, 0, -1), "flock: is free while a duplicate is open");
	close(flock_dup);
	expect(can("flock-ex", LOCK_EX, 0, -1), "flock: is not free when all are closed");
	lock(ofd, F_OFD_SETLK, F_UNLCK, 10, 5);
	expect(can("ofd", F_WRLCK, 10, 5) && !can("ofd", F_WRLCK, 15, 1), "ofd: unlocked another part");
	close(open("posix", O_RDONLY)); /* as POSIX has it */
	expect(can("posix", F_WRLCK, 0, 0), "posix: a close leaves locks");
}

static void look(void)
{
	look_sysv();
	look_parts();
	look_posix();
	look_locks();
}
static void finish(void)
{
	finish_locks();
	finish_posix();
	finish_parts();
	finish_sysv();
}

int main(void)
{
	begin();
	check(mkdir("ipc", 0755) == 0 && chdir("ipc") == 0, "mkdir");
	sh = shared(sizeof(*sh));
	sysv();
	if ((helper = fork()) == 0)
		helping();
	if ((undoer = fork()) == 0) {
		struct sembuf down = { 3, -1, SEM_UNDO };
		check(semop(sem_key, &down, 1) == 0, "semop");
		sh->undone = 1;
		for (;;)
			pause();
	}
	check(comes(&sh->undone, 1), "semop");
	if ((waiter = fork()) == 0) {
		struct sembuf down = { 1, -1, 0 };
		sh->waits = 1;
		while (semop(sem_key, &down, 1) != 0)
			if (errno != EINTR)
				sh->waits = 3;
		sh->waits = 2;
		_exit(0);
	}
	check(comes(&sh->waits, 1), "semop");
	usleep(20000);
	parts();
	posix_objects();
	locks();
	serve(look, finish);
}
