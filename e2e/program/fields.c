/*
 * fields: a little of everything that stands in fields of CRIU's images which are
 * young, or easy to get wrong.
 */
#include "state.h"
#include <linux/filter.h>
#include <linux/membarrier.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static int udp, link_fd;

static void look(void)
{
	struct sockaddr_in in;
	socklen_t len = sizeof(in);
	char buf[16] = "";
	getsockname(udp, (void *)&in, &len);
	expect(sendto(udp, "self", 4, 0, (void *)&in, len) == 4 && recv(udp, buf, 16, 0) == 3, "what the filter lets through: %s", buf);
	memset(buf, 0, 16);
	expect(readlinkat(link_fd, "", buf, 15) == 10 && strcmp(buf, "to nowhere") == 0, "deleted link: %s", buf);
	works(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0), "membarrier");
	fact("no huge pages", "%d", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
	fact("no new privileges", "%d", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
}

int main(void)
{
	begin();
	/* of a datagram's eight bytes of header and four of data, all but one */
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 12, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 11),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog filter = { 4, code };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	udp = socket(AF_INET, SOCK_DGRAM, 0);
	check(bind(udp, (void *)&in, sizeof(in)) == 0, "bind");
	check(setsockopt(udp, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) == 0, "filter");
	check(symlink("to nowhere", "link") == 0, "symlink");
	link_fd = open("link", O_PATH | O_NOFOLLOW);
	check(link_fd >= 0 && unlink("link") == 0, "deleted link");
	check(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0, "membarrier");
	check(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0, "PR_SET_THP_DISABLE");
	check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS");
	serve(look, NULL);
}
