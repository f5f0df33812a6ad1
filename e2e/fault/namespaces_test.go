package fault

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"ckpt/e2e/harness"
)

// apartness is a program in namespaces that cannot be carried, and what is said of it.
type apartness struct {
	name    string
	command []string
	want    string
	// dump: only a dump finds it, not a check.
	dump bool
	// flags are those of ckpt start.
	flags []string
	// user: an ordinary user can make it, too, in a user namespace.
	user bool
}

var apart = []apartness{
	{"network", []string{"unshare", "--net"}, "pid 2 (sleep): its network namespace is not the container's; these are not carried yet", false, nil, false},
	{"cgroup", []string{"unshare", "--cgroup"}, "pid 2 (sleep): its cgroup namespace is not the container's; these are not carried yet", false, nil, false},
	{"mount", []string{"unshare", "--mount", "sh", "-c", `mount -t tmpfs none /mnt && exec "$@"`, "sh"},
		"mounts: tmpfs was mounted on /mnt in a mount namespace made inside the container; that is not carried yet", false, nil, false},
	{"objects", []string{"unshare", "--ipc", "sh", "-c", `ipcmk -Q >/dev/null && exec "$@"`, "sh"},
		"pid 2 (sleep): its ipc namespace: System V IPC: a message queue in an ipc namespace made inside the container; these are not carried yet", true, nil, false},
	{"queues", []string{"unshare", "--ipc", "sh", "-c", `python3 -c 'import ctypes; ctypes.CDLL("librt.so.1").mq_open(b"/inner", 0o102, 0o600, None)' && exec "$@"`, "sh"},
		"pid 2 (sleep): its ipc namespace: message queues: those in an ipc namespace made inside the container are not carried yet: /inner", true, nil, false},
	{"directory", []string{"unshare", "--mount", "python3", "-c", shareDirectory},
		"it is in a mount namespace made inside and shares its working directory with pid", false, nil, false},
	{"entered", []string{"sh", "-c", `unshare --pid --fork --kill-child sleep 1000 & until p=$(pgrep -P $!); do :; done
nsenter --pid=/proc/$p/ns/pid sleep 1000 & until pgrep -P $! >/dev/null; do :; done; exec "$@"`, "sh"},
		"and its parent", false, nil, false},
	{"clocks of a thread's children", []string{"python3", "-c", threadClocks}, "it has a time namespace of its own; these are not carried yet", false, nil, false},
	{"clocks, and the leading thread gone", []string{"python3", "-c", fmt.Sprintf(leaderGone, 0x80)},
		"it has made a time namespace for its children and its leading thread has ended; that is not carried yet", false, nil, false},
	{"pids, and the leading thread gone", []string{"python3", "-c", fmt.Sprintf(leaderGone, 0x20000000)},
		"are to be born in another pid namespace (unshare(2)), and it is not alone in its process", false, nil, false},
	{"held open", []string{"sh", "-c", `unshare --uts sleep 1000 & until [ "$(readlink /proc/$!/ns/uts)" != "$(readlink /proc/self/ns/uts)" ]; do :; done
exec 9</proc/$!/ns/uts; kill $!; wait; exec "$@"`, "sh"}, "that no process of the container is in is held open", false, nil, false},
	{"first process gone", []string{"python3", "-c", firstGone}, "its children are to be born in a pid namespace whose first process has ended", false, nil, false},
	{"user, directory", []string{"unshare", "--user", "--map-root-user", "python3", "-c", shareDirectory},
		"it is in a user namespace made inside and shares its working directory, memory or signal handlers with pid", false, nil, true},
	{"user, first process", []string{"unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "unshare", "--user", "--map-root-user", "sh", "-c", `exec "$@"`, "sh"},
		"it is the first process of its pid namespace, and in a user namespace below the one that this belongs to; that is not carried yet", false, nil, true},
	{"user, first process of the container", []string{"unshare", "--user", "--map-root-user", "sh", "-c", `exec "$@"`, "sh"},
		"pid 1 (sleep): it is the first process of its pid namespace, and in a user namespace below the one that this belongs to; that is not carried yet", false, []string{"--no-init"}, true},
	{"user, left behind", []string{"unshare", "--user", "--map-root-user", "--uts", "unshare", "--user", "sh", "-c", `exec "$@"`, "sh"},
		"its uts namespace belongs to a user namespace that nobody in it is in; that is not carried yet", false, nil, true},
	{"user, entered mounts", []string{"sh", "-c", entered + `nsenter --mount=/proc/$p/ns/mnt sleep 1000 & until [ $(readlink /proc/$!/ns/mnt) = $(readlink /proc/$p/ns/mnt) ]; do :; done; exec "$@"`, "sh"},
		"its mnt namespace belongs to a user namespace that it is not in (setns(2), as nsenter(1) does); that is not carried yet", false, nil, false},
	{"user, left mounts", []string{"sh", "-c", entered + `nsenter --mount=/proc/$p/ns/mnt sleep 1000 & until [ $(readlink /proc/$!/ns/mnt) = $(readlink /proc/$p/ns/mnt) ]; do :; done; kill $p; wait $p; exec "$@"`, "sh"},
		"its mnt namespace belongs to a user namespace that no process is in any more; that is not carried yet", false, nil, false},
	{"user, no number", []string{"sh", "-c", `setpriv --reuid 65534 --regid 65534 --clear-groups unshare --user sleep 1000 & p=$!
until [ $(readlink /proc/$p/ns/user) != $(readlink /proc/self/ns/user) ]; do :; done
nsenter --user=/proc/$p/ns/user --preserve-credentials sleep 1000 & until [ $(readlink /proc/$!/ns/user) = $(readlink /proc/$p/ns/user) ]; do :; done; exec "$@"`, "sh"},
		"its user ids [0 0 0 0] (numbers of the host) cannot be chosen in its user namespace, and are not those of who made it; that is not carried yet", false, nil, false},
}

// entered sets p to a process that is in a user namespace and a mount namespace
// that belongs to that.
const entered = `unshare --user --map-root-user --mount sleep 1000 & p=$!
until [ $(readlink /proc/$p/ns/mnt) != $(readlink /proc/self/ns/mnt) ]; do :; done; `

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
	for _, a := range apart {
		for _, user := range harness.Users() {
			if harness.AsRoot(user) || a.user {
				t.Run(a.name+"/as "+user, func(t *testing.T) { a.refused(t, harness.New(t, user)) })
			}
		}
	}
}

func (a apartness) refused(t *testing.T, e *harness.Env) {
	command := append([]string{harness.Tool(t, a.command[0])}, a.command[1:]...)
	if a.command[len(a.command)-1] == "sh" || a.command[0] == "unshare" && len(a.command) == 2 {
		command = append(command, "sh", "-c", "echo ready; exec sleep 1000")
	}
	c := e.Start("apart", a.flags, command...)
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
}
