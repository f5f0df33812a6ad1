package tracee

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// StubOptions of StartStub.
type StubOptions struct {
	// Attr is how to fork: namespaces (Cloneflags, UidMappings), session,
	// credentials. May be nil. Ptrace and Pdeathsig are not for the caller.
	Attr *syscall.SysProcAttr
	// Files become the stub's descriptors 3, 4, ...; it has no others but
	// /dev/null as 0 to 2.
	Files []*os.File
	// Dir is its working directory, "" ckpt's own.
	Dir string
	// SuspendSeccomp: as in Options.
	SuspendSeccomp bool
}

// StartStub forks a bare child: a process of one page of code and no
// libraries, which only waits to run what it is told, and is killed if ckpt
// dies (until Detach, or SetOptions). It is stopped, its signals are blocked,
// with the default action for each.
// The caller must be locked to its OS thread.
func StartStub(o StubOptions) (*Thread, Site, error) {
	if err := supported(); err != nil {
		return nil, Site{}, err
	}
	pid, err := execStub(o)
	if err != nil {
		return nil, Site{}, err
	}
	t, err := seizeStub(pid, o)
	if err != nil {
		err = whyNot(pid, err)
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = wait4(pid)
		return nil, Site{}, fmt.Errorf("start bare child: %w", err)
	}
	return t, stubSite(), nil
}

// whyNot is ErrGone where a child has ended by itself: it was killed, and what is
// done to it fails in one of many ways (PTRACE_SEIZE with EPERM).
func whyNot(pid int, err error) error {
	var si unix.Siginfo
	if e := unix.Waitid(unix.P_PID, pid, &si, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil); e == nil && si.Signo == int32(unix.SIGCHLD) {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return err
}

// execStub starts the program. Until it is traced, the death of this OS
// thread kills it (PR_SET_PDEATHSIG).
func execStub(o StubOptions) (pid int, err error) {
	f, err := stubFile()
	if err != nil {
		return 0, err
	}
	defer f.Close()
	attr := syscall.SysProcAttr{}
	if o.Attr != nil {
		attr = *o.Attr
	}
	attr.Pdeathsig = syscall.SIGKILL
	c := &exec.Cmd{
		// Under a number that the child gives it: that of ours may be taken
		// by one of o.Files there.
		Path:        fmt.Sprintf("/proc/self/fd/%d", programFD(o)),
		Args:        []string{initName},
		Env:         []string{},
		Dir:         o.Dir,
		ExtraFiles:  append(slices.Clone(o.Files), f),
		SysProcAttr: &attr,
	}
	if err := c.Start(); err != nil {
		return 0, fmt.Errorf("start bare child: %w", NoMore(err))
	}
	pid = c.Process.Pid
	return pid, c.Process.Release() // waiting is ptrace's business
}

// programFD is the stub's descriptor of its program, until it is seized.
func programFD(o StubOptions) int { return 3 + len(o.Files) }

// initName is the name of a stub that has become ckpt's init, and of its
// program; stubName is that of others.
const (
	initName = "ckpt-init"
	stubName = "ckpt-stub"
)

// mfdExec is MFD_EXEC (6.3), which vm.memfd_noexec=1 makes necessary.
const mfdExec = 0x10

func stubFile() (*os.File, error) {
	fd, err := unix.MemfdCreate(initName, unix.MFD_CLOEXEC|mfdExec)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(initName, unix.MFD_CLOEXEC)
	}
	if errors.Is(err, unix.EACCES) {
		return nil, failure.WithHint(failure.Unsupportedf("programs may not be run from memory here (memfd_create: %w)", err),
			"set the sysctl vm.memfd_noexec to 0 or 1")
	}
	if err != nil {
		return nil, fmt.Errorf("make the bare child's program (memfd_create): %w", err)
	}
	f := os.NewFile(uintptr(fd), initName)
	if _, err := f.Write(stubELF()); err != nil {
		f.Close()
		return nil, fmt.Errorf("write the bare child's program: %w", err)
	}
	return f, nil
}

func seizeStub(pid int, o StubOptions) (*Thread, error) {
	t, err := Seize(pid, Options{ExitKill: true, Children: true, SuspendSeccomp: o.SuspendSeccomp})
	if err != nil {
		return nil, err
	}
	if err := t.Interrupt(); err != nil {
		return nil, err
	}
	if _, err := t.WaitStopped(); err != nil {
		return nil, err
	}
	if err := t.BlockSignals(0); err != nil {
		return nil, err
	}
	s := NewScript(stubSite().Base)
	s.Must(unix.SYS_PRCTL, unix.PR_SET_NAME, s.Str(stubName))
	s.Must(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, 0)
	s.Must(unix.SYS_CLOSE, uint64(programFD(o)))
	defaultActions(s)
	return t, t.Run(stubSite(), s)
}

// defaultActions ends what is ignored: that survives execve(2), from whoever
// started ckpt, and the Go runtime leaves some signals as it finds them
// (SIGHUP and SIGINT, and those that C libraries use: 32 to 34).
func defaultActions(s *Script) {
	const actionSize, signals = 32, 64
	action := s.Space(actionSize) // zeros: SIG_DFL
	for sig := uint64(1); sig <= signals; sig++ {
		if sig != uint64(unix.SIGKILL) && sig != uint64(unix.SIGSTOP) {
			s.Must(unix.SYS_RT_SIGACTION, sig, action, 0, sigsetSize)
		}
	}
}

// Outlive has a stub with one thread outlive ckpt, should that die: it finishes
// what it was told to do, waits until the last of its children has died with
// ckpt (those that ForkStub makes of it from here on do), and ends. A child in
// another pid namespace needs somebody who waits for it: that namespace does not
// end before (zap_pid_ns_processes() in kernel/pid_namespace.c), and the host's
// init, which inherits it otherwise, may be a program that waits for nobody.
func (t *Thread) Outlive(site Site) error {
	r, err := t.Regs()
	if err != nil {
		return err
	}
	frame := site.frameAt(0)
	if err := WriteMemory(t.TID, frame, encodeFrame(orphanRegs(r), ^uint64(0), 0, site.sizeAt(0))); err != nil {
		return err
	}
	if err := t.SetRegs(homeRegs(r, site, frame)); err != nil {
		return err
	}
	t.outlives = true
	return t.SetOptions(Options{Children: true})
}

const sigchldSet = 1 << (uint64(unix.SIGCHLD) - 1)

// BecomeInit makes a stub ckpt's init: when t goes on next (Detach), it reaps
// whatever child it has or inherits, writes {int32 pid, int32 wait status} of
// each to its descriptor statusFD, and when the process main ends, exits with
// that one's code, or 128 and the number of the signal that killed it.
func (t *Thread) BecomeInit(site Site, main, statusFD int) error {
	s := NewScript(site.Base)
	s.Must(unix.SYS_PRCTL, unix.PR_SET_NAME, s.Str(initName))
	if err := t.Run(site, s); err != nil {
		return err
	}
	r, err := t.Regs()
	if err != nil {
		return err
	}
	if err := t.SetRegs(reaperRegs(r, main, statusFD)); err != nil {
		return err
	}
	return t.SetSigMask(sigchldSet)
}
