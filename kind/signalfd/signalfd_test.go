package signalfd

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/procfs"
)

func TestRoundTrip(t *testing.T) {
	runtime.LockOSThread() // a directed signal, and the thread that reads it
	defer runtime.UnlockOSThread()
	const want = uint64(1<<(unix.SIGUSR1-1) | 1<<(unix.SIGWINCH-1) | 1<<63)
	block := unix.Sigset_t{Val: [16]uint64{1 << (unix.SIGUSR1 - 1)}}
	var old unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &block, &old); err != nil {
		t.Fatal(err)
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)

	fd, err := unix.Signalfd(-1, &unix.Sigset_t{Val: [16]uint64{want}}, unix.SFD_NONBLOCK|unix.SFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "signalfd")
	defer f.Close()
	got := kindtest.File(t, Kind, f)[0]

	self, err := procfs.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	info, err := self.FDInfo(int(got.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := mask(&kind.Desc{Info: info}); err != nil || m != want {
		t.Errorf("mask %#x, %v, want %#x", m, err, want)
	}
	if info.Flags&unix.O_NONBLOCK == 0 {
		t.Errorf("flags %#o lack O_NONBLOCK", info.Flags)
	}
	if err := unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 128)
	if n, err := unix.Read(int(got.Fd()), b); err != nil || n != 128 || b[0] != byte(unix.SIGUSR1) {
		t.Errorf("read %d bytes, signal %d, %v", n, b[0], err)
	}
}
