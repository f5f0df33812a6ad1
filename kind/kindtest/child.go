package kindtest

import (
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/tracee"
)

// firstFD is the number of the first of a child's files.
const firstFD = 3

// Observe saves what a kind of process sees in the test process; files are
// the descriptors it gets to know of.
func (b *Box) Observe(k kind.Process, files ...*os.File) (*Saved, error) {
	b.t.Helper()
	return b.into(func(r *run) error {
		if err := r.collect(files); err != nil {
			return err
		}
		return k.Observe(r.d, r.d.Procs[0])
	})
}

// Write makes an image by hand.
func (b *Box) Write(fn func(out *image.Writer) error) *Saved {
	b.t.Helper()
	s, err := b.into(func(r *run) error { return fn(r.d.Out) })
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// Child is a bare child of the test, in a session and pid namespace of its
// own, in which the scripts of kinds of processes can run.
type Child struct {
	R      *kind.Restore
	Target *kind.Target
	site   tracee.Site
	t      testing.TB
	pid    int    // 0: ended
	self   uint64 // its descriptor of the test's pidfd
}

// Child starts one that holds files as its descriptors 3 and up. The test
// stays on its OS thread from here on. The child plays process v of the image.
func (b *Box) Child(s *Saved, v pidns.VPID, files ...*os.File) *Child {
	b.t.Helper()
	runtime.LockOSThread()
	b.t.Cleanup(runtime.UnlockOSThread)
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		b.t.Fatal(err)
	}
	self := os.NewFile(uintptr(pidfd), "pidfd")
	defer self.Close()
	th, site, err := tracee.StartStub(tracee.StubOptions{
		Attr: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Setsid: true}, Files: append(slices.Clone(files), self),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	c := &Child{site: site, t: b.t, pid: th.PID}
	b.t.Cleanup(c.End)
	in := s.Open(b.t)
	proc, err := os.OpenFile("/proc", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { proc.Close() })
	x := &restoring{made: map[uint32]*os.File{}}
	if err := b.prepare(x, in, proc); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		for _, f := range x.made {
			f.Close()
		}
	})
	t := &kind.Target{VPID: v, Host: pidns.HostPID(th.PID), OwnsVM: true, OwnsFiles: true, OwnsFS: true, OwnsSighand: true,
		Threads: []*kind.TargetThread{{VTID: v, Traced: th}},
		Main:    tracee.NewScript(site.Base), Late: tracee.NewScript(site.Base)}
	x.r.Targets = []*kind.Target{t}
	x.r.HostPID = func(w pidns.VPID) (pidns.HostPID, bool) { return t.Host, w == v }
	c.R, c.Target = x.r, t
	c.fetchBy(uint64(firstFD + len(files)))
	return c
}

// fetchBy lets the child take files of the test by the test's pidfd, which it
// holds as descriptor self, its highest.
func (c *Child) fetchBy(self uint64) {
	open := map[uint64]bool{}
	c.self = self
	c.Target.Fetch = func(sc *tracee.Script, f *os.File) uint64 {
		fd := self + 1
		for open[fd] {
			fd++
		}
		open[fd] = true
		sc.Note(sc.Must(unix.SYS_PIDFD_GETFD, self, uint64(f.Fd()), 0), "take "+f.Name())
		return fd
	}
	c.Target.Drop = func(sc *tracee.Script, fd uint64) {
		sc.Must(unix.SYS_CLOSE, fd)
		delete(open, fd)
	}
}

// Lead runs what a kind does in the leader of a session.
func (c *Child) Lead(k kind.Process) error {
	sc := tracee.NewScript(c.site.Base)
	fetch := func(f *os.File) tracee.Step { return sc.Must(unix.SYS_PIDFD_GETFD, c.self, uint64(f.Fd()), 0) }
	if err := k.Lead(c.R, c.Target, sc, fetch); err != nil {
		return err
	}
	return c.Target.Threads[0].Traced.Run(c.site, sc)
}

// Run runs Main and then Late.
func (c *Child) Run() error {
	for _, sc := range []*tracee.Script{c.Target.Main, c.Target.Late} {
		if sc.Len() == 0 {
			continue
		}
		if err := c.Target.Threads[0].Traced.Run(c.site, sc); err != nil {
			return err
		}
	}
	return nil
}

// End kills the child and waits for it, as the test's own end does.
func (c *Child) End() {
	if c.pid == 0 {
		return
	}
	if err := unix.Kill(c.pid, unix.SIGKILL); err != nil {
		c.t.Errorf("kill the child: %v", err)
	}
	for {
		_, err := unix.Wait4(c.pid, nil, unix.WALL, nil)
		if err != nil && err != unix.EINTR {
			c.pid = 0
			return
		}
	}
}
