/*
 * refused: two children that each hold something that cannot be saved, an
 * io_uring and a userfaultfd, while the parent and they count.
 */
#include "step.h"
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <sys/syscall.h>

static void count(const char *who)
{
	struct timespec t = { 0, 20000000 };
	for (int n = 0;;) {
		told(who, &n, 0, "");
		check(nanosleep(&t, NULL) == 0, "nanosleep");
	}
}

int main(void)
{
	if (fork() == 0) {
		struct io_uring_params p = { 0 };
		check(syscall(SYS_io_uring_setup, 4, &p) >= 0, "io_uring_setup");
		count("uring");
	}
	if (fork() == 0) {
		check(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY) >= 0, "userfaultfd");
		count("uffd");
	}
	count("parent");
}
