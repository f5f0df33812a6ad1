/* undumpable: a process that hides from its own user, as ssh-agent(1) does. */
#include "step.h"
#include <sys/prctl.h>

int main(void)
{
	check(prctl(PR_SET_DUMPABLE, 0) == 0, "PR_SET_DUMPABLE");
	say("ready\n");
	for (;;)
		pause();
}
