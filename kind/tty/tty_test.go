package tty_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/kind/tty"
	"ckpt/procfs"
)

// TestMain runs the tests in a mount namespace with terminals of their own,
// so that numbers are free that were used a moment ago.
func TestMain(m *testing.M) {
	const inside = "CKPT_TEST_OWN_DEVPTS"
	if os.Getenv(inside) != "" {
		if err := ownDevpts(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), inside+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := c.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func ownDevpts() error {
	return errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("devpts", "/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=0620"),
		unix.Mount("/dev/pts/ptmx", "/dev/ptmx", "", unix.MS_BIND, ""))
}

func openMaster(t *testing.T) (*os.File, int) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "master")
	t.Cleanup(func() { f.Close() })
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f, n
}

func openSlave(t *testing.T, n, flags int) *os.File {
	t.Helper()
	path := fmt.Sprintf("/dev/pts/%d", n)
	fd, err := unix.Open(path, flags|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { f.Close() })
	return f
}

func terminals() kind.File {
	f, _ := tty.New()
	return f
}

// again saves files, closes them as the end of a container does, and restores.
func again(t *testing.T, files ...*os.File) []*os.File {
	t.Helper()
	b := kindtest.New(t, terminals)
	s := b.Dump(files...)
	for _, f := range files {
		f.Close()
	}
	return b.Restore(s)
}

func get(t *testing.T, f *os.File, req uint) int {
	t.Helper()
	n, err := unix.IoctlGetInt(int(f.Fd()), req)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func flags(t *testing.T, f *os.File) int {
	t.Helper()
	n, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func link(t *testing.T, f *os.File) string {
	t.Helper()
	s, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func send(t *testing.T, from, to *os.File, s, want string) {
	t.Helper()
	if _, err := unix.Write(int(from.Fd()), []byte(s)); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for len(got) < len(want) { // what a terminal adds to a line may come by itself
		b := make([]byte, 100)
		n, err := unix.Read(int(to.Fd()), b)
		if err != nil || n == 0 {
			t.Errorf("sent %q, got %q, then %v", s, got, err)
			return
		}
		got = append(got, b[:n]...)
	}
	if string(got) != want {
		t.Errorf("sent %q, got %q, want %q", s, got, want)
	}
}

func TestPair(t *testing.T) {
	openMaster(t) // number 0, so that the one tested is not the first
	master, n := openMaster(t)
	slave, second := openSlave(t, n, unix.O_RDWR), openSlave(t, n, unix.O_WRONLY|unix.O_NONBLOCK)
	attr, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS2)
	if err != nil {
		t.Fatal(err)
	}
	attr.Lflag &^= unix.ICANON | unix.ECHO
	attr.Cc[unix.VINTR] = 7
	attr.Cflag = attr.Cflag&^unix.CBAUD | unix.B9600
	attr.Ispeed, attr.Ospeed = 9600, 9600
	size := &unix.Winsize{Row: 50, Col: 132, Xpixel: 7, Ypixel: 9}
	for _, err := range []error{
		unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS2, attr), unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, size),
		unix.Fchown(int(slave.Fd()), 1000, 5), unix.Fchmod(int(slave.Fd()), 0o622),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	wantFlags := []int{flags(t, master), flags(t, slave), flags(t, second)}
	wantLinks := []string{link(t, master), link(t, slave), link(t, second)}
	got := again(t, master, slave, second)
	for i, f := range got {
		if flags(t, f) != wantFlags[i] || link(t, f) != wantLinks[i] {
			t.Errorf("%s %#o, want %s %#o", link(t, f), flags(t, f), wantLinks[i], wantFlags[i])
		}
	}
	if a, err := unix.IoctlGetTermios(int(got[1].Fd()), unix.TCGETS2); err != nil || *a != *attr {
		t.Errorf("attributes %+v (%v), want %+v", a, err, attr)
	}
	if w, err := unix.IoctlGetWinsize(int(got[0].Fd()), unix.TIOCGWINSZ); err != nil || *w != *size {
		t.Errorf("window %+v (%v), want %+v", w, err, size)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(got[1].Fd()), &st); err != nil || st.Uid != 1000 || st.Gid != 5 || st.Mode&0o777 != 0o622 {
		t.Errorf("owner %d:%d mode %#o (%v)", st.Uid, st.Gid, st.Mode, err)
	}
	send(t, got[0], got[1], "in", "in")
	send(t, got[2], got[0], "out\n", "out\r\n")
}

func TestModes(t *testing.T) {
	master, n := openMaster(t)
	slave := openSlave(t, n, unix.O_RDWR)
	fd := int(master.Fd())
	for _, err := range []error{
		unix.IoctlSetInt(int(slave.Fd()), unix.TIOCEXCL, 0), unix.IoctlSetPointerInt(fd, unix.TIOCPKT, 1), unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 1),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got := again(t, master, slave)
	if get(t, got[0], unix.TIOCGPKT) != 1 || get(t, got[0], unix.TIOCGPTLCK) != 1 || get(t, got[1], unix.TIOCGEXCL) != 1 {
		t.Error("packet mode, lock or exclusive mode lost")
	}
	if get(t, got[0], unix.TIOCGEXCL) != 0 {
		t.Error("the master became exclusive")
	}
	send(t, got[1], got[0], "x", "\x00x")
}

func events(t *testing.T, f *os.File) int16 {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}
	if _, err := unix.Poll(p, 0); err != nil {
		t.Fatal(err)
	}
	return p[0].Revents
}

func TestOneEnd(t *testing.T) {
	t.Run("master before the first slave", func(t *testing.T) {
		master, n := openMaster(t)
		got := again(t, master)[0]
		if e := events(t, got); e != 0 {
			t.Errorf("events %#x, want none", e)
		}
		send(t, openSlave(t, n, unix.O_RDWR), got, "x", "x")
	})
	t.Run("master after the last slave", func(t *testing.T) {
		master, n := openMaster(t)
		openSlave(t, n, unix.O_RDWR).Close()
		if e := events(t, again(t, master)[0]); e&unix.POLLHUP == 0 {
			t.Errorf("events %#x, want a hang-up", e)
		}
	})
	t.Run("slave that was hung up", func(t *testing.T) {
		master, n := openMaster(t)
		slave := openSlave(t, n, unix.O_RDWR)
		master.Close()
		got := again(t, slave)[0]
		if e := events(t, got); e&unix.POLLHUP == 0 {
			t.Errorf("events %#x, want a hang-up", e)
		}
	})
}

func TestRefused(t *testing.T) {
	master, n := openMaster(t)
	slave := openSlave(t, n, unix.O_RDWR)
	packet, k := openMaster(t)
	flushed := openSlave(t, k, unix.O_RDWR)
	if err := unix.IoctlSetPointerInt(int(packet.Fd()), unix.TIOCPKT, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(int(flushed.Fd()), unix.TCFLSH, unix.TCIFLUSH); err != nil {
		t.Fatal(err)
	}
	ruled, m := openMaster(t)
	closed := openSlave(t, m, unix.O_RDWR)
	if err := unix.IoctlSetPointerInt(int(closed.Fd()), unix.TIOCSETD, 27); err != nil { // N_NULL
		t.Fatal(err)
	}
	closed.Close()
	tests := []struct {
		name  string
		files []*os.File
		want  string
	}{
		{"line discipline of a slave that is closed", []*os.File{ruled}, fmt.Sprintf("terminal /dev/pts/%d has line discipline 27", m)},
		{"packet mode", []*os.File{packet, flushed}, fmt.Sprintf("a change of state waits to be read in terminal /dev/pts/%d", k)},
		{"master outside", []*os.File{slave}, fmt.Sprintf("the terminal /dev/pts/%d is run by a program outside the container", n)},
		{"data under way", []*os.File{master, slave}, fmt.Sprintf("bytes are under way in terminal /dev/pts/%d", n)},
	}
	if _, err := slave.WriteString("output nobody has read"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		err := kindtest.Refused(t, terminals, tt.files...)
		if !errors.Is(err, failure.ErrUnsupported) || !strings.Contains(err.Error(), tt.want) || len(failure.Hints(err)) == 0 {
			t.Errorf("%s: %v, hints %q", tt.name, err, failure.Hints(err))
		}
	}
}

func TestNumberTaken(t *testing.T) {
	master, n := openMaster(t)
	b := kindtest.New(t, terminals)
	s := b.Dump(master)
	_, _, err := b.TryRestore(s) // the old one is still there
	want := fmt.Sprintf("the terminal /dev/pts/%d, which the program knows by that name, is in use", n)
	if err == nil || err.Error() != want || len(failure.Hints(err)) == 0 {
		t.Errorf("error %v, want %s", err, want)
	}
}

// A process that leads a session has its terminal and foreground group again.
func TestControl(t *testing.T) {
	master, n := openMaster(t)
	slave := openSlave(t, n, unix.O_RDWR)
	var control kind.Process // of the last run, which is that of the restore
	b := kindtest.New(t, func() (f kind.File) {
		f, control = tty.New()
		return f
	})
	old := b.Child(b.Write(func(*image.Writer) error { return nil }), 1, slave)
	old.Target.Main.Must(unix.SYS_IOCTL, 3, unix.TIOCSCTTY, 0)
	if err := old.Run(); err != nil {
		t.Fatal(err)
	}
	fs, err := procfs.Open(int(old.Target.Host))
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	stat, err := fs.Stat()
	if err != nil || stat.TTYNr == 0 {
		t.Fatalf("the old child has no terminal: %+v, %v", stat, err)
	}
	b.OnDump = func(d *kind.Dump) {
		d.Procs = append(d.Procs, &kind.Proc{VPID: 1, SID: 1, PGID: 1, Host: old.Target.Host, Stat: stat})
	}
	s := b.Dump(master, slave)
	old.End()
	master.Close()
	slave.Close()

	c := b.Child(s, 1)
	got, err := c.R.File(s.Entries[0].GetId())
	if err != nil {
		t.Fatal(err)
	}
	c.Target.Entry = &pstree.PstreeEntry{Sid: proto.Uint32(1)}
	if err := c.Lead(control); err != nil {
		t.Fatal(err)
	}
	if err := control.Restore(c.R, c.Target); err != nil {
		t.Fatal(err)
	}
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	if sid, pgrp := get(t, got, unix.TIOCGSID), get(t, got, unix.TIOCGPGRP); sid != int(c.Target.Host) || pgrp != sid {
		t.Errorf("session %d, foreground group %d, want %d", sid, pgrp, c.Target.Host)
	}
}

func TestControlRefused(t *testing.T) {
	_, control := tty.New()
	observe := control.Observe
	_, err := kindtest.New(t).Observe(kind.Process{Observe: func(d *kind.Dump, p *kind.Proc) error {
		p.Stat = &procfs.Stat{TTYNr: 136<<8 | 3}
		return observe(d, p)
	}})
	if !errors.Is(err, failure.ErrUnsupported) || !strings.Contains(err.Error(), "/dev/pts/3") {
		t.Error(err)
	}
}
