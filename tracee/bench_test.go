package tracee

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// inject goes into a process of two threads.
func inject(b *testing.B) (in *Injection, other *Thread, again func()) {
	runtime.LockOSThread()
	p, site, err := StartStub(StubOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := p.Kill(); err != nil {
			b.Error(err)
		}
		runtime.UnlockOSThread()
	})
	other, err = ForkStub(p, site, ForkOptions{Flags: unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD})
	if err != nil {
		b.Fatal(err)
	}
	maps, err := mapsOf(p.PID)
	if err != nil {
		b.Fatal(err)
	}
	again = func() {
		if in != nil {
			if err := in.Remove(); err != nil {
				b.Fatal(err)
			}
		}
		if in, err = Inject(p, maps, 1<<16); err != nil {
			b.Fatal(err)
		}
	}
	again()
	return in, other, again
}

// BenchmarkInject: into a process and out of it.
func BenchmarkInject(b *testing.B) {
	_, _, again := inject(b)
	for b.Loop() {
		again()
	}
}

// BenchmarkOtherThread: a batch of one call in a thread that goes inside for it.
func BenchmarkOtherThread(b *testing.B) {
	in, other, _ := inject(b)
	for b.Loop() {
		s := NewScript(in.Site().Base)
		s.Must(unix.SYS_GETTID)
		if err := in.Run(other, s); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBatch: 400 calls in the thread that is inside.
func BenchmarkBatch(b *testing.B) {
	in, _, _ := inject(b)
	for b.Loop() {
		s := NewScript(in.Site().Base)
		for range 400 {
			s.Must(unix.SYS_GETTID)
		}
		if err := in.Run(in.lead, s); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSyscall: one call.
func BenchmarkSyscall(b *testing.B) {
	in, _, _ := inject(b)
	for b.Loop() {
		if _, err := in.Syscall(in.lead, unix.SYS_GETPID); err != nil {
			b.Fatal(err)
		}
	}
}
