/*
 * ptydata: terminals in which something waits, to be read at either end.
 * Whoever looks takes all of it, and puts the same in again. With an argument
 * there is no end of a file among it.
 */
#include "state.h"
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

struct pair {
	int m, s;
};

static struct pair lines, ends, eol, raw, packet, tco, ctrl, gone, locked;
static int no_ends; /* without ends of files */
static char every[3000];

static int readable(int fd, int ms)
{
	struct pollfd p = { fd, POLLIN };
	return poll(&p, 1, ms) > 0 && (p.revents & POLLIN);
}

/* One read, which has to give exactly that; want of no bytes: an end of file. */
static void reads(const char *what, int fd, const char *want, size_t n)
{
	static char b[8192];
	if (!readable(fd, 10000)) {
		wrong("%s: nothing can be read, want %zu bytes", what, n);
		return;
	}
	ssize_t got = read(fd, b, sizeof(b));
	b[got > 0 ? got : 0] = 0;
	expect(got == (ssize_t)n && memcmp(b, want, n) == 0, "%s: read %zd bytes \"%.40s\", want %zu \"%.40s\"", what, got, b, n, want);
}

/* As many reads as it takes. */
static void gives(const char *what, int fd, const char *want, size_t n)
{
	static char b[8192];
	size_t got = 0;
	while (got < n && readable(fd, 10000)) {
		ssize_t r = read(fd, b + got, sizeof(b) - got);
		if (r <= 0)
			break;
		got += r;
	}
	size_t same = 0;
	while (same < n && same < got && b[same] == want[same])
		same++;
	expect(got == n && same == n, "%s: %zu bytes, want %zu, the same are %zu", what, got, n, same);
}

static void empty(const char *what, struct pair *p)
{
	int in = -1, out = -1;
	expect(!readable(p->s, 0) && !readable(p->m, 0), "%s: something is left", what);
	ioctl(p->s, FIONREAD, &in);
	ioctl(p->m, FIONREAD, &out);
	expect(in == 0 && out == 0, "%s: %d bytes are left for the slave, %d for the master", what, in, out);
}

#define text(s) s, sizeof(s) - 1

static void put(const char *what, int fd, const char *b, size_t n)
{
	ssize_t w = write(fd, b, n);
	expect(w == (ssize_t)n, "%s: wrote %zd of %zu: %s", what, w, n, strerror(errno));
}

/* Until a terminal has it to read: a thread of the kernel brings it. */
static void arrives(int fd, int n)
{
	int have = -1;
	for (int64_t until = now(CLOCK_MONOTONIC) + 20000000000LL; now(CLOCK_MONOTONIC) < until; usleep(1000))
		if (readable(fd, 0) && ioctl(fd, FIONREAD, &have) == 0 && have == n)
			return;
	wrong("%d bytes have arrived, want %d", have, n);
}

/* Echo is on, and there is a line that has not ended. */
static void fill_lines(void)
{
	put("lines", lines.m, text("one\ntwo\nthr"));
	arrives(lines.s, 8);
	arrives(lines.m, 13);
}

static void take_lines(void)
{
	reads("first line", lines.s, text("one\n"));
	reads("second line", lines.s, text("two\n"));
	expect(!readable(lines.s, 0), "a line that has not ended can be read");
	put("third line", lines.m, text("ex\177e\n")); /* x is taken back */
	reads("third line", lines.s, text("three\n"));
	gives("echo", lines.m, text("one\r\ntwo\r\nthrex\b \be\r\n"));
	empty("lines", &lines);
}

static void fill_ends(void)
{
	put("ends", ends.m, text("abc\n\004x\004\026\004y\ngo")); /* an end, an end after x, a quoted ctrl-D */
	arrives(ends.s, 4 + 1 + 3);
}

static void take_ends(void)
{
	reads("line before an end of file", ends.s, text("abc\n"));
	reads("end of file", ends.s, text(""));
	reads("line that an end of file ends", ends.s, text("x"));
	reads("line after it", ends.s, text("\004y\n"));
	put("last line", ends.m, text("ne\004"));
	reads("last line", ends.s, text("gone"));
	empty("ends", &ends);
}

/* Nothing but an end of file, and lines that end by another character. */
static void fill_eol(void)
{
	put("eol", eol.m, text("\004a;b|"));
	arrives(eol.s, 4);
}

static void take_eol(void)
{
	reads("end of file alone", eol.s, text(""));
	reads("line ended by EOL", eol.s, text("a;"));
	reads("line ended by EOL2", eol.s, text("b|"));
	empty("eol", &eol);
}

static void fill_raw(struct pair *p)
{
	put("raw input", p->m, every, sizeof(every));
	put("raw output", p->s, every, sizeof(every));
	arrives(p->s, sizeof(every));
	arrives(p->m, sizeof(every));
}

static void take_raw(const char *what, struct pair *p)
{
	gives(what, p->s, every, sizeof(every));
	gives(what, p->m, every, sizeof(every));
	empty(what, p);
}

static void fill_packet(void)
{
	put("packet input", packet.m, text("in\n"));
	put("packet output", packet.s, text("out"));
	arrives(packet.s, 3);
	arrives(packet.m, 3);
}

static void take_packet(void)
{
	reads("packet", packet.m, text("\0out"));
	reads("packet input", packet.s, text("in\n"));
	expect(!readable(packet.m, 0), "packet mode: something else to read");
	int on = 0;
	ioctl(packet.m, TIOCGPKT, &on);
	expect(on == 1, "packet mode is off");
}

static int can_write(int fd)
{
	struct pollfd p = { fd, POLLOUT };
	return poll(&p, 1, 0) > 0 && (p.revents & POLLOUT);
}

static void becomes(const char *what, int fd, int writable)
{
	for (int64_t until = now(CLOCK_MONOTONIC) + 20000000000LL; now(CLOCK_MONOTONIC) < until; usleep(1000))
		if (can_write(fd) == writable)
			return;
	wrong("%s: output %s", what, writable ? "does not go on" : "is not stopped");
}

static void fill_stopped(void)
{
	put("tco", tco.s, text("before"));
	put("ctrl", ctrl.s, text("before"));
	tcflow(tco.s, TCOOFF);
	put("ctrl", ctrl.m, text("\023"));
	becomes("tcflow", tco.s, 0);
	becomes("ctrl-S", ctrl.s, 0);
	arrives(tco.m, 6);
	arrives(ctrl.m, 6);
}

static void take_stopped(void)
{
	expect(!can_write(tco.s), "tcflow: output goes on");
	expect(!can_write(ctrl.s), "ctrl-S: output goes on");
	put("tco", tco.m, text("\021"));
	put("tco", tco.m, text("."));
	reads("tco", tco.s, text("."));
	expect(!can_write(tco.s), "ctrl-Q takes back tcflow");
	tcflow(tco.s, TCOON);
	becomes("tcflow", tco.s, 1);
	tcflow(ctrl.s, TCOON);
	expect(!can_write(ctrl.s), "tcflow takes back ctrl-S");
	put("ctrl", ctrl.m, text("\021"));
	becomes("ctrl-Q", ctrl.s, 1);
	put("tco", tco.s, text(" after"));
	put("ctrl", ctrl.s, text(" after"));
	gives("tco", tco.m, text("before after"));
	gives("ctrl", ctrl.m, text("before after"));
}

/* No slave is open. */
static void fill_gone(void)
{
	char name[64];
	check(ptsname_r(gone.m, name, sizeof(name)) == 0, "ptsname_r");
	int s = open(name, O_RDWR | O_NOCTTY);
	check(s >= 0, "open %s", name);
	put("gone", gone.m, text("typed\nahead"));
	put("gone", s, text("last words"));
	arrives(s, 6);
	arrives(gone.m, 10);
	close(s);
}

static void take_gone(void)
{
	char b[64], name[64];
	gives("of who is gone", gone.m, text("last words"));
	expect(read(gone.m, b, sizeof(b)) == -1 && errno == EIO, "the master does not see that the slave is gone");
	ptsname_r(gone.m, name, sizeof(name));
	int s = open(name, O_RDWR | O_NOCTTY);
	reads("for who comes", s, text("typed\n"));
	put("gone", gone.m, text("!\n"));
	reads("for who comes", s, text("ahead!\n"));
	close(s);
}

static void look(void)
{
	take_lines();
	if (!no_ends)
		take_ends(), take_eol();
	take_raw("raw", &raw);
	take_packet();
	take_stopped();
	take_gone();
	take_raw("locked", &locked);
	fill_lines();
	if (!no_ends)
		fill_ends(), fill_eol();
	fill_raw(&raw);
	fill_packet();
	fill_stopped();
	fill_gone();
	fill_raw(&locked);
}

static void make(struct pair *p, int flags, void (*change)(struct termios *))
{
	struct termios t;
	check(openpty(&p->m, &p->s, NULL, NULL, NULL) == 0, "openpty");
	check(tcgetattr(p->s, &t) == 0, "tcgetattr");
	change(&t);
	check(tcsetattr(p->s, TCSANOW, &t) == 0, "tcsetattr");
	fcntl(p->m, F_SETFL, O_RDWR | flags);
}

static void plain(struct termios *t) { }

static void silent(struct termios *t)
{
	t->c_lflag &= ~ECHO;
}

static void more_ends(struct termios *t)
{
	silent(t);
	t->c_cc[VEOL] = ';';
	t->c_cc[VEOL2] = '|';
}

static void flowing(struct termios *t)
{
	cfmakeraw(t);
	t->c_iflag |= IXON;
}

int main(int argc, char **argv)
{
	no_ends = argc > 1;
	begin();
	for (size_t i = 0; i < sizeof(every); i++)
		every[i] = i + i / 256;
	make(&lines, 0, plain);
	make(&ends, O_NONBLOCK, silent);
	make(&eol, 0, more_ends);
	make(&raw, 0, cfmakeraw);
	make(&packet, 0, cfmakeraw);
	make(&tco, 0, flowing);
	make(&ctrl, 0, flowing);
	make(&gone, 0, silent);
	make(&locked, 0, cfmakeraw);
	close(gone.s);
	int on = 1;
	check(ioctl(packet.m, TIOCPKT, &on) == 0 && ioctl(locked.m, TIOCSPTLCK, &on) == 0, "modes");
	fill_lines();
	if (!no_ends)
		fill_ends(), fill_eol();
	fill_raw(&raw);
	fill_packet();
	fill_stopped();
	fill_gone();
	fill_raw(&locked);
	serve(look, NULL);
}
