package unixsock

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/kind/kindtest"
	"ckpt/pidns"
	"ckpt/tracee"
)

// bare is a process being rebuilt, under another pid than the test's.
func bare(t *testing.T) (*tracee.Thread, tracee.Site) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	stub, site, err := tracee.StartStub(tracee.StubOptions{Attr: &syscall.SysProcAttr{}})
	must(t, err)
	t.Cleanup(func() {
		must(t, unix.Kill(stub.PID, unix.SIGKILL))
		var ws unix.WaitStatus
		for {
			if _, err := unix.Wait4(stub.PID, &ws, unix.WALL, nil); err != nil || ws.Exited() || ws.Signaled() {
				return
			}
		}
	})
	return stub, site
}

// actAs has stub be the process that has everything.
func actAs(r *kind.Restore, stub *tracee.Thread, site tracee.Site) {
	r.HostPID = func(v pidns.VPID) (pidns.HostPID, bool) { return pidns.HostPID(stub.PID), v == kindtest.VPID }
	r.As = func(_ pidns.VPID, build, read func(*tracee.Script) error) error {
		sc := tracee.NewScript(site.Base)
		if err := build(sc); err != nil {
			return err
		}
		if err := stub.Run(site, sc); err != nil {
			return err
		}
		return read(sc)
	}
	r.Acts = func(v pidns.VPID) bool { return v == kindtest.VPID }
}

// Pairs, listeners and connections are made by the processes that made them.
func TestPeerPid(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Chmod(dir, 0o755))
	must(t, unix.Chmod(filepath.Dir(dir), 0o755))
	var l, c, s, la, ca, sa *os.File
	var a, b *os.File
	other := &image.Ucred{Uid: 1234, Gid: 4321}
	must(t, place{}.run(other, func() error { a, b = newPair(t, unix.SOCK_STREAM); return nil }))
	l = listening(t, unix.SOCK_STREAM, dir+"/sock", 3)
	must(t, unix.Chmod(dir+"/sock", 0o777))
	c = socket(t, unix.SOCK_STREAM)
	must(t, place{}.run(other, func() error { return kernel.ConnectUnix(int(c.Fd()), sun(dir+"/sock")) }))
	s = accept(t, l)
	la = listening(t, unix.SOCK_SEQPACKET, "@ckpt test pid", 3)
	ca = connected(t, unix.SOCK_SEQPACKET, "@ckpt test pid")
	sa = accept(t, la)
	files := []*os.File{a, b, l, c, s, la, ca, sa}

	box := kindtest.New(t, Kind)
	saved := box.Dump(files...)
	for _, f := range files {
		f.Close()
	}
	stub, site := bare(t)
	box.OnRestore = func(r *kind.Restore) { actAs(r, stub, site) }
	before, err := os.ReadDir(filepath.Join("/proc", pidns.HostPID(stub.PID).String(), "fd"))
	must(t, err)
	got := box.Restore(saved)
	for i, w := range []unix.Ucred{{Uid: 1234, Gid: 4321}, {Uid: 1234, Gid: 4321}, {}, {}, {Uid: 1234, Gid: 4321}, {}, {}, {}} {
		cred, err := unix.GetsockoptUcred(int(got[i].Fd()), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if w.Pid = int32(stub.PID); err != nil || *cred != w {
			t.Errorf("socket %d: %+v, %v, want %+v", i, cred, err, w)
		}
	}
	after, err := os.ReadDir(filepath.Join("/proc", pidns.HostPID(stub.PID).String(), "fd"))
	must(t, err)
	if len(before) != len(after) {
		t.Errorf("the process has %d descriptors, had %d", len(after), len(before))
	}
	send(t, connected(t, unix.SOCK_STREAM, dir+"/sock"), "still works")
	want(t, accept(t, got[2]), "still works", "EAGAIN")
}
