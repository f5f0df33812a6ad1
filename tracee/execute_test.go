package tracee

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ckpt/procfs"
)

// A stub that has executed the program is a stub as before, and has the same
// mappings as another that has.
func TestExecute(t *testing.T) {
	program, err := Program()
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	s, site := startStub(t, program)
	var was []procfs.Map
	for range 3 {
		c := fork(t, s, site, 0)
		before := executed(t, c)
		if err := c.Execute(site, descriptor3); err != nil {
			t.Fatal(err)
		}
		if after := executed(t, c); before || !after {
			t.Errorf("it had executed a program: %v, %v", before, after)
		}
		own, err := s.Syscall(site, unix.SYS_PERSONALITY, uint64(^uint32(0)))
		if err != nil {
			t.Fatal(err)
		}
		if p, err := c.Syscall(site, unix.SYS_PERSONALITY, uint64(^uint32(0))); p != own || err != nil {
			t.Errorf("personality %#x, %v, want %#x", p, err, own)
		}
		if _, err := ForkStub(c, site, ForkOptions{ExitSignal: unix.SIGCHLD}); err != nil {
			t.Error(err)
		}
		now, err := mapsOf(c.PID)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(was, now); was != nil && d != "" {
			t.Error(d)
		}
		was = now
	}
}

// descriptor3 takes the program from where startStub puts it.
func descriptor3(s *Script) Step { return s.Must(unix.SYS_FCNTL, 3, unix.F_DUPFD_CLOEXEC, 0) }

func executed(t *testing.T, of *Thread) bool {
	p, err := procfs.Open(of.PID)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	st, err := p.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return st.Flags&procfs.PFForkNoExec == 0
}

func BenchmarkExecute(b *testing.B) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	program, err := Program()
	if err != nil {
		b.Fatal(err)
	}
	defer program.Close()
	s, site, err := StartStub(StubOptions{})
	if err != nil {
		b.Fatal(err)
	}
	take := func(sc *Script) Step {
		return sc.Must(unix.SYS_OPENAT, AtCwd, sc.Str(fmt.Sprintf("/proc/%d/fd/%d", unix.Getpid(), program.Fd())), unix.O_RDONLY|unix.O_CLOEXEC)
	}
	for b.Loop() {
		if err := s.Execute(site, take); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Kill(); err != nil {
		b.Fatal(err)
	}
}
