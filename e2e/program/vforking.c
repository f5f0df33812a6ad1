/* Waits in vfork(2) for a child that runs no program, as long as it lives: a dump
 * tries for seconds to find it elsewhere. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	puts("ready");
	fflush(stdout);
	vfork();
	for (;;)
		pause();
}
