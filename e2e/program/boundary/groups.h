/* Supplementary groups, which the kernel keeps with a unix socket; to be
 * included after state.h. */
#include <grp.h>
#include <sys/socket.h>

/* An ordinary user keeps those he has. */
static inline void in_groups(gid_t a, gid_t b)
{
	gid_t g[] = { a, b };
	check(setgroups(2, g) == 0 || errno == EPERM, "setgroups");
}

/* Those of whoever is at the other end (SO_PEERGROUPS), as he had them then. */
static inline char *peer_groups(int fd)
{
	static char text[256];
	gid_t g[16];
	socklen_t len = sizeof(g);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, g, &len) != 0)
		return strerror(errno);
	*text = 0;
	for (size_t i = 0; i < len / sizeof(*g); i++)
		sprintf(text + strlen(text), " %u", g[i]);
	return text;
}
