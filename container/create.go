package container

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/procfs"
	"ckpt/tracee"
)

// Spec is what a new container is like before anything runs in it.
type Spec struct {
	Hostname string // "": the host's
	OwnNet   bool   // a network namespace of its own, with lo up
	Key      string // by which ckpt knows inside which container it is in
	// NoInit: vpid 1 will become a process of the container itself, so it
	// has to be in the container's time namespace, too.
	NoInit bool
	// Offsets of the container's CLOCK_MONOTONIC and CLOCK_BOOTTIME to the host's.
	Monotonic, Boottime time.Duration
}

// Root is vpid 1 of a container as Create made it: a bare child (package
// tracee), stopped, in its own namespaces, and killed if ckpt dies.
type Root struct {
	Thread  *tracee.Thread
	Site    tracee.Site
	HostPID int
	// Status is where init tells of the processes it reaps (BecomeInit). It
	// ends with init.
	Status *os.File
	Key    string
}

// Descriptors of Root.Thread, and of every child forked from it.
const (
	// SelfFD is a pidfd of ckpt: what ckpt has open, the stub takes with
	// pidfd_getfd(2).
	SelfFD = 3
	// StatusFD is the other end of Root.Status.
	StatusFD = 4
)

// ErrKilled: from outside, while it was made or saved.
var ErrKilled = errors.New("the container ended meanwhile: its first process was killed")

// Create makes the namespaces (pid, mount, ipc, uts, time, and net if the
// spec says so) and their first process. Its working directory is the
// caller's. The caller must be locked to its OS thread and be privileged in
// its user namespace. If Create fails nothing is left.
func Create(spec Spec) (_ *Root, err error) {
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return nil, fmt.Errorf("open a pidfd of ckpt: %w", err)
	}
	selfFile := os.NewFile(uintptr(self), "ckpt")
	defer selfFile.Close()
	status, statusW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer statusW.Close()
	flags := unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	if spec.OwnNet {
		flags |= unix.CLONE_NEWNET
	}
	suspend, err := kernel.SuspendsSeccomp()
	if err != nil {
		status.Close()
		return nil, err
	}
	t, site, err := tracee.StartStub(tracee.StubOptions{
		SuspendSeccomp: suspend, // a restored filter must not hit what ckpt still has to do
		// A session of its own: nothing of the caller's terminal.
		Attr:  &syscall.SysProcAttr{Cloneflags: uintptr(flags), Setsid: true},
		Files: []*os.File{selfFile, statusW}, // SelfFD, StatusFD
	})
	if errors.Is(err, tracee.ErrGone) {
		err = ErrKilled
	}
	if err != nil {
		status.Close()
		return nil, err
	}
	r := &Root{Thread: t, Site: site, HostPID: t.PID, Status: status, Key: spec.Key}
	if err := r.prepare(spec); err != nil {
		if t.Killed() {
			err = ErrKilled
		}
		return nil, errors.Join(err, r.Destroy())
	}
	return r, nil
}

func (r *Root) prepare(spec Spec) error {
	if err := r.mounts(spec.Key); err != nil {
		return err
	}
	if spec.Hostname != "" {
		err := r.run(func(s *tracee.Script) {
			s.Must(unix.SYS_SETHOSTNAME, s.Str(spec.Hostname), uint64(len(spec.Hostname)))
		})
		if err != nil {
			return fmt.Errorf("set host name %q: %w", spec.Hostname, err)
		}
	}
	if spec.OwnNet {
		if err := r.loopback(); err != nil {
			return err
		}
	}
	return r.timeNamespace(spec)
}

// run runs a script in the stub.
func (r *Root) run(build func(*tracee.Script)) error {
	s := tracee.NewScript(r.Site.Base)
	build(s)
	err := r.Thread.Run(r.Site, s)
	if se, ok := errors.AsType[*tracee.StepError](err); ok && se.Steps == 1 {
		return se.Errno // the caller says what was being done
	}
	return err
}

// mounts cuts mount propagation from and to the host, and mounts the
// container's /proc, /dev/pts and /dev/mqueue over the host's.
func (r *Root) mounts(key string) error {
	err := r.run(func(s *tracee.Script) {
		s.Must(unix.SYS_MOUNT, 0, s.Str("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	})
	if err != nil {
		return fmt.Errorf("make the container's mounts its own: %w", err)
	}
	err = r.run(func(s *tracee.Script) {
		s.Must(unix.SYS_MOUNT, s.Str(keyPrefix+key), s.Str("/proc"), s.Str("proc"), unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0)
	})
	if errors.Is(err, unix.EPERM) {
		// mount_too_revealing() in fs/namespace.c: in a user namespace only
		// where the host's /proc has nothing mounted over parts of it.
		return failure.WithHint(failure.Unsupportedf("mount the container's /proc: not permitted here: %w", err),
			"inside another container, start that one with an unmasked /proc (docker: --security-opt systempaths=unconfined)",
			"or run ckpt as root of the host")
	}
	if err != nil {
		return fmt.Errorf("mount the container's /proc: %w", err)
	}
	if err := r.terminals(); err != nil {
		return err
	}
	return r.queues()
}

// terminals mounts a /dev/pts of the container's own: its terminals have their
// numbers for themselves, which the host's may have given away by the time of
// a restore. /dev/ptmx goes by the pts beside it.
func (r *Root) terminals() error {
	group, err := groupOfTerminals()
	if err != nil {
		return err
	}
	err = r.run(func(s *tracee.Script) {
		devpts := s.Str("devpts")
		s.Must(unix.SYS_MOUNT, devpts, s.Str("/dev/pts"), devpts, unix.MS_NOSUID|unix.MS_NOEXEC, s.Str("mode=620,ptmxmode=666"+group))
	})
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV): // the host has no terminals either
		return nil
	case err != nil:
		return fmt.Errorf("mount the container's /dev/pts: %w", err)
	}
	return nil
}

// queues mounts the file system of the container's POSIX message queues where
// the host has that of its own (mq_overview(7)): they would be shown, and could
// be opened there.
func (r *Root) queues() error {
	hosts, err := procfs.OnTop(os.Getpid(), "mqueue", "/dev/mqueue")
	if hosts == nil || err != nil {
		return err
	}
	err = r.run(func(s *tracee.Script) {
		mqueue := s.Str("mqueue")
		s.Must(unix.SYS_MOUNT, mqueue, s.Str("/dev/mqueue"), mqueue, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0)
	})
	if err != nil {
		return fmt.Errorf("mount the container's /dev/mqueue: %w", err)
	}
	return nil
}

// groupOfTerminals is the mount option for the group that terminals have on
// the host, "" for that of whoever opens one: a user namespace knows no other.
func groupOfTerminals() (string, error) {
	privileged, err := kernel.Privileged()
	if err != nil || !privileged {
		return "", err
	}
	m, err := procfs.OnTop(os.Getpid(), "devpts", "/dev/pts")
	if m == nil || err != nil {
		return "", err
	}
	for o := range strings.SplitSeq(m.Super, ",") {
		if strings.HasPrefix(o, "gid=") {
			return "," + o, nil
		}
	}
	return "", nil
}

// ioctls of netdevice(7).
const siocSIFFlags = 0x8914

// loopback sets lo up.
func (r *Root) loopback() error {
	ifreq := make([]byte, 40) // struct ifreq: name, then flags
	copy(ifreq, "lo")
	binary.NativeEndian.PutUint16(ifreq[unix.IFNAMSIZ:], unix.IFF_UP)
	err := r.run(func(s *tracee.Script) {
		sock := s.Must(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		up := s.Must(unix.SYS_IOCTL, 0, siocSIFFlags, s.Data(ifreq))
		s.Feed(sock, up, 0)
		// The lowest free descriptor is known: nothing else was opened.
		s.Must(unix.SYS_CLOSE, StatusFD+1)
	})
	if err != nil {
		return fmt.Errorf("set the loopback interface up: %w", err)
	}
	return nil
}

// timeNamespace gives the children of the stub a time namespace: unshare(2)
// does not move its caller, only what it forks (time_namespaces(7)).
func (r *Root) timeNamespace(spec Spec) error {
	err := r.run(func(s *tracee.Script) { s.Must(unix.SYS_UNSHARE, unix.CLONE_NEWTIME) })
	if errors.Is(err, unix.EINVAL) {
		if spec.Monotonic != 0 || spec.Boottime != 0 {
			return failure.Unsupportedf("this kernel has no time namespaces (5.6, CONFIG_TIME_NS): the container's clocks cannot go on where they stopped")
		}
		return nil // the host's clocks are right
	}
	if err != nil {
		return fmt.Errorf("make a time namespace: %w", err)
	}
	if spec.Monotonic != 0 || spec.Boottime != 0 {
		p, err := procfs.Open(r.HostPID)
		if err != nil {
			return err
		}
		defer p.Close()
		err = p.Write("timens_offsets", TimeOffsets(spec.Monotonic, spec.Boottime))
		if err != nil {
			return fmt.Errorf("set the container's clocks: %w", err)
		}
	}
	if !spec.NoInit {
		return nil
	}
	err = r.run(func(s *tracee.Script) {
		ns := s.Must(unix.SYS_OPENAT, 0, s.Str("/proc/self/ns/time_for_children"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		s.Feed(ns, s.Must(unix.SYS_SETNS, 0, unix.CLONE_NEWTIME), 0)
		s.Must(unix.SYS_CLOSE, StatusFD+1)
	})
	if err != nil {
		return fmt.Errorf("enter the container's time namespace: %w", err)
	}
	return nil
}

// TimeOffsets is what is written into /proc/PID/timens_offsets.
func TimeOffsets(monotonic, boottime time.Duration) string {
	return offsetLine("monotonic", monotonic) + offsetLine("boottime", boottime)
}

// offsetLine: nanoseconds are never negative there.
func offsetLine(clock string, d time.Duration) string {
	s, ns := d/time.Second, d%time.Second
	if ns < 0 {
		s, ns = s-1, ns+time.Second
	}
	return fmt.Sprintf("%s %d %d\n", clock, s, ns)
}

// BecomeInit makes vpid 1 ckpt's init, which ends with the process main, as
// soon as it is detached. Nothing runs in it any more until then.
// Preconditions: the thread that called Create calls it; not for NoInit.
func (r *Root) BecomeInit(main int) error {
	err := r.run(func(s *tracee.Script) {
		s.Must(unix.SYS_CLOSE, SelfFD)
		s.Must(unix.SYS_CHDIR, s.Str("/")) // hold no file system of the caller's
	})
	if err == nil {
		err = r.Thread.BecomeInit(r.Site, main, StatusFD)
	}
	if err != nil {
		return fmt.Errorf("prepare init: %w", err)
	}
	return nil
}

// Destroy kills vpid 1, with it the whole container, and waits until all of
// it is gone. Traced processes stay zombies until their tracer has waited for
// them, and vpid 1 waits for every zombie: so the thread that traces calls it.
func (r *Root) Destroy() error {
	r.Status.Close()
	if err := unix.Kill(r.HostPID, unix.SIGKILL); err != nil && err != unix.ESRCH {
		return fmt.Errorf("kill the container: %w", err)
	}
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case err == unix.EINTR:
		case err == unix.ECHILD: // not this thread's, or gone
			_, err := reap(r.HostPID)
			if errors.Is(err, unix.ECHILD) {
				return nil
			}
			return err
		case err != nil:
			return fmt.Errorf("wait for the killed container: %w", err)
		case pid == r.HostPID && (ws.Exited() || ws.Signaled()):
			return nil
		}
	}
}
