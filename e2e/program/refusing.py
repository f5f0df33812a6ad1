#!/usr/bin/python3
# Has, upon SIGUSR1, what no dump can save, and upon the next has it no more.
import fcntl
import os
import signal

held = []


def change(*_):
    if held:
        os.close(held.pop())
        print("can be saved", flush=True)
    else:
        held.append(os.open("/", os.O_RDONLY))
        fcntl.fcntl(held[0], fcntl.F_NOTIFY, fcntl.DN_CREATE | fcntl.DN_MULTISHOT)
        print("cannot be saved", flush=True)


signal.signal(signal.SIGIO, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, change)
print("ready", flush=True)
while True:
    signal.pause()
