package anoninode

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/procfs"
)

func file(t *testing.T, fd int, err error) *os.File {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "test")
	t.Cleanup(func() { f.Close() })
	return f
}

func pidfd(t *testing.T, pid, flags int) *os.File {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, flags)
	return file(t, fd, err)
}

func TestPidfd(t *testing.T) {
	all := []int{0, unix.PIDFD_NONBLOCK}
	if kindtest.Since(t, "6.9") {
		all = append(all, unix.PIDFD_THREAD)
	}
	for _, flags := range all {
		f := pidfd(t, os.Getpid(), flags)
		got := kindtest.File(t, Kind, f)[0]
		if info(t, f) != info(t, got) {
			t.Errorf("before\n%safter\n%s", info(t, f), info(t, got))
		}
		if err := unix.PidfdSendSignal(int(got.Fd()), 0, nil, 0); err != nil {
			t.Errorf("signal through it: %v", err)
		}
	}
}

func info(t *testing.T, f *os.File) string {
	t.Helper()
	self, err := procfs.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	i, err := self.FDInfo(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	d := &kind.Desc{Info: i}
	pid, _ := d.InfoLine("Pid")
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		t.Fatal(err)
	}
	return pid + " " + strings.Repeat("N", flags&unix.O_NONBLOCK/unix.O_NONBLOCK) + strings.Repeat("T", flags&thread/thread) + "\n"
}

func TestRefused(t *testing.T) {
	fs, errFs := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	for _, tt := range []struct {
		f    *os.File
		want string
	}{
		{pidfd(t, os.Getppid(), 0), "outside the container"},
		{file(t, fs, errFs), "a mount being configured"},
	} {
		err := kindtest.Refused(t, Kind, tt.f)
		if !errors.Is(err, failure.ErrUnsupported) || !strings.Contains(err.Error(), tt.want) || len(failure.Hints(err)) == 0 {
			t.Errorf("got %v, hints %q; want %q", err, failure.Hints(err), tt.want)
		}
	}
}

func TestTable(t *testing.T) {
	for link, want := range map[string]string{
		"anon_inode:[io_uring]":    "an io_uring instance: requests in flight cannot be read from the kernel",
		"anon_inode:bpf-map":       "a BPF map: its contents belong to programs in the kernel",
		"anon_inode:bpf-prog":      "a BPF program or link: it is attached to the kernel",
		"anon_inode:kvm-vcpu:0":    "a virtual machine (KVM)",
		"anon_inode:[userfaultfd]": "a userfaultfd: the pages it waits for are in the hands of another",
		"anon_inode:[something]":   `a descriptor of sort "something", which ckpt does not know`,
	} {
		d := &kind.Desc{Link: link, Info: &procfs.FDInfo{}}
		if !owns(d) {
			t.Errorf("%s is not owned", link)
		}
		if err := refuse(nil, d); err == nil || err.Error() != want {
			t.Errorf("%s: %v", link, err)
		}
	}
	for _, link := range []string{"/etc/passwd", "pipe:[12]", "/net:[1]"} {
		if owns(&kind.Desc{Link: link}) {
			t.Errorf("%s is owned", link)
		}
	}
}
