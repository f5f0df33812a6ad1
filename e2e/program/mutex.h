/* A mutex that processes share; to be included after step.h. */
#include <pthread.h>

static inline void init(pthread_mutex_t *m, int robust, int protocol)
{
	pthread_mutexattr_t a;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&a, robust);
	pthread_mutexattr_setprotocol(&a, protocol);
	check(pthread_mutex_init(m, &a) == 0, "pthread_mutex_init");
}
