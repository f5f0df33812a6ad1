"""Threads, subprocesses, pipes, sockets, timers and memory of a Python
program, each of which checks itself at every step. Every thread tells its
steps on standard output (step.Step); whatever is not as it should be is
written as "error: ..." and ends the program. SIGUSR1 is counted.
"""

import hashlib
import json
import mmap
import os
import queue
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback

PERIOD = 0.05


def fail(why):
    os.write(1, ("error: %s\n" % why).encode())
    os._exit(70)


def check(ok, why):
    if not ok:
        fail(why)


class Steps:
    """One thread's steps."""

    def __init__(self, who, ids=""):
        self.who, self.ids, self.n = who, ids, 0

    def told(self, count=0):
        self.n += 1
        ids = "pid %d ppid %d pgid %d sid %d tid %d %s" % (
            os.getpid(), os.getppid(), os.getpgid(0), os.getsid(0), threading.get_native_id(), self.ids)
        line = json.dumps({"who": self.who, "n": self.n, "mono": time.monotonic_ns(),
                           "real": time.time_ns(), "ids": ids, "count": count})
        os.write(1, (line + "\n").encode())


def producer(q):
    steps, n = Steps("producer"), 0
    while True:
        for _ in range(10):
            q.put(n)
            n += 1
        steps.told()
        time.sleep(PERIOD)


def consumer(q):
    steps, want = Steps("consumer"), 0
    while True:
        for _ in range(10):
            got = q.get(timeout=30)
            check(got == want, "queue: %d instead of %d" % (got, want))
            want += 1
        steps.told()


def sockets():
    """A socket pair, driven by epoll, with a message always under way."""
    a, b = socket.socketpair()
    b.setblocking(False)
    ep = select.epoll()
    ep.register(b, select.EPOLLIN)
    steps, n = Steps("sockets"), 0
    a.sendall(b"%08d" % n)
    while True:
        a.sendall(b"%08d" % (n + 1))
        events = ep.poll(30)
        check(events == [(b.fileno(), select.EPOLLIN)], "epoll: %r" % (events,))
        got = b.recv(8)
        check(got == b"%08d" % n, "socket: %r instead of %d" % (got, n))
        n += 1
        steps.told()
        time.sleep(PERIOD)


CHILD = r"""
import os, sys
parent = os.getppid()
for line in sys.stdin:
    if os.getppid() != parent:
        sys.exit("parent changed")
    print(line.strip(), os.getpid(), flush=True)
"""


def child():
    """A subprocess that answers over pipes."""
    p = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    steps, n = Steps("child", "child %d" % p.pid), 0
    while True:
        p.stdin.write("%d\n" % n)
        p.stdin.flush()
        answer = p.stdout.readline().split()
        check(answer == [str(n), str(p.pid)], "subprocess: %r instead of %d" % (answer, n))
        n += 1
        steps.told()
        time.sleep(PERIOD)


def memory():
    """16 MB that are changed page by page and summed now and then; some
    never written, some shared and anonymous, some of a file at a position."""
    rnd = random.Random(17)
    data = bytearray(rnd.randbytes(16 << 20))
    zeros = mmap.mmap(-1, 4 << 20)
    shared = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_SHARED)
    want = hashlib.blake2b(data).digest()
    source = open(sys.argv[1], "rb", buffering=0)
    text = open(sys.argv[1], "rb").read()
    steps, n = Steps("memory"), 0
    while True:
        at = rnd.randrange(0, len(data), 4096)
        data[at:at + 8] = n.to_bytes(8, "little")
        shared[at % len(shared):at % len(shared) + 8] = n.to_bytes(8, "little")
        if n % 10 == 0:
            check(n == 0 or hashlib.blake2b(before).digest() == want, "memory changed by itself")
            before = bytes(data)
            want = hashlib.blake2b(data).digest()
        check(data[at:at + 8] == n.to_bytes(8, "little"), "write lost")
        check(shared[at % len(shared):at % len(shared) + 8] == n.to_bytes(8, "little"), "write to shared memory lost")
        check(zeros[at % len(zeros)] == 0, "untouched page is not zero")
        part = source.read(100)
        if not part:
            source.seek(0)
            part = source.read(100)
        check(part == text[source.tell() - len(part):source.tell()], "file position lost")
        n += 1
        steps.told()
        time.sleep(PERIOD)


def main():
    usr1 = alarms = 0

    def on_usr1(*_):
        nonlocal usr1
        usr1 += 1

    def on_alarm(*_):
        nonlocal alarms
        alarms += 1

    signal.signal(signal.SIGUSR1, on_usr1)
    signal.signal(signal.SIGALRM, on_alarm)
    threading.excepthook = lambda a: fail("".join(traceback.format_exception(a.exc_type, a.exc_value, a.exc_traceback)).replace("\n", " | "))
    q = queue.Queue(100)
    for target, args in (producer, (q,)), (consumer, (q,)), (sockets, ()), (child, ()), (memory, ()):
        threading.Thread(target=target, args=args, daemon=True).start()
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    steps, seen, since = Steps("main"), 0, 0
    while True:
        time.sleep(PERIOD)
        # The interval timer must go on: 40 steps are more than two seconds.
        seen, since = (alarms, 0) if alarms != seen else (seen, since + 1)
        check(since < 40, "no SIGALRM in 40 steps")
        steps.told(usr1)


main()
