"""A tree of processes with every sort of id: a session with a member, a group
with two, a session and a group whose leaders are dead, threads, a zombie, one
asleep. Each tells its steps on standard output (step.Step) with all its ids,
and checks that its relatives are where they were. SIGUSR1 lets the first
process wait for its zombie, which must have ended with 42, and make another.
"""

import json
import os
import signal
import sys
import threading
import time

PERIOD = 0.05
FIRST = os.getpid()


def fail(why):
    os.write(1, ("error: %s\n" % why).encode())
    os._exit(70)


def steps(who, relatives=(), count=lambda: 0):
    n, first = 0, time.monotonic()
    while True:
        n += 1
        ids = "pid %d ppid %d pgid %d sid %d tid %d" % (
            os.getpid(), os.getppid(), os.getpgid(0), os.getsid(0), threading.get_native_id())
        for pid in relatives:
            ids += " %d in %d of %d" % (pid, os.getpgid(pid), os.getsid(pid))
        os.write(1, (json.dumps({"who": who, "n": n, "mono": time.monotonic_ns(), "real": time.time_ns(),
                                 "ids": ids, "count": count()}) + "\n").encode())
        time.sleep(PERIOD)


def fork(body, prepare=lambda: None):
    """Returns when the child has prepared itself."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(r)
            prepare()
            os.close(w)
            body()
        except BaseException as e:
            fail(repr(e))
        os._exit(0)
    os.close(w)
    os.read(r, 1)
    os.close(r)
    return pid


def in_group():
    os.setpgid(0, 0)


def session():
    member = fork(lambda: steps("member"))
    threading.Thread(target=steps, args=("thread",), daemon=True).start()
    steps("session", [member])


def group():
    other = fork(lambda: steps("other"))
    steps("group", [other])


def left():
    while os.getppid() != FIRST:  # its subreaper
        time.sleep(0.001)
    steps("left")


def leaves():
    """Its session and its group lose their leaders."""

    def leader():
        os.waitpid(fork(lambda: fork(left), in_group), 0)

    os.waitpid(fork(leader, os.setsid), 0)


def zombie():
    pid = fork(lambda: os._exit(42))
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def main():
    import ctypes
    reaped, dead = 0, zombie()

    def on_usr1(*_):
        nonlocal reaped, dead
        got, status = os.waitpid(dead, 0)
        if got != dead or os.waitstatus_to_exitcode(status) != 42:
            fail("the zombie was %d, status %d" % (got, status))
        dead, reaped = zombie(), reaped + 1

    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: so that nobody leaves the tree
    fork(session, os.setsid)
    relatives = [fork(group, in_group), fork(lambda: time.sleep(1000))]
    os.waitpid(fork(leaves), 0)  # which leaves somebody, who comes to this one
    signal.signal(signal.SIGUSR1, on_usr1)
    steps("main", relatives, lambda: reaped)


main()
