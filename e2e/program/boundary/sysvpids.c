/*
 * sysvpids: who made and last used System V objects: processes that live, that
 * have ended, zombies, the dead leader of a group.
 */
#include "../state.h"
#include "other.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#define P 4096

static struct other *child;
static pid_t zombie, leader, reaped;

enum { BY_PARENT, BY_CHILD, BY_REAPED, BY_ZOMBIE, BY_LEADER, ACTORS };

/* What a process does, once: the calls are those of its number. */
static struct plan {
	int segments[3], sem, full, queues[4];
} *plan;

static int op(int num, int n, int flags)
{
	struct sembuf b = { num, n, flags | IPC_NOWAIT };
	return semop(plan->sem, &b, 1);
}
static void attach(int id)
{
	char *p = shmat(id, NULL, 0);
	check(p != (void *)-1 && shmdt(p) == 0, "attach");
}
static void put(int q, long type)
{
	struct { long type; char text[4]; } m = { type, "abc" };
	check(msgsnd(q, &m, 4, IPC_NOWAIT) == 0, "msgsnd");
}
static void take(int q, long type)
{
	struct { long type; char text[4]; } m;
	check(msgrcv(q, &m, 4, type, IPC_NOWAIT) == 4, "msgrcv");
}

static void early(int who)
{
	if (who == BY_CHILD || who == BY_REAPED || who == BY_PARENT)
		check((plan->segments[who] = shmget(IPC_PRIVATE, 3 * P, IPC_CREAT | 0600)) >= 0, "shmget");
}
static void late(int who)
{
	check(op(who, 1, 0) == 0, "semop");
	if (who == BY_CHILD) /* the parent changes it last, but the child may undo it */
		check(op(ACTORS, 5, 0) == 0 && op(ACTORS, -1, SEM_UNDO) == 0, "semop");
	switch (who) {
	case BY_REAPED:
		attach(plan->segments[BY_PARENT]);
		attach(plan->segments[BY_REAPED]);
		put(plan->queues[0], 5);
		put(plan->queues[1], 1);
		put(plan->queues[1], 2);
		break;
	case BY_CHILD:
		attach(plan->segments[BY_CHILD]);
		take(plan->queues[0], 5);
		put(plan->queues[2], 7);
		break;
	case BY_ZOMBIE:
		put(plan->queues[3], 3);
		take(plan->queues[3], 3);
		break;
	case BY_LEADER:
		take(plan->queues[2], 7);
		break;
	}
}

static void act(struct other *o, int order)
{
	if (order == 1)
		early(BY_CHILD), late(BY_CHILD);
}
static void idle(struct other *o, int order) {}

static void pids_of_set(int id, int n)
{
	char is[32], all[256] = "";
	for (int i = 0; i < n; i++)
		sprintf(all + strlen(all), " %d=%d", semctl(id, i, GETPID), semctl(id, i, GETVAL));
	snprintf(is, sizeof(is), "semaphores of %d", id);
	fact(is, "%s", all);
}

/* The columns of /proc/sysvipc but for times and the pages that happen to be there. */
static void listed(const char *name, int from, int to)
{
	char path[64], all[4096] = "", *save = NULL;
	sprintf(path, "/proc/sysvipc/%s", name);
	for (char *l = strtok_r(contents(path), "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char *w = strtok(l, " \t");
		for (int i = 0; w; i++, w = strtok(NULL, " \t"))
			if (i < from || i > to)
				strcat(strcat(all, " "), w);
		strcat(all, "\n");
	}
	fact(path, "%s", all);
}

static void look(void)
{
	for (int i = 0; i < 3; i++) {
		struct shmid_ds s;
		char is[32];
		works(shmctl(plan->segments[i], IPC_STAT, &s), "segment %d", i);
		snprintf(is, sizeof(is), "segment %d", i);
		fact(is, "made by %d, last by %d, attached %ld", s.shm_cpid, s.shm_lpid, (long)s.shm_nattch);
	}
	for (int i = 0; i < 4; i++) {
		struct msqid_ds q;
		char is[32];
		works(msgctl(plan->queues[i], IPC_STAT, &q), "queue %d", i);
		snprintf(is, sizeof(is), "queue %d", i);
		fact(is, "%ld messages, sent by %d, received by %d, room %ld", (long)q.msg_qnum, q.msg_lspid, q.msg_lrpid, (long)q.msg_qbytes);
	}
	pids_of_set(plan->sem, ACTORS + 2);
	pids_of_set(plan->full, 2);
	listed("shm", 11, 15);
	listed("msg", 11, 13);
	listed("sem", 8, 9);
}

static void finish(void)
{
	take(plan->queues[1], 1);
	take(plan->queues[1], 2);
	kill(child->pid, SIGKILL);
	ended(child->pid, SIGKILL);
	expect(semctl(plan->sem, ACTORS, GETVAL) == 4 && semctl(plan->sem, ACTORS, GETPID) == child->pid,
		"undone: %d by %d", semctl(plan->sem, ACTORS, GETVAL), semctl(plan->sem, ACTORS, GETPID));
}

int main(void)
{
	begin();
	plan = shared(sizeof(*plan));
	check((plan->sem = semget(IPC_PRIVATE, ACTORS + 2, IPC_CREAT | 0600)) >= 0, "semget");
	check((plan->full = semget(IPC_PRIVATE, 2, IPC_CREAT | 0600)) >= 0, "semget");
	check(semctl(plan->full, 1, SETVAL, 32767) == 0, "SETVAL");
	for (int i = 0; i < 4; i++)
		check((plan->queues[i] = msgget(IPC_PRIVATE, IPC_CREAT | 0600)) >= 0, "msgget");
	struct msqid_ds q;
	check(msgctl(plan->queues[1], IPC_STAT, &q) == 0, "msgctl");
	q.msg_qbytes = 8; /* full */
	check(msgctl(plan->queues[1], IPC_SET, &q) == 0, "msgctl");

	early(BY_PARENT);
	if ((reaped = fork()) == 0) {
		early(BY_REAPED), late(BY_REAPED);
		_exit(0);
	}
	check(waitpid(reaped, NULL, 0) == reaped, "waitpid");
	child = other(act);
	does(child, 1);
	check(op(ACTORS, -1, 0) == 0, "semop");
	late(BY_PARENT);
	if ((zombie = fork()) == 0) {
		late(BY_ZOMBIE);
		_exit(1);
	}
	siginfo_t si;
	check(waitid(P_PID, zombie, &si, WEXITED | WNOWAIT) == 0, "waitid");
	struct other *member = shared(sizeof(*member));
	if ((leader = fork()) == 0) {
		check(setpgid(0, 0) == 0, "setpgid");
		late(BY_LEADER);
		if (fork() == 0)
			obeys(member, idle);
		check(comes(&member->up, 1), "start a process");
		_exit(0);
	}
	check(waitpid(leader, NULL, 0) == leader, "waitpid");
	attach(plan->segments[BY_REAPED]);
	check(shmat(plan->segments[BY_PARENT], NULL, 0) != (void *)-1, "shmat");
	pid_t last = fork();
	if (last == 0)
		_exit(0); /* that detaches what it has inherited */
	check(waitpid(last, NULL, 0) == last, "waitpid");
	serve(look, finish);
}
