"""TCP connections with both ends inside: full ones, half closed ones, such as
were refused or reset, one in use all the time. On every SIGUSR1 it empties and checks them, says "good N" or
"BAD: why", and fills them anew."""
import errno
import os
import signal
import socket
import struct
import threading
import time

wanted = 0


def on_usr1(*_):
    global wanted
    wanted += 1


signal.signal(signal.SIGUSR1, on_usr1)


def pair(family, address):
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen(1)
        client = socket.create_connection(listener.getsockname()[:2])
        server, _ = listener.accept()
    return client, server


def pattern(n):
    return bytes((i * 7 + i // 251) % 256 for i in range(n))


def echo(sock):
    while data := sock.recv(100):
        sock.sendall(data.upper())


class Full:
    """Both directions hold as much as goes in."""

    def __init__(self, family, address):
        self.ends = pair(family, address)
        self.sent = []
        for end in self.ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            end.setblocking(False)
            data, n = pattern(8 << 20), 0
            try:
                while n < len(data):
                    n += end.send(data[n:])
            except BlockingIOError:
                pass
            self.sent.append(data[:n])

    def check(self):
        for end, sent in zip(reversed(self.ends), self.sent):
            end.setblocking(True)
            end.settimeout(10)
            got = bytearray()
            while len(got) < len(sent):
                got += end.recv(1 << 16)
            assert got == sent, f"{len(sent)} bytes are not those that were sent"
        a, b = self.ends
        a.settimeout(10)
        a.sendall(b"more")
        assert b.recv(100) == b"more"
        a.close()
        assert b.recv(100) == b""
        b.close()


class Half:
    """One end has said all, the other has not."""

    def __init__(self, family, address):
        self.client, self.server = pair(family, address)
        self.client.sendall(b"question")
        self.client.shutdown(socket.SHUT_WR)

    def check(self):
        self.client.settimeout(10)
        self.server.settimeout(10)
        got = b""
        while data := self.server.recv(100):
            got += data
        assert got == b"question", got
        self.server.sendall(b"answer")
        self.server.close()
        got = b""
        while data := self.client.recv(100):
            got += data
        assert got == b"answer", got
        self.client.close()


class Over:
    """One was refused and one was reset, which they have not been told yet."""

    def __init__(self, family, address):
        self.refused = socket.socket(family)
        self.refused.setblocking(False)
        with socket.socket(family) as silent:
            silent.bind((address, 0))
            self.refused.connect_ex(silent.getsockname()[:2])
        self.reset, other = pair(family, address)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.close()

    def check(self):
        for end, want in ((self.refused, errno.ECONNREFUSED), (self.reset, errno.ECONNRESET)):
            got = end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            assert got == want, f"{os.strerror(got)}, not {os.strerror(want)}"
            end.close()


def make():
    kinds = [(socket.AF_INET, "127.0.0.1")]
    if socket.has_ipv6 and os.path.exists("/proc/net/if_inet6") and open("/proc/net/if_inet6").read():
        kinds.append((socket.AF_INET6, "::1"))
    return [c(*k) for c in (Full, Half, Over) for k in kinds]


client, server = pair(socket.AF_INET, "127.0.0.1")
threading.Thread(target=echo, args=(server,), daemon=True).start()
client.settimeout(10)
held = make()
print("ready", flush=True)
done, n = 0, 0
while True:
    n += 1
    client.sendall(b"line %d" % n)
    got = client.recv(100)
    if got != b"LINE %d" % n:
        print(f"BAD: asked {n}, got {got}", flush=True)
    if done < wanted:
        done += 1
        try:
            for c in held:
                c.check()
            print(f"good {done}", flush=True)
        except (OSError, AssertionError) as err:
            print(f"BAD: {type(c).__name__}: {err!r}", flush=True)
        held = make()
        print(f"ready {done}", flush=True)
    time.sleep(0.01)
