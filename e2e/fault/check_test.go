package fault

import (
	"testing"

	"ckpt/e2e/harness"
)

// comeAndGo are programs of which always something is just ending.
var comeAndGo = map[string][]string{
	"processes": {"sh", "-c", "while :; do /bin/true; done"},
	"threads": {"python3", "-c", `import threading
while True:
    all = [threading.Thread(target=lambda: None) for i in range(5)]
    for t in all: t.start()
    for t in all: t.join()`},
	"pipes": {"sh", "-c", "while :; do echo a | cat | sh -c 'cat >/dev/null & wait'; done"},
	"descriptors": {"python3", "-c", `import os, socket, tempfile, threading
def open_and_close():
    while True:
        a, b = socket.socketpair()
        r, w = os.pipe()
        f = tempfile.TemporaryFile()
        a.send(b"x")
        os.close(r); os.close(w); a.close(); b.close(); f.close()
threading.Thread(target=open_and_close).start()
while True:
    if os.fork() == 0: os._exit(0)
    os.wait()`},
}

// TestCheckBusy: a check stops nothing, and makes nothing of what ends
// meanwhile.
func TestCheckBusy(t *testing.T) {
	for _, user := range harness.Users() {
		for name, command := range comeAndGo {
			t.Run(name+"/as "+user, func(t *testing.T) {
				t.Parallel()
				e := harness.New(t, user)
				c := e.Start("busy", nil, append([]string{harness.Tool(t, command[0])}, command[1:]...)...)
				for range 100 {
					if r := e.Try("check", c.Name); r.Code != 0 {
						t.Fatal(r)
					}
				}
			})
		}
	}
}
