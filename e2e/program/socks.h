/* Sockets by name; to be included after state.h. */

static struct sock {
	const char *name;
	int fd;
} socks[64];
static int n;

static int keep(const char *name, int fd)
{
	check(fd >= 0, "%s", name);
	socks[n++] = (struct sock){ name, fd };
	return fd;
}
static int get(const char *name)
{
	for (int i = 0; i < n; i++)
		if (strcmp(socks[i].name, name) == 0)
			return socks[i].fd;
	fail("no socket %s", name);
}
