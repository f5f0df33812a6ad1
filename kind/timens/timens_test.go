package timens

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/timens"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
)

const (
	makerEnv = "CKPT_TEST_OFFSETS" // what to write, then run a child
	printEnv = "CKPT_TEST_PRINT"   // print the clocks and wait
)

// init: timens_offsets is that of a process's first thread, so TestMain has to
// run on it.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(printEnv) != "":
		var mono, boot unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono)
		_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot)
		fmt.Println(os.Getpid(), mono.Nano(), boot.Nano())
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
	case os.Getenv(makerEnv) != "":
		makeNamespace()
	default:
		os.Exit(m.Run())
	}
}

// makeNamespace does what the maker of a container does.
func makeNamespace() {
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		panic(err)
	}
	if err := os.WriteFile("/proc/self/timens_offsets", []byte(os.Getenv(makerEnv)), 0); err != nil {
		panic(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), printEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// For a user namespace os/exec forks; else it shares memory with the
	// child until that runs its program, which Linux 6.1 refuses (EINVAL)
	// to one who has a new time namespace for its children.
	cmd.SysProcAttr = newUser()
	if err := cmd.Run(); err != nil {
		panic(err)
	}
}

// newUser puts a child into a user namespace of its own, as root there.
func newUser() *syscall.SysProcAttr {
	id := func(host int) []syscall.SysProcIDMap { return []syscall.SysProcIDMap{{HostID: host, Size: 1}} }
	return &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: id(os.Geteuid()), GidMappings: id(os.Getegid())}
}

// run starts a process in a time namespace with these offsets: its pid and its clocks.
func run(t *testing.T, offsets string) (pid int, c Clocks) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), makerEnv+"="+offsets)
	cmd.SysProcAttr = newUser()
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	check(t, err)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		check(t, cmd.Wait())
	})
	_, err = fmt.Fscan(out, &pid, &c.Monotonic, &c.Boottime)
	check(t, err)
	return pid, c
}

// near: so much may pass between two readings on a busy machine.
func near(a, b Clocks) bool {
	const slack = 20 * time.Second
	return (a.Monotonic-b.Monotonic).Abs() < slack && (a.Boottime-b.Boottime).Abs() < slack
}

// Clocks a day ahead, and half an hour back, go on in another namespace.
func TestClocksGoOn(t *testing.T) {
	now, err := Now()
	check(t, err)
	for _, shift := range []Clocks{{24 * time.Hour, 25 * time.Hour}, {-now.Monotonic / 2, -now.Boottime / 3}} {
		pid, there := run(t, shift.Text())
		dir := filepath.Join(t.TempDir(), "img")
		out, err := image.Create(dir, image.Options{})
		check(t, err)
		check(t, Kind().Dump(&kind.Dump{Log: slog.New(slog.DiscardHandler), Out: out, Home: pidns.HostPID(pid)}))
		check(t, out.Commit(&image.Manifest{}))
		in, err := image.Open(dir)
		check(t, err)
		defer in.Close()
		e, err := Read(in, &criu_core.TaskKobjIdsEntry{TimeNsId: proto.Uint32(image.NamespaceID)})
		check(t, err)
		if got := (Clocks{duration(e.GetMonotonic()), duration(e.GetBoottime())}); !near(got, there) {
			t.Errorf("shifted by %v: saved %v, inside the clocks stood at %v", shift, got, there)
		}
		now, err := Now()
		check(t, err)
		if _, after := run(t, Offsets(e, now).Text()); !near(after, there) || after.Monotonic < there.Monotonic {
			t.Errorf("shifted by %v: %v before, %v after", shift, there, after)
		}
		check(t, Kind().Restore(&kind.Restore{In: in}))
	}
}

func TestOffsets(t *testing.T) {
	for _, tt := range []struct {
		saved, now Clocks
		want       string
	}{
		{Clocks{5 * time.Second, 6 * time.Second}, Clocks{5 * time.Second, 6 * time.Second}, "monotonic 0 0\nboottime 0 0\n"},
		{Clocks{10*time.Second + 3, 20 * time.Second}, Clocks{4 * time.Second, 5 * time.Second}, "monotonic 6 3\nboottime 15 0\n"},
		// After a reboot the host's clocks are behind, or else ahead: nanoseconds stay positive.
		{Clocks{time.Second, time.Second}, Clocks{3*time.Second + 1, time.Second + 1}, "monotonic -3 999999999\nboottime -1 999999999\n"},
	} {
		if got := Offsets(Save(tt.saved), tt.now).Text(); got != tt.want {
			t.Errorf("saved %v, now %v: %q, want %q", tt.saved, tt.now, got, tt.want)
		}
	}
}

func TestRead(t *testing.T) {
	big := &timens.TimensEntry{Monotonic: &timens.Timespec{TvSec: proto.Uint64(1 << 62), TvNsec: proto.Uint64(0)}, Boottime: timespec(0)}
	for _, tt := range []struct {
		id    string
		e     *timens.TimensEntry
		found bool
		bad   bool
	}{
		{"1", Save(Clocks{1, 2}), true, false},
		{"0", Save(Clocks{1, 2}), true, false}, // of criu's: the processes were in the first namespace
		{"9", Save(Clocks{1, 2}), false, false},
		{"1", big, false, true},
	} {
		dir := filepath.Join(t.TempDir(), "img")
		out, err := image.Create(dir, image.Options{})
		check(t, err)
		check(t, out.Add(image.TimeNS, tt.id, tt.e))
		check(t, out.Commit(&image.Manifest{}))
		in, err := image.Open(dir)
		check(t, err)
		defer in.Close()
		e, err := Read(in, &criu_core.TaskKobjIdsEntry{TimeNsId: proto.Uint32(1)})
		if (e != nil) != tt.found || errors.Is(err, failure.ErrDamaged) != tt.bad {
			t.Errorf("timens-%s.img: %v, %v", tt.id, e, err)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
