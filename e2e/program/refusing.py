#!/usr/bin/python3
# Has, upon SIGUSR1, what no dump can save, and upon the next has it no more.
import fcntl
import os
import signal

held = []


def change():
    if held:
        os.close(held.pop())
        print("can be saved", flush=True)
    else:
        held.append(os.open("/", os.O_RDONLY))
        fcntl.fcntl(held[0], fcntl.F_NOTIFY, fcntl.DN_CREATE | fcntl.DN_MULTISHOT)
        print("cannot be saved", flush=True)


# Waited for, not handled: a handler may run in the midst of print, and pause(2) sleeps
# through a signal that has come right before.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
signal.signal(signal.SIGIO, signal.SIG_IGN)
print("ready", flush=True)
while True:
    signal.sigwait({signal.SIGUSR1})
    change()
