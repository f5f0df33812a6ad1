package fault

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// apart are programs in namespaces that cannot be carried, and what is said of
// each.
var apart = []struct {
	name    string
	command []string
	want    string
	// dump: only a dump finds it, not a check.
	dump bool
}{
	{"network", []string{"unshare", "--net"}, "pid 2 (sleep): its network namespace is not the container's; these are not carried yet", false},
	{"cgroup", []string{"unshare", "--cgroup"}, "pid 2 (sleep): its cgroup namespace is not the container's; these are not carried yet", false},
	{"mount", []string{"unshare", "--mount", "sh", "-c", `mount -t tmpfs none /mnt && exec "$@"`, "sh"},
		"mounts: tmpfs was mounted on /mnt in a mount namespace made inside the container; that is not carried yet", false},
	{"objects", []string{"unshare", "--ipc", "sh", "-c", `ipcmk -Q >/dev/null && exec "$@"`, "sh"},
		"pid 2 (sleep): its ipc namespace: System V IPC: a message queue in an ipc namespace made inside the container; these are not carried yet", true},
	{"queues", []string{"unshare", "--ipc", "sh", "-c", `python3 -c 'import ctypes; ctypes.CDLL("librt.so.1").mq_open(b"/inner", 0o102, 0o600, None)' && exec "$@"`, "sh"},
		"pid 2 (sleep): its ipc namespace: message queues: those in an ipc namespace made inside the container are not carried yet: /inner", true},
	{"directory", []string{"unshare", "--mount", "python3", "-c", shareDirectory},
		"it is in a mount namespace made inside and shares its working directory with pid", false},
	{"entered", []string{"sh", "-c", `unshare --pid --fork --kill-child sleep 1000 & until p=$(pgrep -P $!); do :; done
nsenter --pid=/proc/$p/ns/pid sleep 1000 & until pgrep -P $! >/dev/null; do :; done; exec "$@"`, "sh"},
		"and its parent", false},
	{"clocks of a thread's children", []string{"python3", "-c", threadClocks}, "it has a time namespace of its own; these are not carried yet", false},
	{"clocks, and the leading thread gone", []string{"python3", "-c", fmt.Sprintf(leaderGone, 0x80)},
		"it has made a time namespace for its children and its leading thread has ended; that is not carried yet", false},
	{"pids, and the leading thread gone", []string{"python3", "-c", fmt.Sprintf(leaderGone, 0x20000000)},
		"are to be born in another pid namespace (unshare(2)), and it is not alone in its process", false},
	{"first process gone", []string{"python3", "-c", firstGone}, "its children are to be born in a pid namespace whose first process has ended", false},
}

// shareDirectory makes a child by clone(2) with CLONE_FS.
const shareDirectory = `import ctypes, os, signal, time
if ctypes.CDLL(None).syscall(56, 0x200 | signal.SIGCHLD, 0, 0, 0, 0) == 0:
    while True: time.sleep(1)
print("ready", flush=True)
while True: time.sleep(1)`

// threadClocks has a thread that makes a time namespace for its children.
const threadClocks = `import ctypes, threading, time
def thread():
    ctypes.CDLL(None).unshare(0x80)
    print("ready", flush=True)
    while True: time.sleep(1)
threading.Thread(target=thread).start()
while True: time.sleep(1)`

// leaderGone has a thread that makes a namespace for its children and is the
// only one left.
const leaderGone = `import ctypes, threading, time
leader = threading.get_native_id()
def thread():
    while open("/proc/self/task/%%d/stat" %% leader).read().split()[2] != "Z": time.sleep(0.01)
    ctypes.CDLL(None).unshare(%#x)
    print("ready", flush=True)
    while True: time.sleep(1)
threading.Thread(target=thread).start()
ctypes.CDLL(None).syscall(60, 0)`

// firstGone has a pid namespace for its children, in which none can be born any more.
const firstGone = `import ctypes, os, time
ctypes.CDLL(None).unshare(0x20000000)
if os.fork() == 0: os._exit(0)
os.wait()
print("ready", flush=True)
while True: time.sleep(1)`

// TestRefusedNamespaces: what cannot be carried of namespaces made inside is
// told, and the program runs on.
func TestRefusedNamespaces(t *testing.T) {
	if os.Geteuid() != 0 {
		return // an ordinary user makes them in a user namespace only: see TestRefusedUserNamespace
	}
	for _, a := range apart {
		t.Run(a.name, func(t *testing.T) {
			e := harness.New(t, "")
			command := append([]string{harness.Tool(t, a.command[0])}, a.command[1:]...)
			if a.command[len(a.command)-1] == "sh" || a.command[0] == "unshare" && len(a.command) == 2 {
				command = append(command, "sh", "-c", "echo ready; exec sleep 1000")
			}
			c := e.Start("apart", nil, command...)
			harness.Eventually(t, "it is ready", func() error {
				if strings.Contains(c.Log(), "ready\n") {
					return nil
				}
				return errors.Join(c.Alive(), errors.New("it has not said so"))
			})
			asleep := func() {
				t.Helper()
				if s := c.Ps().State; s != "running" {
					t.Errorf("it is %s", s)
				}
				untraced(c)
			}
			image := e.Join("image")
			all := [][]string{{"dump", c.Name, image}, {"dump", c.Name, image, "--leave-running"}, {"check", c.Name}}
			if a.dump {
				all = all[:2]
			}
			for _, args := range all {
				if r := e.Try(args...); r.Code != 3 || !strings.Contains(r.Out+r.Err, a.want) {
					t.Errorf("%q should be told, with exit code 3: %v", a.want, r)
				}
				absent(e, image)
				asleep()
			}
		})
	}
}
