/* traced: a process that traces its child. */
#include "step.h"
#include <signal.h>
#include <sys/ptrace.h>

int main(void)
{
	pid_t child = fork();
	if (child == 0)
		for (;;)
			pause();
	check(ptrace(PTRACE_SEIZE, child, NULL, NULL) == 0, "trace %d", child);
	say("ready\n");
	for (;;)
		pause();
}
