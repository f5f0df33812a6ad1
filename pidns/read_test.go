package pidns

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// script runs as vpid 1 of a pid namespace. It leaves there an orphan in a
// session whose leader is gone, a child, and one that ends with descriptor 4.
// Then vpid 1 becomes a program that waits for no child.
const script = `
o=$(setsid sh -c 'sleep 1000 >/dev/null & echo $!')
sleep 1000 & a=$!
cat <&4 >/dev/null & z=$!
echo $o $a $z
exec cat
`

// TestRead reads the table of a real pid namespace.
func TestRead(t *testing.T) {
	init, o, a, z := startNamespace(t, true)
	table, err := Read(init)
	for err == nil && !table.byID[z].Zombie { // until it has exited
		runtime.Gosched()
		table, err = Read(init)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := table.byID[o].SID
	want := []Row{
		{ID: 1, TGID: 1, PGID: 1, SID: 1, Space: 1},
		{ID: o, TGID: o, PPID: 1, PGID: s, SID: s, Space: 1},
		{ID: a, TGID: a, PPID: 1, PGID: 1, SID: 1, Space: 1},
		{ID: z, TGID: z, PPID: 1, PGID: 1, SID: 1, Zombie: true, Space: 1},
		{ID: s, Space: 1},
	}
	got := map[VPID]Row{}
	for _, r := range table.Rows() {
		if (r.Host == 0) != r.Held() {
			t.Errorf("id %d has host id %d", r.ID, r.Host)
		}
		r.Host = 0
		got[r.ID] = r
	}
	for _, w := range want {
		if d := cmp.Diff(w, got[w.ID]); d != "" {
			t.Errorf("id %d: -want +got:\n%s", w.ID, d)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d ids, want %d", len(got), len(want))
	}
	if err := table.Verify(table.Identities(false)); err != nil {
		t.Errorf("differs from itself: %v", err)
	}
	if v, ok := table.Virtual(HostPID(os.Getpid())); ok {
		t.Errorf("the test itself is id %d", v)
	}
}

// A container runtime may leave the first process in a session and group made
// outside: they have no id inside, and so nothing to hold.
func TestReadOutsideSession(t *testing.T) {
	init, o, a, _ := startNamespace(t, false)
	table, err := Read(init)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []VPID{Init, a} {
		if r := table.byID[v]; r.ID != v || r.PGID != 0 || r.SID != 0 {
			t.Errorf("id %d: %+v", v, r)
		}
	}
	if s := table.byID[o].SID; !table.byID[s].Held() {
		t.Errorf("session %d of the orphan is not held", s)
	}
	if r, ok := table.byID[0]; ok {
		t.Errorf("an id 0 came in: %+v", r)
	}
}

// startNamespace gives vpid 1 of a new pid namespace and the ids of script;
// session tells whether vpid 1 leads a session of its own.
func startNamespace(t *testing.T, session bool) (init HostPID, orphan, child, zombie VPID) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	cmd := exec.Command("/bin/sh", "-c", script)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{os.Stderr, r} // 3 and 4
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: session, Cloneflags: unix.CLONE_NEWPID}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the end of vpid 1 is that of all
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	var echo string
	fmt.Fprintln(in, "ready") // comes back from the last program
	if _, err := fmt.Fscan(out, &orphan, &child, &zombie, &echo); err != nil {
		t.Fatal(err)
	}
	return HostPID(cmd.Process.Pid), orphan, child, zombie
}

// TestReadThreads reads the test's own process: its threads are rows of it.
func TestReadThreads(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self, tid := HostPID(os.Getpid()), HostPID(unix.Gettid())
	table, err := Read(self)
	if err != nil {
		t.Fatal(err)
	}
	v, ok := table.Virtual(tid)
	if !ok {
		t.Fatalf("thread %d is not in the table", tid)
	}
	lead, ok := table.Virtual(self)
	if !ok {
		t.Fatalf("process %d is not in the table", self)
	}
	if r := table.byID[v]; r.TGID != lead || r.PGID != VPID(unix.Getpgrp()) || r.Zombie {
		t.Errorf("thread %d: %+v", tid, r)
	}
}

func TestReadGone(t *testing.T) {
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if table, err := Read(HostPID(cmd.Process.Pid)); !gone(err) {
		t.Errorf("got %v, %v", table, err)
	}
}
