package sysv

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

const undoEnv = "CKPT_TEST_UNDO"

// TestMain: the test binary, run again with this variable set, does the
// operations it names on a semaphore set and waits.
func TestMain(m *testing.M) {
	if v := os.Getenv(undoEnv); v != "" {
		undoer(v)
	}
	os.Exit(m.Run())
}

// undoer takes "id num:op num:op ...".
func undoer(spec string) {
	w := strings.Fields(spec)
	var id int
	_, _ = fmt.Sscan(w[0], &id)
	for _, o := range w[1:] {
		op := kernel.SemOp{Flags: kernel.SemUndo}
		_, _ = fmt.Sscanf(o, "%d:%d", &op.Num, &op.Op)
		if err := kernel.Semop(id, op); err != nil {
			panic(err)
		}
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// start runs cmd until it says a line, and ends it with the test, or before.
func start(t *testing.T, cmd *exec.Cmd, env ...string) (pid int, end func()) {
	t.Helper()
	cmd.Env = append(os.Environ(), env...)
	in, err := cmd.StdinPipe()
	check(t, err)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	end = func() {
		in.Close()
		_ = cmd.Wait()
	}
	t.Cleanup(end)
	if !bufio.NewScanner(out).Scan() {
		t.Fatal("the helper process does not start")
	}
	return cmd.Process.Pid, end
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

func hostPID(pid int) pidns.HostPID { return pidns.HostPID(pid) }

// inside runs the calling test again in namespaces of its own and tells
// whether this is that run.
func inside(t *testing.T, flags uintptr) bool {
	t.Helper()
	const env = "CKPT_TEST_INSIDE"
	if os.Getenv(env) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), env+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: unix.SIGKILL}
	if flags&unix.CLONE_NEWUSER != 0 {
		all := []syscall.SysProcIDMap{{Size: 65536}}
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = all, all
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in namespaces of its own: %v\n%s", err, out)
	}
	return false
}

// box is a pretended container: its init is a process in the namespace that
// the test started in. The test's thread can leave that namespace, as ckpt is
// outside of it.
type box struct {
	t    *testing.T
	home *os.File // the namespace of init
	init int
}

func newBox(t *testing.T) *box {
	home, err := os.Open("/proc/thread-self/ns/ipc")
	check(t, err)
	t.Cleanup(func() { home.Close() })
	pid, _ := start(t, exec.Command("sh", "-c", "echo; exec cat"))
	return &box{t, home, pid}
}

func (b *box) enterNamespace() { b.t.Helper(); check(b.t, unix.Unshare(unix.CLONE_NEWIPC)) }
func (b *box) leaveNamespace() {
	b.t.Helper()
	check(b.t, unix.Setns(int(b.home.Fd()), unix.CLONE_NEWIPC))
}

// dump runs a namespace's dump with calls in init.
func (b *box) dump(dir string, fn func(*kind.Dump) error) error {
	b.t.Helper()
	out, err := image.Create(dir, image.Options{})
	check(b.t, err)
	defer out.Abort()
	in := inject(b.t, b.init)
	defer in.remove()
	nobody := func(pidns.HostPID) (pidns.VPID, bool) { return 0, false }
	if err := fn(&kind.Dump{Log: slog.New(slog.DiscardHandler), Out: out, Home: hostPID(b.init), Hand: hostPID(b.init), VPID: nobody, Inside: in.run}); err != nil {
		return err
	}
	return out.Commit(&image.Manifest{Name: "test"})
}

func (b *box) restore(in *image.Reader) *kind.Restore {
	b.t.Helper()
	proc, err := os.Open("/proc")
	check(b.t, err)
	b.t.Cleanup(func() { proc.Close() })
	return &kind.Restore{Log: slog.New(slog.DiscardHandler), In: in, Manifest: in.Manifest(), HostProc: proc}
}

// attachments is nattch of every segment, by id.
func attachments(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("/proc/sysvipc/shm")
	check(t, err)
	out := map[string]string{}
	for _, l := range strings.Split(strings.TrimSpace(string(b)), "\n")[1:] {
		w := strings.Fields(l)
		out[w[1]] = w[6]
	}
	return out
}

// idOf finds the id of an object by its mode.
func idOf(t *testing.T, rows []string, file, mode string) int {
	t.Helper()
	for _, row := range rows {
		if w := strings.Fields(row); w[0] == file && w[3] == mode {
			var id int
			_, err := fmt.Sscan(w[2], &id)
			check(t, err)
			return id
		}
	}
	t.Fatalf("no %s of mode %s in %q", file, mode, rows)
	return 0
}

// injected is a process in which calls can be run.
type injected struct {
	*tracee.Injection
	t      *testing.T
	thread *tracee.Thread
}

func inject(t *testing.T, pid int) *injected {
	t.Helper()
	runtime.LockOSThread()
	th, err := tracee.Seize(pid, tracee.Options{})
	check(t, err)
	check(t, th.Interrupt())
	_, err = th.WaitStopped()
	check(t, err)
	p, err := procfs.Open(pid)
	check(t, err)
	defer p.Close()
	maps, err := p.MapsOnly()
	check(t, err)
	in, err := tracee.Inject(th, maps, 1<<20)
	check(t, err)
	return &injected{in, t, th}
}

func (in *injected) run(build, read func(*tracee.Script) error) error {
	s := tracee.NewScript(in.Site().Base)
	if err := build(s); err != nil {
		return err
	}
	if err := in.Run(in.thread, s); err != nil {
		return err
	}
	return read(s)
}

func (in *injected) remove() {
	in.t.Helper()
	check(in.t, in.Remove())
	check(in.t, in.thread.Detach(0))
	runtime.UnlockOSThread()
}
