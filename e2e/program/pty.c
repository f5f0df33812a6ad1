/*
 * pty: a terminal whose other end the program holds itself, as script(1),
 * tmux or sshd do, with jobs on it.
 */
#include "state.h"
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

static int master, slave, lone, packet, raw_slave;
static pid_t shell;
static struct {
	volatile int ready, interrupted, stopped, resized, hung, lines, job;
	char line[64];
} *sh;

static void on_int(int s) { sh->interrupted++; }
static void on_winch(int s) { sh->resized++; }
static void on_hup(int s) { sh->hung++; }

/* The job in the foreground: reads lines and writes them in capitals. */
static void foreground(void)
{
	signal(SIGINT, on_int);
	signal(SIGWINCH, on_winch);
	sh->job = getpid();
	sh->ready++;
	for (;;) {
		char b[64];
		ssize_t n = read(0, b, sizeof(b));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			_exit(8);
		for (int i = 0; i < n; i++)
			b[i] -= b[i] >= 'a' && b[i] <= 'z' ? 32 : 0;
		write(1, b, n);
		sh->lines++;
	}
}

static void shell_main(void)
{
	setsid();
	ioctl(slave, TIOCSCTTY, 0);
	dup2(slave, 0), dup2(slave, 1), dup2(slave, 2);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGHUP, on_hup);
	signal(SIGTTOU, SIG_IGN);
	pid_t pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		signal(SIGHUP, SIG_DFL);
		while (tcgetpgrp(0) != getpid())
			usleep(1000);
		foreground();
	}
	setpgid(pid, pid);
	tcsetpgrp(0, pid);
	for (;;) {
		int status;
		if (waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status))
			sh->stopped++;
		if (sh->hung)
			_exit(9);
		usleep(1000);
	}
}

static void modes(const char *name, int fd)
{
	struct termios t = { 0 };
	struct winsize w = { 0 };
	char is[64];
	works(tcgetattr(fd, &t), "%s: tcgetattr", name);
	sprintf(is, "%s: modes", name);
	fact(is, "%x %x %x %x, line discipline %d", t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag, t.c_line);
	sprintf(is, "%s: characters", name);
	fact_bytes(is, t.c_cc, sizeof(t.c_cc));
	works(ioctl(fd, TIOCGWINSZ, &w), "%s: window", name);
	sprintf(is, "%s: window", name);
	fact(is, "%d x %d, %d x %d", w.ws_row, w.ws_col, w.ws_xpixel, w.ws_ypixel);
}

static void number(const char *name, int fd, unsigned long request)
{
	int v = -1;
	int r = ioctl(fd, request, &v);
	fact(name, "%d, %d", r, v);
}

/* Writes text to the terminal and expects an answer. */
static void types(const char *text, const char *want)
{
	char b[256] = "";
	int at = 0;
	works(write(master, text, strlen(text)), "write to the master");
	for (int64_t until = now(CLOCK_MONOTONIC) + 20000000000LL; at < (int)strlen(want) && now(CLOCK_MONOTONIC) < until;) {
		struct pollfd p = { master, POLLIN };
		if (poll(&p, 1, 100) > 0)
			at += read(master, b + at, sizeof(b) - 1 - at);
	}
	expect(strcmp(b, want) == 0, "typed %.20s: got \"%s\"", text, b);
}

static void look(void)
{
	fact_fd("master", master);
	fact_fd("slave", slave);
	fact_fd("lone master", lone);
	fact_fd("raw slave", raw_slave);
	modes("slave", slave);
	modes("lone master", lone);
	modes("raw slave", raw_slave);
	number("number", master, TIOCGPTN);
	number("number of the lone one", lone, TIOCGPTN);
	number("locked", lone, TIOCGPTLCK);
	number("packet mode", packet, TIOCGPKT);
	number("exclusive", raw_slave, TIOCGEXCL);
	number("foreground", master, TIOCGPGRP);
	number("session", master, TIOCGSID);
	fact("ttyname", "%s", ttyname(slave));
	struct stat st = { 0 };
	works(stat(ttyname(slave), &st), "stat");
	fact("its file", "mode %o, owner %d:%d, device %lx", st.st_mode, st.st_uid, st.st_gid, st.st_rdev);
	char path[64];
	sprintf(path, "/proc/%d/stat", sh->job);
	char *s = strrchr(contents(path), ')');
	int pgrp, session, tty, front;
	sscanf(s, ") %*c %*d %d %d %d %d", &pgrp, &session, &tty, &front);
	fact("the job", "group %d, session %d, terminal %x, foreground %d", pgrp, session, tty, front);
	types("hello\n", "HELLO\r\n");
	types("h\177ey\n", "EY\r\n"); /* the line discipline edits */
	int had = sh->resized;
	struct winsize w;
	ioctl(master, TIOCGWINSZ, &w);
	w.ws_row++;
	ioctl(master, TIOCSWINSZ, &w);
	expect(comes(&sh->resized, had + 1), "SIGWINCH does not come");
	w.ws_row--;
	ioctl(master, TIOCSWINSZ, &w);
	expect(comes(&sh->resized, had + 2), "SIGWINCH does not come");
	had = sh->interrupted;
	works(write(master, "\003", 1), "write");
	expect(comes(&sh->interrupted, had + 1), "ctrl-C does not interrupt");
	write(packet, "x\n", 2);
	char b[8] = "";
	expect(read(raw_slave, b, sizeof(b)) == 2 && b[0] == 'x', "raw slave: read");
	write(raw_slave, "y\n", 2);
	expect(read(packet, b, sizeof(b)) == 3 && b[0] == TIOCPKT_DATA && b[1] == 'y' && b[2] == '\n', "packet mode: read");
}

static void finish(void)
{
	int had = sh->stopped;
	works(write(master, "\032", 1), "write");
	expect(comes(&sh->stopped, had + 1), "ctrl-Z does not stop the job");
	kill(-sh->job, SIGCONT);
	types("again\n", "AGAIN\r\n");
	int fd = open(ttyname(slave), O_RDWR | O_NOCTTY);
	expect(fd >= 0, "the slave cannot be opened by its name: %s", strerror(errno));
	close(fd);
	int m, s;
	expect(openpty(&m, &s, NULL, NULL, NULL) == 0, "no new terminal: %s", strerror(errno));
	close(slave);
	close(master); /* hangs up */
	int status;
	expect(waitpid(shell, &status, 0) == shell && WIFEXITED(status) && WEXITSTATUS(status) == 9, "hang-up: the shell's status is %x", status);
}

int main(void)
{
	begin();
	sh = shared(sizeof(*sh));
	struct winsize w = { 33, 77, 5, 6 };
	struct termios t;
	int s, low[40], n = 0;
	/* The kernel gives the lowest free number: take those that others on the
	 * machine will be given. */
	while (n < 40 && (low[n] = posix_openpt(O_RDWR | O_NOCTTY)) >= 0)
		n++;
	check(openpty(&master, &slave, NULL, NULL, &w) == 0, "openpty");
	tcgetattr(slave, &t);
	t.c_lflag &= ~ECHO;
	t.c_cc[VINTR] = 3;
	cfsetspeed(&t, B9600);
	tcsetattr(slave, TCSANOW, &t);
	/* One in between is closed: numbers have gaps. */
	int gap_m, gap_s;
	check(openpty(&gap_m, &gap_s, NULL, NULL, NULL) == 0, "openpty");
	lone = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	check(lone >= 0 && ioctl(lone, TIOCSWINSZ, &w) == 0, "posix_openpt");
	check(openpty(&packet, &raw_slave, NULL, NULL, NULL) == 0, "openpty");
	close(gap_m), close(gap_s);
	while (n > 0)
		close(low[--n]);
	s = 1;
	cfmakeraw(&t);
	tcsetattr(raw_slave, TCSANOW, &t);
	check(ioctl(packet, TIOCPKT, &s) == 0 && ioctl(raw_slave, TIOCEXCL) == 0, "TIOCPKT");
	if ((shell = fork()) == 0) {
		close(master), close(lone), close(packet), close(raw_slave);
		shell_main();
	}
	check(comes(&sh->ready, 1), "the job");
	serve(look, finish);
}
