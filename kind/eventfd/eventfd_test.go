package eventfd

import (
	"math"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/procfs"
)

func make1(t *testing.T, flags int, n uint64) *os.File {
	t.Helper()
	fd, err := unix.Eventfd(0, flags|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "eventfd")
	t.Cleanup(func() { f.Close() })
	if n > 0 {
		if err := add(fd, n); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestRoundTrip(t *testing.T) {
	tests := []struct {
		name  string
		flags int
		n     uint64
		first uint64 // what the first read gives; 0: it would block
	}{
		{"empty", unix.EFD_NONBLOCK, 0, 0},
		{"counter", unix.EFD_NONBLOCK, 7, 7},
		{"more than 32 bits", 0, math.MaxUint64 - 1, math.MaxUint64 - 1},
		{"semaphore", unix.EFD_NONBLOCK | unix.EFD_SEMAPHORE, 2, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := kindtest.File(t, Kind, make1(t, tt.flags, tt.n))[0]
			flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
			if err != nil || flags&unix.O_NONBLOCK != tt.flags&unix.EFD_NONBLOCK {
				t.Errorf("flags %#o, %v", flags, err)
			}
			if tt.first == 0 {
				if _, err := take(int(f.Fd())); err != unix.EAGAIN {
					t.Errorf("read: %v, want EAGAIN", err)
				}
				return
			}
			if n, err := take(int(f.Fd())); err != nil || n != tt.first {
				t.Errorf("read %d, %v, want %d", n, err, tt.first)
			}
		})
	}
}

func TestOwner(t *testing.T) {
	f := make1(t, 0, 1)
	if err := kernel.SetFileOwner(f.Fd(), kernel.Owner{Type: 1, PID: int32(os.Getpid()), Signal: int(unix.SIGURG)}); err != nil {
		t.Fatal(err)
	}
	got, err := kernel.FileOwner(kindtest.File(t, Kind, f)[0].Fd())
	if err != nil || got.PID != int32(os.Getpid()) || got.Type != 1 || got.Signal != int(unix.SIGURG) {
		t.Errorf("owner %+v, %v", got, err)
	}
}

// An older kernel's fdinfo has no eventfd-semaphore line.
func TestProbe(t *testing.T) {
	for _, n := range []uint64{0, 1, 2, 3, math.MaxUint64 - 1} {
		for _, flags := range []int{0, unix.EFD_SEMAPHORE, unix.EFD_NONBLOCK} {
			f := make1(t, flags, n)
			sem, err := probe(int(f.Fd()), n)
			if err != nil || sem != (flags == unix.EFD_SEMAPHORE) {
				t.Errorf("counter %d, flags %#x: semaphore %v, %v", n, flags, sem, err)
			}
			self, err := procfs.Open(os.Getpid())
			if err != nil {
				t.Fatal(err)
			}
			info, err := self.FDInfo(int(f.Fd()))
			self.Close()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := count(&kind.Desc{Info: info}); err != nil || got != n {
				t.Errorf("counter %d, flags %#x: left at %d, %v", n, flags, got, err)
			}
		}
	}
}

func TestOverflowed(t *testing.T) {
	d := &kind.Desc{Info: &procfs.FDInfo{Lines: []string{"eventfd-count: ffffffffffffffff"}}}
	if err := refuse(nil, d); err == nil || err.Error() != "its counter has overflowed" {
		t.Errorf("got %v", err)
	}
}
