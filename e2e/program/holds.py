"""holds.py THING: forks a process that has a THING in common with its parent,
or is otherwise tied to what is outside. Says "ready" and the pid of that
process, and sleeps. After the pid of "undo", "semaphore" and "queue" comes the
id of its object, which somebody else has to remove.
"""

import ctypes
import fcntl
import mmap
import os
import pty
import select
import signal
import socket
import sys
import termios
import time

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *args):
    got = getattr(libc, name)(*args)
    if got == -1:
        raise OSError(ctypes.get_errno(), name + ": " + os.strerror(ctypes.get_errno()))
    return got


def child(prepare=lambda: None):
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(r)
        prepare()
        os.write(w, b"!")
        os.close(w)
        while True:
            time.sleep(1000)
    os.close(w)
    if os.read(r, 1) != b"!":
        raise SystemExit("it could not be prepared")
    os.close(r)
    return pid


def terminal():
    master, slave = pty.openpty()

    def prepare():
        os.close(master)
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        os.close(slave)  # its session keeps it

    return child(prepare)


def hung_up():
    """As what nohup(1) started when its user has logged out."""
    master, slave = pty.openpty()

    def prepare():
        os.close(master)
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    pid = child(prepare)
    os.close(slave)
    os.close(master)
    return pid


def pipe():
    r, w = os.pipe()
    return child(lambda: os.close(r))


def fifo():
    os.mkfifo("fifo")
    kept.append(os.open("fifo", os.O_RDWR))
    r = os.open("fifo", os.O_RDONLY)

    def prepare():
        os.close(kept[0])

    pid = child(prepare)
    os.close(r)
    return pid


def both_ends():
    os.pipe()
    return child()


def peer():
    a, b = socket.socketpair()
    kept.append((a, b))
    return child(lambda: b.close())


def shared_epoll():
    ep = select.epoll()
    kept.append(ep)
    return child()


def event():
    kept.append(os.eventfd(5))
    return child()


def slave():
    """A terminal's, which is not that of its session."""
    master, slave = pty.openpty()
    return child(lambda: (os.setsid(), os.close(master)))


def memfd():
    os.memfd_create("shared")
    return child()


def memory():
    m = mmap.mmap(-1, 4096)
    kept.append(m)
    return child()


def segment():
    libc.shmat.restype = ctypes.c_void_p

    def prepare():
        shmid = call("shmget", 0, 4096, 0o1600)
        libc.shmat(shmid, None, 0)
        call("shmctl", shmid, 0, None)  # IPC_RMID: gone with the last who has it

    return child(prepare)


def undo():
    semid = call("semget", 0, 1, 0o1600)

    def prepare():
        op = (ctypes.c_short * 3)(0, 1, 0x1000)  # SEM_UNDO
        call("semop", semid, op, 1)

    return child(prepare), semid


def semaphore():
    semid = call("semget", 0, 1, 0o1600)
    return child(lambda: call("semop", semid, (ctypes.c_short * 3)(0, 1, 0), 1)), semid


def queue():
    msgid = call("msgget", 0, 0o1600)
    return child(lambda: call("msgsnd", msgid, (ctypes.c_long * 2)(1), 1, 0)), msgid


def namespace():
    return child(lambda: call("unshare", 0x40000000))  # CLONE_NEWNET


def below():
    """The first process of a pid namespace."""

    def prepare():
        call("unshare", 0x20000000)  # CLONE_NEWPID
        child()

    outer = child(prepare)
    return int(open("/proc/%d/task/%d/children" % (outer, outer)).read())


def tracer():
    traced = child()

    def prepare():
        call("ptrace", 0x4206, traced, 0, 0)  # PTRACE_SEIZE

    return child(prepare)


def traced():
    pid = child()
    call("ptrace", 0x4206, pid, 0, 0)
    return pid


def thread():
    import threading
    told = []
    t = threading.Thread(target=lambda: (told.append(threading.get_native_id()), time.sleep(1000)), daemon=True)
    t.start()
    while not told:
        time.sleep(0.001)
    return told[0]


def zombie():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def nothing():
    return child()


kept = []
made = globals()[sys.argv[1]]()
print("ready", *(made if isinstance(made, tuple) else (made,)), flush=True)
while True:
    time.sleep(1000)
