package sysv

import (
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/testing/protocmp"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/tracee"
)

// semSet makes a set with these values.
func semSet(t *testing.T, values ...byte) int {
	t.Helper()
	id, _, e := unix.Syscall(unix.SYS_SEMGET, unix.IPC_PRIVATE, uintptr(len(values)), unix.IPC_CREAT|0o600)
	if e != 0 {
		t.Fatal(e)
	}
	var b []byte
	for _, v := range values {
		b = append(b, v, 0)
	}
	_, err := kernel.Semctl(int(id), kernel.SemSetAll, b)
	check(t, err)
	return int(id)
}

func values(t *testing.T, id, n int) (out []int) {
	t.Helper()
	b := make([]byte, 2*n)
	_, err := kernel.Semctl(id, kernel.SemGetAll, b)
	check(t, err)
	for i := range n {
		out = append(out, int(b[2*i])|int(b[2*i+1])<<8)
	}
	return out
}

// asked runs the dump of undo values in a process.
func (b *box) asked(pid int) (*image.Task, error) {
	b.t.Helper()
	in := inject(b.t, pid)
	defer in.remove()
	init := inject(b.t, b.init)
	defer init.remove()
	p := &kind.Proc{VPID: 5, Host: hostPID(pid), Extra: &image.Task{}, Threads: []*kind.Task{{VTID: 5, Host: hostPID(pid), Traced: in.thread}}}
	d := &kind.Dump{Log: slog.New(slog.DiscardHandler), Home: hostPID(b.init), Hand: hostPID(b.init), Procs: []*kind.Proc{p}, Inside: init.run}
	k := Undo()
	if err := k.Observe(d, p); err != nil {
		return nil, err
	}
	var read func() error
	err := in.run(func(s *tracee.Script) (err error) {
		read, err = k.Ask(d, p, s)
		return err
	}, func(*tracee.Script) error {
		if read == nil {
			return nil
		}
		return read()
	})
	return p.Extra, err
}

func TestUndoValues(t *testing.T) {
	if !inside(t, unix.CLONE_NEWNS|unix.CLONE_NEWIPC) {
		return
	}
	runtime.LockOSThread()
	id := semSet(t, 9, 0, 5, 7)
	b := newBox(t)
	pid, end := start(t, exec.Command("/proc/self/exe"), fmt.Sprintf("%s=%d 0:-2 1:3 2:-1 2:1", undoEnv, id))
	other, endOther := start(t, exec.Command("/proc/self/exe"), fmt.Sprintf("%s=%d", undoEnv, id))

	b.enterNamespace()
	got, err := b.asked(pid)
	check(t, err)
	want := &image.Task{SemUndo: []*image.SemUndo{{Semid: uint32(id), Num: 0, Adj: 2}, {Semid: uint32(id), Num: 1, Adj: -3}}}
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Error(d)
	}
	none, err := b.asked(other)
	check(t, err)
	if len(none.SemUndo) > 0 {
		t.Errorf("a process without undo values has %v", none)
	}
	b.leaveNamespace()
	if got := values(t, id, 4); !cmp.Equal(got, []int{7, 3, 5, 7}) {
		t.Errorf("asking has changed the semaphores: %v", got)
	}

	// The other process gets them, as if it were the first one restored.
	in := inject(t, other)
	check(t, in.run(func(s *tracee.Script) error {
		for _, e := range got.GetSemUndo() {
			check(t, addUndo(s, e))
		}
		return nil
	}, func(*tracee.Script) error { return nil }))
	in.remove()
	if got := values(t, id, 4); !cmp.Equal(got, []int{7, 3, 5, 7}) {
		t.Errorf("restoring has changed the semaphores: %v", got)
	}
	end()
	if got := values(t, id, 4); !cmp.Equal(got, []int{9, 0, 5, 7}) {
		t.Errorf("after the process: %v", got)
	}
	endOther()
	if got := values(t, id, 4); !cmp.Equal(got, []int{11, 0, 5, 7}) {
		t.Errorf("after the restored process: %v", got)
	}
}

// Too many semaphores to ask for each: that there are values is still noticed.
func TestManySemaphores(t *testing.T) {
	if !inside(t, unix.CLONE_NEWNS|unix.CLONE_NEWIPC) {
		return
	}
	runtime.LockOSThread()
	id := semSet(t, make([]byte, 400)...)
	b := newBox(t)
	idle, _ := start(t, exec.Command("/proc/self/exe"), fmt.Sprintf("%s=%d", undoEnv, id))
	holds, _ := start(t, exec.Command("/proc/self/exe"), fmt.Sprintf("%s=%d 399:1", undoEnv, id))
	owes, _ := start(t, exec.Command("/proc/self/exe"), fmt.Sprintf("%s=%d 397:1 397:1", undoEnv, id))
	b.enterNamespace()
	defer b.leaveNamespace()
	for _, tt := range []struct {
		name    string
		pid     int
		refused bool
	}{{"idle", idle, false}, {"holds", holds, true}, {"owes", owes, true}} {
		got, err := b.asked(tt.pid)
		if tt.refused != errors.Is(err, failure.ErrUnsupported) || tt.refused && len(failure.Hints(err)) == 0 || !tt.refused && len(got.SemUndo) > 0 {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
}

func TestUndoTooHigh(t *testing.T) {
	if !inside(t, unix.CLONE_NEWNS|unix.CLONE_NEWIPC) {
		return
	}
	runtime.LockOSThread()
	id := semSet(t, 200)
	b := newBox(t)
	pid, _ := start(t, exec.Command("/proc/self/exe"), fmt.Sprintf("%s=%d 0:-64", undoEnv, id))
	b.enterNamespace()
	defer b.leaveNamespace()
	if _, err := b.asked(pid); !errors.Is(err, failure.ErrUnsupported) || !strings.Contains(err.Error(), "cannot be told exactly") {
		t.Errorf("error %v", err)
	}
}

func TestHostileUndoValues(t *testing.T) {
	for _, e := range []*image.SemUndo{{Adj: 0}, {Adj: 40000}, {Adj: 1, Num: 1 << 20}, {Adj: 1, Semid: 1 << 31}} {
		err := addUndo(tracee.NewScript(0x1000), e)
		if !errors.Is(err, failure.ErrDamaged) {
			t.Errorf("%v: %v", e, err)
		}
	}
}
