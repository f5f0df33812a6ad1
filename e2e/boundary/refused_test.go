package boundary

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/e2e/harness"
)

// refusal is what a dump does not carry, and says so.
type refusal struct {
	number int // in docs/pid-boundaries.md
	what   string
	root   bool // only he can make it
	user   bool // only an ordinary user is refused it
	says   string
	// unseen is what a check names as not looked at, where it cannot say the same.
	unseen string
	// give is a descriptor from outside that the program holds.
	give func(*testing.T) *os.File
}

var refusals = []refusal{
	{number: 5, what: "given /proc", says: "is a file of /proc that its process does not show any more, or not of the container's /proc", give: hostProc},
	{number: 5, what: "dead", says: "/fd/0 is a file of /proc that its process does not show any more"},
	{number: 6, what: "given owner", says: "its owner (F_SETOWN) is host pid ", give: hostOwner},
	{number: 7, what: "credentials", user: true, says: "a message with the credentials of pid 2 waits in one whose name leads nowhere any more", unseen: "messages that wait in unix sockets"},
	{number: 7, what: "reused", root: true, says: "a process 300 that has ended, and another has that number now (pid 300, edges)", unseen: "peers of these that have ended"},
	{number: 11, what: "given queue", root: true, says: "the message queue /given (deleted), which is not of the container's ipc namespace", unseen: "message queues", give: hostQueue},
	{number: 11, what: "notified", says: "/edge: pid 2 (edges): is to be notified of a message (mq_notify): signal 34, by which it is to be, waits already", unseen: notifications},
	{number: 11, what: "reader", user: true, says: "/edge: pid 2 (edges): it is to be notified of a message (mq_notify), and may not send any: permission denied", unseen: notifications},
	{number: 15, what: "given pidfd", says: "a pidfd of host pid ", give: hostPidfd},
	{number: 16, what: "traced", says: "it is being traced by pid 2 (edges)"},
	{number: 18, what: "packet", root: true, says: ", which a BPF program spreads"},
	{number: 21, what: "vfork", says: "(edges): it waits in vfork for its child to run a program"},
	{number: 22, what: "fanotify", root: true, says: "fanotify: events wait to be read"},
}

const notifications = "who is to be notified (mq_notify)"

func hostProc(t *testing.T) *os.File {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func hostOwner(t *testing.T) *os.File {
	fd, err := unix.Eventfd(0, 0)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETOWN, os.Getpid())
	}
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "eventfd")
}

// hostQueue is a message queue of the test's, made as a file of its file system.
func hostQueue(t *testing.T) *os.File {
	ctx, err := unix.Fsopen("mqueue", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ctx)
	if err := unix.FsconfigCreate(ctx); err != nil {
		t.Fatal(err)
	}
	dir, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	fd, err := unix.Openat(dir, "given", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		err = unix.Unlinkat(dir, "given", 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "queue")
}

func hostPidfd(t *testing.T) *os.File {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "pidfd")
}

// TestRefused: a dump that refuses says what, and the program goes on. A check
// says the same, or that it has not looked.
func TestRefused(t *testing.T) {
	for _, r := range refusals {
		for _, user := range harness.Users() {
			if r.root && !harness.AsRoot(user) || r.user && harness.AsRoot(user) {
				continue
			}
			t.Run(fmt.Sprintf("%d %s/as %s", r.number, r.what, user), func(t *testing.T) {
				t.Parallel()
				e := harness.New(t, user)
				if r.give != nil {
					e.Give(r.give(t))
				}
				what, _, _ := strings.Cut(r.what, " ")
				s := e.Watch("boundary", nil, harness.Program(t, "boundary/edges.c"), what)
				if d := e.Try("dump", s.Name, s.Image()); d.Code != 3 || !strings.Contains(d.Err, r.says) || !strings.Contains(d.Err, "ckpt: hint: ") {
					t.Errorf("want exit code 3, %q and a hint: %v", r.says, d)
				}
				code, says := 3, r.says
				if r.unseen != "" {
					code, says = 0, r.unseen
				}
				if c := e.Try("check", s.Name); c.Code != code || !strings.Contains(c.Out, says) || strings.Contains(c.Out, "not looked at") != (code == 0) {
					t.Errorf("want exit code %d and %q: %v", code, says, c)
				}
				s.Look()
				s.Finish()
			})
		}
	}
}
