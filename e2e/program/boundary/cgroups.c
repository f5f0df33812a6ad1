/*
 * cgroups: the lists of processes and threads of its own control groups hold
 * the numbers that it knows, and its groups are those it was in.
 */
#include "../state.h"
#include "other.h"

static struct other *child;
static pid_t of_thread;
static void act(struct other *o, int order) {}

static int has(const char *path, pid_t pid)
{
	FILE *f = fopen(path, "r");
	int n, found = 0;
	while (f && fscanf(f, "%d", &n) == 1)
		found |= n == pid;
	if (f)
		fclose(f);
	return found;
}

/* Every hierarchy that is mounted here, as proc(5) names them. */
static void look(void)
{
	char path[4200], *mounts = strdup(contents("/proc/self/mounts"));
	fact("/proc/self/cgroup", "%s", contents("/proc/self/cgroup"));
	sprintf(path, "/proc/%d/cgroup", child->pid);
	fact("cgroup of the child", "%s", contents(path));
	int n = 0;
	for (char *save, *line = strtok_r(mounts, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char at[1024], sort[64], options[512], own[1024] = "";
		if (sscanf(line, "%*s %1023s %63s %511s", at, sort, options) != 3 || strncmp(sort, "cgroup", 6) != 0)
			continue;
		/* The line of this hierarchy: 0::PATH, or N:CONTROLLER:PATH. */
		const char *name = sort[6] ? "" : strrchr(at, '/') + 1;
		char *text = contents("/proc/self/cgroup");
		for (char *s2, *l = strtok_r(text, "\n", &s2); l; l = strtok_r(NULL, "\n", &s2)) {
			char *controllers = strchr(l, ':') + 1, *dir = strchr(controllers, ':');
			*dir++ = 0;
			if (strcmp(controllers, name) == 0)
				strcpy(own, dir);
		}
		if (!*own)
			continue;
		snprintf(path, sizeof(path), "%s%s/cgroup.procs", at, own);
		if (access(path, R_OK) != 0)
			continue; /* of another's group, which is not seen here */
		expect(has(path, getpid()) && has(path, child->pid), "%s lacks pid %d or %d", path, getpid(), child->pid);
		expect(!has(path, 30000), "%s has pid 30000", path);
		snprintf(path, sizeof(path), "%s%s/%s", at, own, *name ? "tasks" : "cgroup.threads");
		expect(has(path, of_thread), "%s lacks thread %d", path, of_thread);
		n++;
	}
	free(mounts);
	fact("hierarchies", "%d", n);
}

int main(void)
{
	begin();
	child = other(act);
	of_thread = resting();
	serve(look, NULL);
}
