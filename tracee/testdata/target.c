// A program to be stopped, injected and let go: it prints a line for each
// round and exits at once, saying why, if anything is not as it should be.
//	target MODE [MODE...]: each mode in a thread of its own, the first in the leader
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <linux/futex.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *mode, const char *what)
{
	printf("bad: %s: %s: %s\n", mode, what, strerror(errno));
	fflush(stdout);
	_exit(1);
}

static void line(const char *mode)
{
	char b[64];
	int n = snprintf(b, sizeof b, "ok %s\n", mode);
	if (write(1, b, n) != n)
		_exit(1);
}

// work keeps all general registers but rsp, the flags and vector registers
// busy for a few milliseconds and returns what they hold in the end.
static uint64_t work(void)
{
	uint64_t out[6];
	double d = 1.0;
	__asm__ volatile(
		"push %%rbp\n\t"
		"mov %[o], %%rax\n\t push %%rax\n\t mov $14, %%rax\n\t"
		"mov $1, %%rbx\n\t mov $2, %%rcx\n\t mov $3, %%rdx\n\t mov $4, %%rsi\n\t mov $5, %%rdi\n\t"
		"mov $6, %%r8\n\t mov $7, %%r9\n\t mov $8, %%r10\n\t mov $9, %%r11\n\t mov $10, %%r12\n\t"
		"mov $11, %%r13\n\t mov $12, %%r14\n\t mov $13, %%r15\n\t"
		"vpcmpeqd %%ymm1, %%ymm1, %%ymm1\n\t vpxor %%ymm0, %%ymm0, %%ymm0\n\t"
		"mov $3000000, %%rbp\n\t"
		"1: add %%rbx, %%rcx\n\t adc %%rcx, %%rdx\n\t adc %%rdx, %%rsi\n\t adc %%rsi, %%rdi\n\t"
		"adc %%rdi, %%r8\n\t adc %%r8, %%r9\n\t adc %%r9, %%r10\n\t adc %%r10, %%r11\n\t"
		"adc %%r11, %%r12\n\t adc %%r12, %%r13\n\t adc %%r13, %%r14\n\t adc %%r14, %%r15\n\t"
		"adc %%r15, %%rax\n\t adc %%rax, %%rbx\n\t"
		"vpsubq %%ymm1, %%ymm0, %%ymm0\n\t"
		"dec %%rbp\n\t jnz 1b\n\t"
		"add %%r15, %%rbx\n\t add %%rdi, %%rbx\n\t"
		"pop %%rax\n\t"
		"vmovdqu %%ymm0, (%%rax)\n\t mov %%rbx, 32(%%rax)\n\t mov $0, %%rbx\n\t"
		"pop %%rbp\n\t vzeroupper\n\t"
		: : [o] "r"(out)
		: "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
		  "memory", "cc", "ymm0", "ymm1");
	for (int i = 0; i < 1000; i++)
		d = d * 1.000001 + 0.5;
	uint64_t v;
	memcpy(&v, &d, 8);
	return out[0] + out[1] * 3 + out[2] * 5 + out[3] * 7 + out[4] * 11 + v;
}

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int word;
static volatile int waiting;

// round runs one round of a mode.
static void once(const char *m)
{
	struct pollfd p = {.fd = 0, .events = POLLIN};
	struct timespec ts = {0, 30 * 1000 * 1000}, rest;
	int64_t start = now();
	char c;
	if (!strcmp(m, "spin")) {
		static uint64_t want;
		uint64_t got = work();
		if (want && got != want)
			die(m, "checksum");
		want = got;
	} else if (!strcmp(m, "nanosleep") || !strcmp(m, "nanosleep-rest")) {
		if (nanosleep(&ts, strcmp(m, "nanosleep") ? &rest : NULL))
			die(m, "nanosleep");
		int64_t took = now() - start;
		if (took < 30000000 || took > 5000000000ll)
			die(m, "time slept");
	} else if (!strcmp(m, "read")) {
		if (read(0, &c, 1) != 1)
			die(m, "read");
	} else if (!strcmp(m, "poll")) {
		if (poll(&p, 1, -1) != 1 || read(0, &c, 1) != 1)
			die(m, "poll");
	} else if (!strcmp(m, "ppoll")) {
		sigset_t s;
		sigemptyset(&s);
		if (ppoll(&p, 1, NULL, &s) != 1 || read(0, &c, 1) != 1)
			die(m, "ppoll");
	} else if (!strcmp(m, "select")) {
		fd_set f;
		FD_ZERO(&f);
		FD_SET(0, &f);
		if (select(1, &f, NULL, NULL, NULL) != 1 || read(0, &c, 1) != 1)
			die(m, "select");
	} else if (!strcmp(m, "epoll")) {
		int e = epoll_create1(0);
		struct epoll_event ev = {.events = EPOLLIN};
		epoll_ctl(e, EPOLL_CTL_ADD, 0, &ev);
		if (epoll_wait(e, &ev, 1, -1) != 1 || read(0, &c, 1) != 1)
			die(m, "epoll_wait");
		close(e);
	} else if (!strcmp(m, "futex")) {
		waiting = 1;
		if (syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0))
			die(m, "futex");
	} else if (!strcmp(m, "wake")) {
		while (!waiting)
			;
		if (read(0, &c, 1) != 1)
			die(m, "read");
		while (syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0) != 1)
			; /* it is about to wait */
	} else if (!strcmp(m, "sigwait")) {
		sigset_t s;
		sigemptyset(&s);
		sigaddset(&s, SIGUSR1);
		if (sigwaitinfo(&s, NULL) != SIGUSR1)
			die(m, "sigwaitinfo");
	} else {
		die(m, "no such mode");
	}
}

static void *rounds(void *m)
{
	for (;;) {
		once(m);
		line(m);
	}
}

int main(int argc, char **argv)
{
	pthread_t t;
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigaddset(&s, SIGUSR2);
	sigprocmask(SIG_SETMASK, &s, NULL);
	for (int i = 2; i < argc; i++)
		if (pthread_create(&t, NULL, rounds, argv[i]))
			die(argv[i], "pthread_create");
	printf("ready\n");
	fflush(stdout);
	rounds(argv[1]);
}
