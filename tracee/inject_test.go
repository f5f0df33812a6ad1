package tracee

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/procfs"
)

// roundTrip stops all threads of pid, runs calls in each of them, and lets
// them go. The leader's injection lasts all the time, as in a dump.
func roundTrip(pid int, tids []int) error {
	ts, err := stopAtHome(pid, tids)
	if err != nil {
		return err
	}
	maps, err := mapsOf(pid)
	if err != nil {
		return err
	}
	in, err := Inject(ts[0], maps, 1<<16)
	if err != nil {
		return err
	}
	for _, t := range append(ts, ts[0]) {
		if err := askIDs(in, t); err != nil {
			return err
		}
	}
	if err := in.Remove(); err != nil {
		return err
	}
	return detachAll(ts)
}

// stopAtHome lets the threads run on as long as one is GoingHome, as a dump
// does.
func stopAtHome(pid int, tids []int) ([]*Thread, error) {
	for {
		ts, err := stopAll(pid, tids)
		if err != nil {
			return nil, err
		}
		going, err := goingHome(pid, ts)
		if err != nil || !going {
			return ts, err
		}
		if err := detachAll(ts); err != nil {
			return nil, err
		}
		runtime.Gosched()
	}
}

func goingHome(pid int, ts []*Thread) (bool, error) {
	p, err := procfs.Open(pid)
	if err != nil {
		return false, err
	}
	defer p.Close()
	var regs []Regs
	for _, t := range ts {
		r, err := t.Regs()
		if err != nil {
			return false, err
		}
		regs = append(regs, r)
	}
	return GoingHome(p, pid, regs)
}

func detachAll(ts []*Thread) error {
	for _, t := range ts {
		if err := t.Detach(0); err != nil {
			return err
		}
	}
	return nil
}

func askIDs(in *Injection, t *Thread) error {
	s := NewScript(in.Site().Base)
	mask := s.Space(8)
	tid, pid := s.Must(unix.SYS_GETTID), s.Must(unix.SYS_GETPID)
	for range 100 {
		s.Must(unix.SYS_RT_SIGPROCMASK, 0, 0, mask, 8)
	}
	if err := in.Run(t, s); err != nil {
		return err
	}
	gotTID, _ := s.Result(tid)
	gotPID, _ := s.Result(pid)
	if int(gotTID) != t.VTID || int(gotPID) != t.VPID {
		return fmt.Errorf("thread %d of %d says it is %d of %d", t.VTID, t.VPID, gotTID, gotPID)
	}
	if m := binary.LittleEndian.Uint64(s.Bytes(mask, 8)); m|1<<8|1<<18 != ^bit(t.done) {
		return fmt.Errorf("signal mask of injected code is %x", m)
	}
	return nil
}

var programs = []struct {
	name  string
	modes []string
}{
	{"spin", []string{"spin"}},
	{"nanosleep", []string{"nanosleep"}},
	{"nanosleep with rest", []string{"nanosleep-rest"}},
	{"read", []string{"read"}},
	{"poll", []string{"poll"}},
	{"ppoll", []string{"ppoll"}},
	{"select", []string{"select"}},
	{"epoll", []string{"epoll"}},
	{"sigwait", []string{"sigwait"}},
	{"futex", []string{"futex", "wake"}},
	{"threads", []string{"spin", "nanosleep", "nanosleep-rest", "poll", "spin"}},
}

func TestInjectLeavesNoTrace(t *testing.T) {
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			lockThread(t)
			g := startTarget(t, p.modes...)
			before := g.steady(p.modes)
			for range 20 {
				if err := roundTrip(g.pid, tasks(t, g.pid)); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(before, g.lookSoon(before)); d != "" {
				t.Errorf("before and after differ:\n%s", d)
			}
			g.goesOn(p.modes...)
		})
	}
}

func TestInjectKeepsRegisters(t *testing.T) {
	lockThread(t)
	g := startTarget(t, "spin")
	for range 10 {
		ts, err := stopAll(g.pid, []int{g.pid})
		if err != nil {
			t.Fatal(err)
		}
		before, err := ts[0].Regs()
		if err != nil {
			t.Fatal(err)
		}
		x, err := ts[0].XState()
		if err != nil {
			t.Fatal(err)
		}
		maps, err := mapsOf(g.pid)
		if err != nil {
			t.Fatal(err)
		}
		in, err := Inject(ts[0], maps, 4096)
		if err != nil {
			t.Fatal(err)
		}
		if err := askIDs(in, ts[0]); err == nil {
			t.Error("a script larger than the area ran")
		}
		if err := in.Remove(); err != nil {
			t.Fatal(err)
		}
		after, err := ts[0].Regs()
		if err != nil {
			t.Fatal(err)
		}
		y, err := ts[0].XState()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(before, after); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff(x, y); d != "" {
			t.Error(d)
		}
		if err := ts[0].Detach(0); err != nil {
			t.Fatal(err)
		}
	}
	g.goesOn("spin")
}

func TestScriptErrors(t *testing.T) {
	lockThread(t)
	g := startTarget(t, "spin")
	ts, err := stopAll(g.pid, []int{g.pid})
	if err != nil {
		t.Fatal(err)
	}
	maps, err := mapsOf(g.pid)
	if err != nil {
		t.Fatal(err)
	}
	in, err := Inject(ts[0], maps, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	s := NewScript(in.Site().Base)
	pipe := s.Space(8)
	mk := s.Must(unix.SYS_PIPE2, pipe, 0)
	bad := s.Try(unix.SYS_CLOSE, 12345)
	dup := s.Must(unix.SYS_DUP, 1)
	cl := s.Must(unix.SYS_CLOSE, 0)
	s.Feed(dup, cl, 0)
	fail := s.Must(unix.SYS_CLOSE, 54321)
	s.Note(fail, "close what is not open")
	never := s.Must(unix.SYS_GETPID)
	err = in.Run(ts[0], s)
	var se *StepError
	if !errors.As(err, &se) || se.Step != int(fail) || !errors.Is(err, unix.EBADF) {
		t.Fatalf("error is %v", err)
	}
	if want := "close what is not open: bad file descriptor (close 0xd431, call 5 of 6)"; err.Error() != want {
		t.Errorf("error is %q, want %q", err, want)
	}
	if _, err := s.Result(mk); err != nil {
		t.Error(err)
	}
	if fds := s.Bytes(pipe, 8); binary.LittleEndian.Uint32(fds) < 3 {
		t.Errorf("pipe2 gave %v", fds)
	}
	if _, err := s.Result(bad); err != unix.EBADF {
		t.Errorf("close of a bad descriptor: %v", err)
	}
	if v, err := s.Result(cl); err != nil || v != 0 {
		t.Errorf("close of the fed descriptor: %v %v", v, err)
	}
	if _, err := s.Result(never); err != unix.ECANCELED {
		t.Errorf("a step behind the failed one: %v", err)
	}
	v, err := in.Syscall(ts[0], unix.SYS_GETPPID)
	if err != nil || int(v) != unix.Getpid() {
		t.Errorf("getppid: %d, %v", v, err)
	}
	if err := in.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := ts[0].Detach(0); err != nil {
		t.Fatal(err)
	}
	g.goesOn("spin")
}
