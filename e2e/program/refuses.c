/*
 * refuses WHAT: holds one thing that cannot be saved, or not all of it, and says "step" again and
 * again.
 */
#include "step.h"
#include <arpa/inet.h>
#include <asm/ldt.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/aio_abi.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/landlock.h>
#include <linux/net_tstamp.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>

static int secret(void)
{
	int fd = syscall(SYS_memfd_secret, 0);
	check(fd >= 0 && ftruncate(fd, 4096) == 0, "memfd_secret");
	return fd;
}
static void secret_file(void) { secret(); }
static void secret_memory(void)
{
	int fd = secret();
	check(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED && close(fd) == 0, "mmap");
}

/* All calls are let through, by this byte. */
static char allow = SYSCALL_DISPATCH_FILTER_ALLOW;
static void dispatch(void) { check(prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &allow) == 0, "PR_SET_SYSCALL_USER_DISPATCH"); }

static void ldt(void)
{
	struct user_desc d = { .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1, .useable = 1 };
	check(syscall(SYS_modify_ldt, 1, &d, sizeof(d)) == 0, "modify_ldt");
}

/* The kernel's code in this process, with another byte in its header. */
static void vdso(void)
{
	char *at = (char *)getauxval(AT_SYSINFO_EHDR);
	size_t all = 4096; /* nothing less may be changed */
	while (at && all < 1 << 20 && mprotect(at, all, PROT_READ | PROT_WRITE | PROT_EXEC) != 0)
		all += 4096;
	check(at && all < 1 << 20, "mprotect");
	at[8] = 1;
}

/* All the address space that it may have is taken. */
static void address_space(void)
{
	unsigned long pages;
	FILE *f = fopen("/proc/self/statm", "r");
	check(f && fscanf(f, "%lu", &pages) == 1, "statm");
	struct rlimit r = { (pages + 16) * 4096, (pages + 16) * 4096 };
	check(setrlimit(RLIMIT_AS, &r) == 0, "setrlimit");
}

/* As many mappings as a process may have. */
static void mappings(void)
{
	unsigned long n;
	FILE *f = fopen("/proc/sys/vm/max_map_count", "r");
	check(f && fscanf(f, "%lu", &n) == 1, "max_map_count");
	char *all = mmap(NULL, n * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	check(all != MAP_FAILED, "mmap");
	for (unsigned long i = 1; i < n && mprotect(all + i * 4096, 4096, PROT_READ) == 0; i += 2)
		;
}

/* All it maps is locked, and no more may be. */
static void all_locked(void)
{
	struct rlimit r = { 0, 0 };
	check(mlockall(MCL_FUTURE) == 0 && setrlimit(RLIMIT_MEMLOCK, &r) == 0, "mlockall");
}

/* Nearly all addresses are taken. */
static void addresses(void)
{
	for (int bits = 46; bits >= 24; bits--)
		while (mmap(NULL, 1UL << bits, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED)
			;
}

/* Guard pages in memory that only mappings lead to (6.13). */
static void guard(char *at)
{
	check(at != MAP_FAILED && madvise(at + 4096, 4096, 102 /* MADV_GUARD_INSTALL */) == 0, "madvise");
}
static void guards(void) { guard(mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)); }
static void guarded_memfd(void)
{
	int fd = memfd_create("guarded", 0);
	check(fd >= 0 && ftruncate(fd, 3 * 4096) == 0, "memfd_create");
	guard(mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	close(fd);
}

static void socket_memory(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	check(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED, "mmap");
}

/* Requests of io_submit(2), one of which ends every 4 ms, and begins anew. */
#define TIMERS 200
static void *submit(void *memory)
{
	static struct iocb each[TIMERS];
	aio_context_t context = 0;
	check(syscall(SYS_io_setup, TIMERS, &context) == 0, "io_setup");
	for (int i = 0; i < TIMERS; i++) {
		struct itimerspec t = { { 1, 0 }, { 0, (i + 1) * 4000000 } };
		struct iocb *one = &each[i];
		one->aio_lio_opcode = IOCB_CMD_POLL, one->aio_buf = POLLIN, one->aio_data = i;
		one->aio_fildes = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
		check(timerfd_settime(one->aio_fildes, 0, &t, NULL) == 0 && syscall(SYS_io_submit, context, 1, &one) == 1, "io_submit");
	}
	for (;;) {
		struct io_event event;
		uint64_t ticks;
		if (syscall(SYS_io_getevents, context, 1, 1, &event, NULL) != 1)
			continue;
		struct iocb *one = &each[event.data];
		check(read(one->aio_fildes, &ticks, sizeof(ticks)) >= 0 || errno == EAGAIN, "read");
		check(syscall(SYS_io_submit, context, 1, &one) == 1, "io_submit");
	}
	return memory;
}
static void requests(void)
{
	static char memory[64 << 20]; /* it takes some time to save */
	pthread_t thread;
	memset(memory, 1, sizeof(memory));
	check(pthread_create(&thread, NULL, submit, memory) == 0, "pthread_create");
}

/* Of getuid(2) somebody else decides. */
static int listener(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getuid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = { sizeof(f) / sizeof(*f), f };
	int fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &p);
	check(fd >= 0, "seccomp");
	return fd;
}
static void notifier(void) { listener(); }
static void notifier_gone(void) { close(listener()); }

/* A child with the same list of undo values, in memory of its own. */
static void undo(void)
{
	struct sembuf down = { 0, 1, SEM_UNDO };
	int set = semget(IPC_PRIVATE, 1, 0600);
	check(set >= 0, "semget");
	pid_t pid = syscall(SYS_clone, CLONE_SYSVSEM | SIGCHLD, 0, 0, 0, 0);
	check(pid >= 0, "clone");
	if (pid == 0)
		for (;;)
			pause();
	check(semop(set, &down, 1) == 0, "semop");
}

/* A terminal's slave is cut off from it, the master is not. */
static void hung_up(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	check(master >= 0 && unlockpt(master) == 0, "posix_openpt");
	signal(SIGHUP, SIG_IGN);
	check((getpid() == getsid(0) || setsid() >= 0) && open(ptsname(master), O_RDWR) >= 0 && vhangup() == 0, "vhangup");
}

/* A terminal that is read and written by nobody's rules. */
static void discipline(void)
{
	int null = 27 /* N_NULL */, slave, master = posix_openpt(O_RDWR | O_NOCTTY);
	check(master >= 0 && unlockpt(master) == 0 && (slave = open(ptsname(master), O_RDWR | O_NOCTTY)) >= 0, "posix_openpt");
	check(ioctl(slave, TIOCSETD, &null) == 0, "TIOCSETD");
}

/* It may no longer execute what it likes. */
static void landlock(void)
{
	struct landlock_ruleset_attr a = { .handled_access_fs = LANDLOCK_ACCESS_FS_EXECUTE };
	int fd = syscall(SYS_landlock_create_ruleset, &a, sizeof(a), 0);
	check(fd >= 0 && syscall(SYS_landlock_restrict_self, fd, 0) == 0 && close(fd) == 0, "landlock_restrict_self");
}
static void sandbox(void)
{
	check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS");
	landlock();
}
/* As another user, who has no capabilities. */
static void user_sandbox(void)
{
	check(setresgid(7, 7, 7) == 0 && setresuid(7, 7, 7) == 0, "setresuid");
	sandbox();
}

/* Once more, by its place in /proc. */
static void path_of(int fd)
{
	char path[64];
	sprintf(path, "/proc/self/fd/%d", fd);
	check(fd >= 0 && open(path, O_PATH) >= 0, "O_PATH");
}
static void path_of_epoll(void) { path_of(epoll_create1(0)); }
static void path_of_socket(void) { path_of(socket(AF_UNIX, SOCK_STREAM, 0)); }
static void path_of_pipe(void)
{
	int p[2];
	check(pipe(p) == 0, "pipe");
	path_of(p[0]);
}

static void detached(void)
{
	check(syscall(SYS_open_tree, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */) >= 0, "open_tree");
}
static void dnotify(void)
{
	int fd = open(".", O_RDONLY | O_DIRECTORY);
	signal(SIGIO, SIG_IGN);
	check(fd >= 0 && fcntl(fd, F_NOTIFY, DN_CREATE | DN_MULTISHOT) == 0, "F_NOTIFY");
}
static void pressure(void)
{
	static const char trigger[] = "some 200000 2000000";
	int fd = open("/proc/pressure/memory", O_RDWR | O_NONBLOCK);
	check(fd >= 0 && write(fd, trigger, sizeof(trigger)) == sizeof(trigger), "/proc/pressure/memory");
}

/* A port that nobody has, or a little later somebody may. */
static struct sockaddr_in nobody(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	check(fd >= 0 && bind(fd, (void *)&a, n) == 0 && getsockname(fd, (void *)&a, &n) == 0 && close(fd) == 0, "bind");
	return a;
}
static void error_queue(void)
{
	struct sockaddr_in a = nobody();
	int on = 1, fd = socket(AF_INET, SOCK_DGRAM, 0);
	check(setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof(on)) == 0 && sendto(fd, "x", 1, 0, (void *)&a, sizeof(a)) == 1, "sendto");
}
/* Of one end of a TCP connection. */
static void sent_queue(void)
{
	struct sockaddr_in a = nobody();
	int on = 1, l = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
	char text[5000] = "";
	check(bind(l, (void *)&a, sizeof(a)) == 0 && listen(l, 1) == 0 && connect(fd, (void *)&a, sizeof(a)) == 0, "connect");
	check(setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)) == 0 && send(fd, text, sizeof(text), MSG_ZEROCOPY) == sizeof(text), "MSG_ZEROCOPY");
	check(recv(accept(l, NULL, NULL), text, sizeof(text), MSG_WAITALL) == sizeof(text), "recv");
}

static void corked(void)
{
	struct sockaddr_in a = nobody();
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	check(sendto(fd, "half", 4, MSG_MORE, (void *)&a, sizeof(a)) == 4, "MSG_MORE");
}

/* Somebody sends to nobody, and all who listen for packets get some. */
static void send_one(void)
{
	struct sockaddr_in a = nobody();
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	check(sendto(fd, "x", 1, 0, (void *)&a, sizeof(a)) == 1 && close(fd) == 0, "sendto");
}
static void raw_packets(void)
{
	check(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) >= 0, "raw socket");
	send_one();
}
static void packets(void)
{
	check(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP)) >= 0, "packet socket");
	send_one();
}
static void zero_copy(void)
{
	int on = 1, fd = socket(AF_INET, SOCK_DGRAM, 0);
	check(setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)) == 0, "SO_ZEROCOPY");
}
static void stamps(void)
{
	int flags = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID, fd = socket(AF_INET, SOCK_DGRAM, 0);
	check(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof(flags)) == 0, "SO_TIMESTAMPING");
}

/* A listener whose address is the kernel's to choose, and a client of it. */
static int knock(int family, int type, int protocol, int *listener)
{
	struct sockaddr_storage a = { .ss_family = family };
	socklen_t size = family == AF_UNIX ? sizeof(a.ss_family) : sizeof(struct sockaddr_in);
	if (family == AF_INET)
		((struct sockaddr_in *)&a)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	*listener = socket(family, type, protocol);
	check(*listener >= 0 && bind(*listener, (void *)&a, size) == 0 && listen(*listener, 4) == 0, "listen");
	size = sizeof(a);
	check(getsockname(*listener, (void *)&a, &size) == 0, "getsockname");
	int fd = socket(family, type, protocol);
	check(fd >= 0 && connect(fd, (void *)&a, size) == 0, "connect");
	return fd;
}

/* A word, with a descriptor or without. */
static void talk(int fd, int with)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec word = { "word", 4 };
	struct msghdr m = { .msg_iov = &word, .msg_iovlen = 1 };
	if (with >= 0) {
		m.msg_control = control;
		m.msg_controllen = sizeof(control);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		*c = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(c), &with, sizeof(int));
	}
	check(sendmsg(fd, &m, 0) == 4, "sendmsg");
}

/* Nobody accepts what these have said, or left behind. */
static void waits(int family, int type, int with, int gone)
{
	int l, fd = knock(family, type, 0, &l);
	talk(fd, with);
	if (gone)
		close(fd);
}
static void early_stream(void) { waits(AF_UNIX, SOCK_STREAM, -1, 0); }
static void early_packet(void) { waits(AF_UNIX, SOCK_SEQPACKET, -1, 0); }
static void early_rights(void) { waits(AF_UNIX, SOCK_STREAM, 1, 0); }
static void gone_stream(void) { waits(AF_UNIX, SOCK_STREAM, -1, 1); }
static void gone_packet(void) { waits(AF_UNIX, SOCK_SEQPACKET, -1, 1); }
static void early_tcp(void) { waits(AF_INET, SOCK_STREAM, -1, 0); }
static void gone_tcp(void) { waits(AF_INET, SOCK_STREAM, -1, 1); }

/* All pass, by a program that the kernel keeps to itself. */
static void filtered(int family, int type)
{
	struct bpf_insn all[] = { { BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0xffff }, { BPF_JMP | BPF_EXIT, 0, 0, 0, 0 } };
	union bpf_attr a = { .prog_type = BPF_PROG_TYPE_SOCKET_FILTER, .insn_cnt = 2, .insns = (uintptr_t)all, .license = (uintptr_t)"GPL" };
	int fd = socket(family, type, 0), prog = syscall(SYS_bpf, BPF_PROG_LOAD, &a, sizeof(a));
	check(prog >= 0, "BPF_PROG_LOAD");
	check(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &prog, sizeof(prog)) == 0, "SO_ATTACH_BPF");
	close(prog);
}
static void filtered_inet(void) { filtered(AF_INET, SOCK_DGRAM); }
static void filtered_unix(void) { filtered(AF_UNIX, SOCK_DGRAM); }
static void filtered_netlink(void) { filtered(AF_NETLINK, SOCK_RAW); }
static void filtered_packet(void) { filtered(AF_PACKET, SOCK_RAW); }

/* A name that leads nowhere any more, and a file that has another. */
static void moved_name(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	check(getcwd(a.sun_path, sizeof(a.sun_path) - 10) && mkdir("before", 0700) == 0, "mkdir");
	strcat(a.sun_path, "/before/s");
	check(fd >= 0 && bind(fd, (void *)&a, sizeof(a)) == 0 && rename("before", "after") == 0, "bind %s", a.sun_path);
}

/* A directory whose path does not fit into a page. */
static void go_deep(void)
{
	char name[201] = "";
	memset(name, 'd', 200);
	for (int i = 0; i < 21; i++)
		check(mkdir(name, 0700) == 0 && chdir(name) == 0, "mkdir");
}
static void deep_file(void)
{
	int back = open(".", O_RDONLY | O_DIRECTORY);
	go_deep();
	check(open("file", O_RDWR | O_CREAT, 0600) >= 0 && fchdir(back) == 0 && close(back) == 0, "open");
}

static void urgent(void)
{
	int s[2];
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && send(s[1], "!", 1, MSG_OOB) == 1, "MSG_OOB");
}

/* The same of TCP, of one end of a connection. */
static void urgent_tcp(void)
{
	int l, fd = knock(AF_INET, SOCK_STREAM, 0, &l), from = accept(l, NULL, NULL);
	struct pollfd p = { fd, POLLPRI };
	check(send(from, "!", 1, MSG_OOB) == 1 && poll(&p, 1, -1) == 1, "MSG_OOB");
}

/* It can be had of one that nobody has open to write. */
static void leased_memfd(void)
{
	char path[64];
	int fd = memfd_create("leased", 0), reader;
	sprintf(path, "/proc/self/fd/%d", fd);
	check(fd >= 0 && (reader = open(path, O_RDONLY)) >= 0 && close(fd) == 0, "memfd_create");
	check(fcntl(reader, F_SETLEASE, F_RDLCK) == 0, "F_SETLEASE");
}

/* Longer than ckpt can look at, in a container that allows it. */
static void long_message(void)
{
	static struct { long type; char text[600000]; } m = { .type = 1 };
	static const char *const limits[] = { "/proc/sys/kernel/msgmax", "/proc/sys/kernel/msgmnb" };
	for (int i = 0; i < 2; i++) {
		int fd = open(limits[i], O_WRONLY);
		check(fd >= 0 && write(fd, "1000000", 7) == 7 && close(fd) == 0, "%s", limits[i]);
	}
	int q = msgget(IPC_PRIVATE, 0600);
	check(q >= 0 && msgsnd(q, &m, sizeof(m.text), 0) == 0, "msgsnd");
}

static void multipath(void)
{
	int l, fd = knock(AF_INET, SOCK_STREAM, IPPROTO_MPTCP, &l);
	check(fd >= 0 && accept(l, NULL, NULL) >= 0, "accept");
}
/* A timer that runs out every millisecond, and its first signal, much later. */
static void overrun(void)
{
	timer_t t;
	sigset_t set;
	siginfo_t si;
	struct sigevent e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
	struct itimerspec often = { { 0, 1000000 }, { 0, 1000000 } };
	struct timespec later = { 0, 50000000 };
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	check(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && timer_create(CLOCK_MONOTONIC, &e, &t) == 0 && timer_settime(t, 0, &often, NULL) == 0, "timer_settime");
	check(nanosleep(&later, NULL) == 0 && sigwaitinfo(&set, &si) == SIGRTMIN && timer_getoverrun(t) > 0, "sigwaitinfo");
}

static const struct { const char *name; void (*hold)(void); } things[] = {
	{ "secret file", secret_file }, { "secret memory", secret_memory }, { "dispatch", dispatch }, { "ldt", ldt }, { "vdso", vdso },
	{ "address space", address_space }, { "mappings", mappings }, { "addresses", addresses }, { "all locked", all_locked }, { "requests", requests },
	{ "guards", guards }, { "guarded memfd", guarded_memfd }, { "socket memory", socket_memory },
	{ "notifier", notifier }, { "notifier gone", notifier_gone }, { "undo", undo }, { "hung up", hung_up }, { "discipline", discipline },
	{ "landlock", landlock }, { "sandbox", sandbox }, { "user's sandbox", user_sandbox },
	{ "path of epoll", path_of_epoll }, { "path of socket", path_of_socket }, { "path of pipe", path_of_pipe },
	{ "detached", detached }, { "dnotify", dnotify }, { "pressure", pressure }, { "error queue", error_queue }, { "sent queue", sent_queue }, { "corked", corked },
	{ "raw packets", raw_packets }, { "packets", packets }, { "zero copy", zero_copy }, { "stamps", stamps },
	{ "overrun", overrun },
	{ "early stream", early_stream }, { "early packet", early_packet }, { "early rights", early_rights },
	{ "gone stream", gone_stream }, { "gone packet", gone_packet }, { "early TCP", early_tcp }, { "gone TCP", gone_tcp },
	{ "deep file", deep_file }, { "deep directory", go_deep }, { "urgent", urgent }, { "urgent TCP", urgent_tcp }, { "leased memfd", leased_memfd }, { "long message", long_message }, { "multipath", multipath }, { "moved name", moved_name },
	{ "filtered inet", filtered_inet }, { "filtered unix", filtered_unix }, { "filtered netlink", filtered_netlink }, { "filtered packet", filtered_packet },
};

int main(int argc, char **argv)
{
	unsigned i = 0;
	while (argc > 1 && i < sizeof(things) / sizeof(*things) && strcmp(things[i].name, argv[1]) != 0)
		i++;
	check(argc > 1 && i < sizeof(things) / sizeof(*things), "what?");
	things[i].hold();
	struct timespec t = { 0, 20000000 };
	for (int n = 0;;) {
		told("main", &n, 0, "");
		check(nanosleep(&t, NULL) == 0, "nanosleep");
	}
}
