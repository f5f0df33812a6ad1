"""A listener without SO_REUSEADDR that has closed connections of its own."""
import socket
import time

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
for _ in range(3):
    client = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    accepted.close()
    client.close()
print("ready", flush=True)
time.sleep(1000)
