/*
 * pidfiles: pids that a program has written down itself: in a file, in shared
 * memory, in the name of a file and of shared memory, in its environment.
 */
#include "../state.h"
#include "other.h"

static struct other *it;
static char pid_file[64], shm[128];
static pid_t *memory;

static void act(struct other *o, int order)
{
	if (order == 1) {
		o->word[0] = getpid() == atoi(getenv("LISTEN_PID"));
		o->word[1] = memory[1] == getpid();
	}
}

static void look(void)
{
	int pid = atoi(contents("daemon.pid"));
	expect(pid == it->pid && kill(pid, 0) == 0, "the file says pid %d", pid);
	char path[128];
	sprintf(path, "lock.%d", getpid());
	expect(access(path, F_OK) == 0 && strcmp(path, pid_file) == 0, "%s: its own lock file is %s", path, pid_file);
	snprintf(path, sizeof(path), "/dev/shm/%s.%d.", test_name(), getpid());
	expect(access(shm, F_OK) == 0 && strncmp(shm, path, strlen(path)) == 0, "%s: its own shared memory is %s", path, shm);
	expect(memory[0] == getpid(), "shared memory says pid %d", memory[0]);
	does(it, 1);
	expect(it->word[0] && it->word[1], "the child is not who its environment says");
	sprintf(path, "/proc/%d/environ", it->pid);
	works(access(path, F_OK), "environ");
}

static void finish(void)
{
	/* As `kill $(cat daemon.pid)` does. */
	works(kill(atoi(contents("daemon.pid")), SIGTERM), "kill");
	ended(it->pid, SIGTERM);
	works(unlink(shm), "unlink");
}

static void write_pid(const char *path, pid_t pid)
{
	FILE *f = fopen(path, "w");
	check(f && fprintf(f, "%d\n", pid) > 0 && fclose(f) == 0, "write %s", path);
}

int main(void)
{
	begin();
	snprintf(shm, sizeof(shm), "/dev/shm/%s.%d.%lld", test_name(), getpid(), (long long)now(CLOCK_REALTIME));
	int fd = open(shm, O_CREAT | O_EXCL | O_RDWR, 0600);
	check(fd >= 0 && ftruncate(fd, 4096) == 0, "shared memory");
	memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(memory != MAP_FAILED, "mmap");
	memory[0] = getpid();
	char next[16];
	sprintf(next, "%d", getpid() + 1);
	setenv("LISTEN_PID", next, 1);
	it = other(act);
	memory[1] = it->pid;
	write_pid("daemon.pid", it->pid);
	sprintf(pid_file, "lock.%d", getpid());
	write_pid(pid_file, getpid());
	serve(look, finish);
}
