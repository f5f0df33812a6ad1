/*
 * robust: robust mutexes in a file that is mapped shared, which live on in it
 * when their owner is gone: he is not, though his container has ended and come
 * back. In the end he dies, and that is seen.
 */
#include "state.h"
#include "mutex.h"

static struct {
	pthread_mutex_t plain, pi;
	volatile int owned;
} *in_file;
static pid_t owner;

static void look(void)
{
	fact("plain", "%d", pthread_mutex_trylock(&in_file->plain));
	fact("lends priority", "%d", pthread_mutex_trylock(&in_file->pi));
}

static void finish(void)
{
	expect(kill(owner, SIGKILL) == 0 && waitpid(owner, NULL, 0) == owner, "kill the owner");
	expect(pthread_mutex_trylock(&in_file->plain) == EOWNERDEAD, "plain: its owner has died unseen");
	expect(pthread_mutex_trylock(&in_file->pi) == EOWNERDEAD, "lends priority: its owner has died unseen");
}

int main(void)
{
	begin();
	int fd = open("mutexes", O_CREAT | O_RDWR, 0600);
	check(fd >= 0 && ftruncate(fd, 4096) == 0, "mutexes");
	in_file = mmap(NULL, sizeof(*in_file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(in_file != MAP_FAILED, "mmap");
	init(&in_file->plain, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
	init(&in_file->pi, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_INHERIT);
	owner = fork();
	check(owner >= 0, "fork");
	if (owner == 0) {
		check(pthread_mutex_lock(&in_file->plain) == 0 && pthread_mutex_lock(&in_file->pi) == 0, "lock");
		in_file->owned = 1;
		for (;;)
			pause();
	}
	check(comes(&in_file->owned, 1), "the owner owns nothing");
	serve(look, finish);
}
