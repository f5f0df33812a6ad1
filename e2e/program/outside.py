"""A TCP connection that leads out of the container. As "listen ADDR PORT" it
accepts, as "connect ADDR PORT" it connects. A third number is how many megabytes
it has. It answers each line with its number
and itself in capitals, and does what some of them say; on SIGUSR1 it goes on
after "stall"."""
import os
import signal
import socket
import sys

how, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
ballast = os.urandom(1 << 20) * int(sys.argv[4]) if len(sys.argv) > 4 else b""
family = socket.AF_INET6 if ":" in address else socket.AF_INET


def pattern(n):
    period = bytes(65 + (i * 7 + i // 251) % 26 for i in range(26 * 251))
    return (period * (n // len(period) + 1))[:n]


def say(*words):
    print(*words, flush=True)


signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
if how == "listen":
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(4)
    say("ready")
    sock, _ = listener.accept()
else:
    sock = socket.socket(family)
    sock.connect((address, port))
    say("ready")

names = sock.getsockname(), sock.getpeername()
count = 0
rest = b""
try:
    while data := sock.recv(1 << 16):
        rest += data
        while b"\n" in rest:
            line, rest = rest.split(b"\n", 1)
            count += 1
            if line == b"stall":
                say("stalled")
                signal.sigwait([signal.SIGUSR1])
                continue
            if line == b"shut":
                sock.shutdown(socket.SHUT_WR)
                say("shut")
                continue
            if line.startswith(b"note "):
                say(line.decode())
                continue
            if line.startswith(b"flood "):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                say("flooding")
                sock.sendall(pattern(int(line.split()[1])))
                continue
            if line.startswith(b"take "):
                wanted = pattern(int(line.split()[1]))
                while len(rest) < len(wanted):
                    rest += sock.recv(1 << 16)
                say("taken", rest[:len(wanted)] == wanted)
                rest = rest[len(wanted):]
                continue
            assert (sock.getsockname(), sock.getpeername()) == names
            sock.sendall(b"%d: %s\n" % (count, line.upper()))
    say("end", count)
except OSError as e:
    say(type(e).__name__, rest.decode())
    for what in (lambda: sock.recv(1), sock.getpeername, lambda: sock.send(b"x")):
        try:
            say("gives", what())
        except OSError as e:
            say("gives", type(e).__name__, e.errno)
say("over")
signal.pause()
