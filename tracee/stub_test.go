package tracee

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// startStub starts a stub as the first process of a new pid namespace.
func startStub(t *testing.T, files ...*os.File) (*Thread, Site) {
	t.Helper()
	lockThread(t)
	s, site, err := StartStub(StubOptions{
		Attr:  &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Setsid: true},
		Files: files,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Kill(s.PID, unix.SIGKILL)
		for { // its children too, which are attached
			if _, err := unix.Wait4(-1, nil, unix.WALL, nil); err == unix.ECHILD {
				return
			}
		}
	})
	return s, site
}

func fork(t *testing.T, parent *Thread, site Site, vpid int) *Thread {
	t.Helper()
	c, err := ForkStub(parent, site, ForkOptions{VPID: vpid, ExitSignal: unix.SIGCHLD})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Its descriptors are those it is given, also where ckpt's own of the program
// has the number of one of them; that of the program is closed.
func TestStubFiles(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	s, _ := startStub(t, slices.Repeat([]*os.File{null}, 100)...)
	for fd, want := range map[int]string{3: os.DevNull, 102: os.DevNull, 103: ""} {
		if got, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", s.PID, fd)); got != want {
			t.Errorf("descriptor %d is %q, want %q", fd, got, want)
		}
	}
}

func TestStubTree(t *testing.T) {
	init, site := startStub(t)
	if init.VPID != 1 {
		t.Fatalf("first process has pid %d", init.VPID)
	}
	a := fork(t, init, site, 50)
	b := fork(t, a, site, 7)
	c := fork(t, a, site, 1000)
	for _, x := range []struct {
		t            *Thread
		vpid, parent int
	}{{a, 50, 1}, {b, 7, 50}, {c, 1000, 50}} {
		pid, err := x.t.Syscall(site, unix.SYS_GETPID)
		if err != nil || int(pid) != x.vpid || x.t.VPID != x.vpid || x.t.VTID != x.vpid {
			t.Errorf("getpid of %d: %d, %v", x.vpid, pid, err)
		}
		ppid, err := x.t.Syscall(site, unix.SYS_GETPPID)
		if err != nil || int(ppid) != x.parent {
			t.Errorf("getppid of %d: %d, %v", x.vpid, ppid, err)
		}
	}
	if _, err := ForkStub(init, site, ForkOptions{VPID: 7}); !errors.Is(err, unix.EEXIST) {
		t.Errorf("fork with a taken id: %v", err)
	}
	th, err := ForkStub(b, site, ForkOptions{VPID: 77, Flags: unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM})
	if err != nil {
		t.Fatal(err)
	}
	if th.PID != b.PID || th.VPID != 7 || th.VTID != 77 {
		t.Errorf("thread is %+v", th)
	}
	s := NewScript(site.Base)
	tid, pid := s.Must(unix.SYS_GETTID), s.Must(unix.SYS_GETPID)
	if err := th.Run(site, s); err != nil {
		t.Fatal(err)
	}
	for step, want := range map[Step]uint64{tid: 77, pid: 7} {
		if v, err := s.Result(step); v != want || err != nil {
			t.Errorf("result %d, %v; want %d", v, err, want)
		}
	}
	d, err := ForkStub(c, site, ForkOptions{VPID: 1001, Flags: unix.CLONE_PARENT | unix.CLONE_FILES | unix.CLONE_VM})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := d.Syscall(site, unix.SYS_GETPPID); v != 50 || err != nil {
		t.Errorf("parent of a child made with CLONE_PARENT: %d, %v", v, err)
	}
}

// TestBornInScript: threads made by the calls of a script.
func TestBornInScript(t *testing.T) {
	_, site := startStub(t)
	p, _, err := StartStub(StubOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	s := NewScript(site.Base)
	args := make([]byte, 64)
	binary.LittleEndian.PutUint64(args, unix.CLONE_VM|unix.CLONE_FS|unix.CLONE_FILES|unix.CLONE_SIGHAND|unix.CLONE_THREAD|unix.CLONE_SYSVSEM|unix.CLONE_PTRACE)
	var want []Step
	for range 5 {
		want = append(want, s.Must(unix.SYS_CLONE3, s.Data(args), 64))
	}
	if err := p.Run(site, s); err != nil {
		t.Fatal(err)
	}
	born := p.Born()
	if len(born) != len(want) {
		t.Fatalf("born: %v", born)
	}
	for i := range want {
		th, err := Adopt(p, born[i])
		if err != nil {
			t.Fatal(err)
		}
		if v, _ := s.Result(want[i]); int(v) != th.VTID {
			t.Errorf("thread %d is %+v", v, th)
		}
		if v, err := th.Syscall(site, unix.SYS_GETTID); int(v) != th.VTID || err != nil {
			t.Errorf("gettid: %d, %v", v, err)
		}
	}
}

func TestExitStub(t *testing.T) {
	init, site := startStub(t)
	// What could dump core must not.
	var lim unix.Rlimit
	if err := unix.Prlimit(init.PID, unix.RLIMIT_CORE, nil, &lim); err != nil {
		t.Fatal(err)
	}
	lim.Cur = lim.Max
	if err := unix.Prlimit(init.PID, unix.RLIMIT_CORE, &lim, nil); err != nil {
		t.Fatal(err)
	}
	for i, want := range []unix.WaitStatus{0, 7 << 8, 255 << 8, 9, 15, 11, 6, 17 + 20, 64, 11 | coreDumped} {
		c := fork(t, init, site, 100+i)
		if err := ExitStub(c, site, want); err != nil {
			t.Fatal(err)
		}
		st, err := statusOf(c.PID)
		if err != nil {
			t.Fatal(err)
		}
		if !st.Zombie() {
			t.Errorf("state is %c", st.State)
		}
		s := NewScript(site.Base)
		status := s.Space(8)
		w := s.Must(unix.SYS_WAIT4, uint64(c.VPID), status, 0, 0)
		if err := init.Run(site, s); err != nil {
			t.Fatal(err)
		}
		if v, _ := s.Result(w); int(v) != c.VPID {
			t.Errorf("wait4 gave %d", v)
		}
		if got := unix.WaitStatus(binary.LittleEndian.Uint32(s.Bytes(status, 4))); got != want&^coreDumped {
			t.Errorf("status %#x, want %#x", got, want&^coreDumped)
		}
	}
}

// TestInit: ckpt's init reports what it reaps, an orphan too, and passes on
// the main process's end.
func TestInit(t *testing.T) {
	for _, end := range []struct {
		status unix.WaitStatus
		code   int
	}{{3 << 8, 3}, {0, 0}, {15, 128 + 15}} {
		t.Run(fmt.Sprintf("%#x", uint32(end.status)), func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			init, site := startStub(t, w)
			w.Close()
			main := fork(t, init, site, 10)
			mid := fork(t, init, site, 20)
			orphan := fork(t, mid, site, 30)
			if err := init.BecomeInit(site, 10, 3); err != nil {
				t.Fatal(err)
			}
			if err := init.Detach(0); err != nil {
				t.Fatal(err)
			}
			expect := func(pid, status uint32) {
				t.Helper()
				var b [8]byte
				if n, err := r.Read(b[:]); n != 8 || err != nil {
					t.Fatalf("read %d bytes, %v", n, err)
				}
				if p, s := binary.LittleEndian.Uint32(b[:]), binary.LittleEndian.Uint32(b[4:]); p != pid || s != status {
					t.Errorf("init reports %d %#x, want %d %#x", p, s, pid, status)
				}
			}
			if err := ExitStub(mid, site, 1<<8); err != nil {
				t.Fatal(err)
			}
			expect(20, 1<<8)
			if err := ExitStub(orphan, site, 5<<8); err != nil {
				t.Fatal(err)
			}
			expect(30, 5<<8)
			comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", init.PID))
			if err != nil || strings.TrimSpace(string(comm)) != "ckpt-init" {
				t.Errorf("init's name is %q, %v", comm, err)
			}
			if err := ExitStub(main, site, end.status); err != nil {
				t.Fatal(err)
			}
			expect(10, uint32(end.status))
			ws, err := wait4(init.PID)
			if err != nil || !ws.Exited() || ws.ExitStatus() != end.code {
				t.Errorf("init ended with %#x, %v; want exit code %d", uint32(ws), err, end.code)
			}
		})
	}
}

// TestInitWithoutChildren: it must see those it inherits later.
func TestInitWithoutChildren(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	init, site := startStub(t, w)
	w.Close()
	mid := fork(t, init, site, 20)
	orphan := fork(t, mid, site, 30)
	if err := init.BecomeInit(site, 30, 3); err != nil {
		t.Fatal(err)
	}
	if err := init.Detach(0); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Thread{mid, orphan} {
		if err := ExitStub(c, site, 0); err != nil {
			t.Fatal(err)
		}
	}
	var b [16]byte
	for n := 0; n < len(b); {
		m, err := r.Read(b[n:])
		if err != nil {
			t.Fatal(err)
		}
		n += m
	}
	if ws, err := wait4(init.PID); err != nil || !ws.Exited() {
		t.Errorf("init: %#x, %v", uint32(ws), err)
	}
}

// TestPendingDoneSignal: signals queued by a script itself stay queued, the
// one that would tell the end of scripts among them.
func TestPendingDoneSignal(t *testing.T) {
	p, site := startStub(t)
	c := fork(t, p, site, 5)
	if err := c.BlockSignals(bit(unix.SIGURG)); err != nil {
		t.Fatal(err)
	}
	s := NewScript(site.Base)
	s.Must(unix.SYS_TGKILL, 5, 5, uint64(unix.SIGURG))
	s.Must(unix.SYS_KILL, 5, uint64(unix.SIGTERM))
	if err := c.Run(site, s); err != nil {
		t.Fatal(err)
	}
	own, err := c.Pending(false)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := c.Pending(true)
	if err != nil {
		t.Fatal(err)
	}
	if len(own) != 1 || own[0][0] != byte(unix.SIGURG) || len(shared) != 1 || shared[0][0] != byte(unix.SIGTERM) {
		t.Errorf("pending are %v and %v", own, shared)
	}
}

// TestStopOfFirstProcess: one of a pid namespace is stopped from outside only,
// also while it is traced.
func TestStopOfFirstProcess(t *testing.T) {
	p, site := startStub(t)
	c := fork(t, p, site, 5)
	for _, x := range []struct {
		who     string
		kill    func() error
		stopped unix.Signal
	}{
		{"one inside", func() error { _, err := c.Syscall(site, unix.SYS_KILL, 1, uint64(unix.SIGSTOP)); return err }, 0},
		{"one outside", func() error { return unix.Kill(p.PID, unix.SIGSTOP) }, unix.SIGSTOP},
	} {
		if err := x.kill(); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Syscall(site, unix.SYS_GETPID); err != nil {
			t.Fatal(err)
		}
		if by := p.StoppedBy(); by != x.stopped {
			t.Errorf("%s sends it SIGSTOP: stopped by %v", x.who, by)
		}
	}
}

// TestPendingWhileSignalled: signals for ckpt itself, which break off the
// reading of a queue, keep none of it from being read.
func TestPendingWhileSignalled(t *testing.T) {
	const queued = 100
	p, site := startStub(t)
	c := fork(t, p, site, 5)
	if err := c.BlockSignals(0); err != nil {
		t.Fatal(err)
	}
	s := NewScript(site.Base)
	for range queued {
		s.Must(unix.SYS_TGKILL, 5, 5, 34)
	}
	if err := c.Run(site, s); err != nil {
		t.Fatal(err)
	}
	var enough atomic.Bool
	sender := make(chan error)
	pid, tid := os.Getpid(), unix.Gettid()
	go func() {
		for !enough.Load() {
			if err := unix.Tgkill(pid, tid, unix.SIGURG); err != nil {
				sender <- err
				return
			}
		}
		sender <- nil
	}()
	for brokenOff := 0; brokenOff < 20 && !t.Failed(); {
		some, err := peekSignals(c.TID, 0, false, make([]siginfo, queued))
		if err != nil {
			t.Error(err)
		}
		if some < queued {
			brokenOff++
		}
		if all, err := c.Pending(false); err != nil || len(all) != queued {
			t.Errorf("read %d of %d, %v", len(all), queued, err)
		}
	}
	enough.Store(true)
	if err := <-sender; err != nil {
		t.Error(err)
	}
}

// TestSyscallAtAndPark: the code itself is unmapped, and the thread goes on elsewhere.
func TestSyscallAtAndPark(t *testing.T) {
	p, site := startStub(t)
	c := fork(t, p, site, 5)
	r, err := c.Regs()
	if err != nil {
		t.Fatal(err)
	}
	const text = 0x200000
	if _, err := c.SyscallAt(site.Call, unix.SYS_MUNMAP, text, pageSize); err != nil {
		t.Fatal(err)
	}
	setPC(&r, text) // nothing is there any more: not one instruction may run
	if err := c.Park(r); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Regs(); err != nil || pc(got) != text {
		t.Errorf("parked at %#x, %v", pc(got), err)
	}
}

// TestWhyNot: a child that was killed is told from one that cannot be traced.
func TestWhyNot(t *testing.T) {
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Wait() }()
	pid := c.Process.Pid
	if err := whyNot(pid, unix.EPERM); err != unix.EPERM {
		t.Errorf("it lives: %v", err)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var si unix.Siginfo
	if err := unix.Waitid(unix.P_PID, pid, &si, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if err := whyNot(pid, unix.EPERM); !errors.Is(err, ErrGone) || !errors.Is(err, unix.EPERM) {
		t.Errorf("it was killed: %v", err)
	}
}
