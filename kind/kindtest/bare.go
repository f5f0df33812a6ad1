package kindtest

import (
	"log/slog"
	"os"
	"runtime"
	"slices"
	"testing"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fs"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"golang.org/x/sys/unix"

	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// Bare is a bare child, for tests of what belongs to processes and threads:
// give one a state, Save it, Rebuild it in a second one, Save that and
// compare. Its ids inside are those on the host.
type Bare struct {
	Thread *tracee.Thread
	Site   tracee.Site
	// Dump and Restore are what kinds get to see; a test may change them.
	Dump    *kind.Dump
	Restore *kind.Restore

	t     testing.TB
	host  pidns.HostPID
	area  uint64
	files uint64 // lowest free descriptor
}

// Kinds are the tables to test.
type Kinds struct {
	Processes []kind.Process
	Threads   []kind.Thread
}

// bareArea is where scripts stand, in bytes.
const bareArea = 1 << 20

// NewBare starts a bare child, which ends with the test. The test stays on
// its OS thread from then on.
func NewBare(t testing.TB) *Bare {
	t.Helper()
	runtime.LockOSThread()
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	pidfd := os.NewFile(uintptr(self), "pidfd")
	defer pidfd.Close()
	th, stub, err := tracee.StartStub(tracee.StubOptions{Files: []*os.File{pidfd}, SuspendSeccomp: os.Geteuid() == 0})
	if err != nil {
		t.Fatal(err)
	}
	proc, err := os.OpenFile("/proc", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := th.Kill(); err != nil {
			t.Error(err)
		}
		proc.Close()
		runtime.UnlockOSThread()
	})
	b := &Bare{t: t, Thread: th, host: pidns.HostPID(th.PID), files: 4}
	log := slog.New(slog.DiscardHandler)
	known := func(id int32) bool { return id == int32(b.host) }
	b.Dump = &kind.Dump{Log: log, Home: b.host, Privileged: os.Geteuid() == 0, SuspendsSeccomp: os.Geteuid() == 0,
		HostPID: func(v pidns.VPID) (pidns.HostPID, bool) { return pidns.HostPID(v), known(int32(v)) },
		VPID:    func(h pidns.HostPID) (pidns.VPID, bool) { return pidns.VPID(h), known(int32(h)) }}
	b.Restore = &kind.Restore{Log: log, Names: unnoted{}, HostProc: proc, Privileged: os.Geteuid() == 0, SuspendsSeccomp: os.Geteuid() == 0, HostPID: b.Dump.HostPID}
	if b.area, err = th.Syscall(stub, unix.SYS_MMAP, 0, bareArea, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0); err != nil {
		t.Fatal(err)
	}
	if b.Site, err = tracee.InstallSite(th.PID, b.area, bareArea); err != nil {
		t.Fatal(err)
	}
	return b
}

// Script is an empty script of the child; Run runs it.
func (b *Bare) Script() *tracee.Script { return tracee.NewScript(b.Site.Base) }

// Run runs a script; the test fails where it does.
func (b *Bare) Run(s *tracee.Script) {
	b.t.Helper()
	if s.Len() == 0 {
		return
	}
	if err := b.Thread.Run(b.Site, s); err != nil {
		b.t.Fatal(err)
	}
}

// Call runs one call that must succeed.
func (b *Bare) Call(nr uintptr, args ...uint64) uint64 {
	b.t.Helper()
	v, err := b.Thread.Syscall(b.Site, nr, args...)
	if err != nil {
		b.t.Fatalf("system call %d: %v", nr, err)
	}
	return v
}

// Save lets kinds save the child; the first error is given.
func (b *Bare) Save(k Kinds) (*kind.Proc, error) {
	b.t.Helper()
	p := b.process()
	task := p.Threads[0]
	b.Dump.Procs = []*kind.Proc{p}
	for _, pk := range k.Processes {
		if pk.Observe != nil {
			if err := pk.Observe(b.Dump, p); err != nil {
				return nil, err
			}
		}
	}
	for _, tk := range k.Threads {
		if tk.Observe != nil {
			if err := tk.Observe(b.Dump, p, task); err != nil {
				return nil, err
			}
		}
	}
	if err := b.ask(k, p, task); err != nil {
		return nil, err
	}
	for _, tk := range slices.Backward(k.Threads) {
		if tk.Late != nil {
			if err := tk.Late(b.Dump, p, task); err != nil {
				return nil, err
			}
		}
	}
	for _, pk := range slices.Backward(k.Processes) {
		if pk.Late != nil {
			if err := pk.Late(b.Dump, p); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

func (b *Bare) process() *kind.Proc {
	b.t.Helper()
	fsys, err := procfs.Open(b.Thread.PID)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { fsys.Close() })
	st, err := fsys.Status()
	if err != nil {
		b.t.Fatal(err)
	}
	stat, err := fsys.Stat()
	if err != nil {
		b.t.Fatal(err)
	}
	v := pidns.VPID(b.host)
	task := &kind.Task{VTID: v, Host: b.host, Traced: b.Thread, FS: fsys, Status: st, Stat: stat, Stopped: true,
		Core: &criu_core.CoreEntry{ThreadCore: &criu_core.ThreadCoreEntry{}}, Extra: &image.Thread{}}
	return &kind.Proc{VPID: v, Host: b.host, FS: fsys, Status: st, Stat: stat, Threads: []*kind.Task{task},
		TC: &criu_core.TaskCoreEntry{}, MM: &mm.MmEntry{}, FSE: &fs.FsEntry{}, Extra: &image.Task{}}
}

func (b *Bare) ask(k Kinds, p *kind.Proc, task *kind.Task) error {
	var reads []func() error
	s := b.Script()
	for _, pk := range k.Processes {
		if pk.Ask == nil {
			continue
		}
		read, err := pk.Ask(b.Dump, p, s)
		if err != nil {
			return err
		}
		reads = append(reads, read)
	}
	for _, tk := range k.Threads {
		if tk.Ask == nil {
			continue
		}
		read, err := tk.Ask(b.Dump, p, task, s)
		if err != nil {
			return err
		}
		reads = append(reads, read)
	}
	b.Run(s)
	for _, read := range reads {
		if read == nil {
			continue
		}
		if err := read(); err != nil {
			return err
		}
	}
	return nil
}

// Rebuild gives the child the state of p: the scripts run in a restore's order.
func (b *Bare) Rebuild(k Kinds, p *kind.Proc) error {
	b.t.Helper()
	tt := &kind.TargetThread{VTID: pidns.VPID(b.host), Traced: b.Thread, Core: p.Threads[0].Core, Extra: p.Threads[0].Extra,
		Script: b.Script(), Last: b.Script()}
	t := &kind.Target{VPID: pidns.VPID(b.host), Host: b.host, TC: p.TC, MM: p.MM, FSE: p.FSE, Extra: p.Extra, Threads: []*kind.TargetThread{tt},
		OwnsVM: true, OwnsFiles: true, OwnsFS: true, OwnsSighand: true, Main: b.Script(), Late: b.Script(), Fetch: b.fetch, Drop: b.drop}
	b.Restore.Targets = []*kind.Target{t}
	for _, pk := range k.Processes {
		if pk.Restore != nil {
			if err := pk.Restore(b.Restore, t); err != nil {
				return err
			}
		}
	}
	b.Run(t.Main)
	for _, check := range t.Check {
		if err := check(); err != nil {
			return err
		}
	}
	for _, tk := range k.Threads {
		if tk.Restore != nil {
			if err := tk.Restore(b.Restore, t, tt); err != nil {
				return err
			}
		}
	}
	b.Run(tt.Script)
	b.Run(t.Late)
	b.Run(tt.Last)
	return nil
}

// fetch takes f through the pidfd of the test process that stands at 3.
func (b *Bare) fetch(s *tracee.Script, f *os.File) uint64 {
	s.Must(unix.SYS_PIDFD_GETFD, 3, uint64(f.Fd()), 0)
	b.files++
	return b.files - 1
}

func (b *Bare) drop(s *tracee.Script, fd uint64) {
	s.Must(unix.SYS_CLOSE, fd)
	b.files--
}
