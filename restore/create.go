package restore

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/image"
	"ckpt/kernel"
	"ckpt/pidns"
	"ckpt/tracee"
)

// create makes the namespaces and vpid 1, a bare child as yet.
func (s *session) create() error {
	mono, boot, err := s.kinds.Clocks(s.in, image.NamespaceID)
	if err != nil {
		return &failure.Error{Doing: "restore", What: "clocks", Err: err}
	}
	s.root, err = container.Create(container.Spec{
		OwnNet: s.r.Manifest.GetNetNone(), NoInit: s.r.Manifest.GetNoInit(), Monotonic: mono, Boottime: boot, Key: s.key(),
	})
	if err != nil {
		return &failure.Error{Doing: "restore", Err: err}
	}
	s.stubs[pidns.Init] = s.root.Thread
	return nil
}

// key is that of the container that was saved: what ckpt inside it remembers of
// containers is found by it.
func (s *session) key() string {
	if k := s.r.Manifest.GetKey(); container.IsKey(k) {
		return k
	}
	return container.NewKey()
}

// inner is an OS thread inside the container's mount, ipc, uts and network
// namespaces, where kinds make the objects, or in some that were made inside
// of those. The thread that traces cannot be it: there /proc is the
// container's, and host pids mean nothing.
type inner struct{ work chan func() }

// entered is a namespace to be entered.
type entered struct {
	name string
	flag int
	fd   int
}

// newInner starts an inner thread. That it has entered is told by an error.
func newInner(spaces []entered) (*inner, error) {
	n := &inner{work: make(chan func())}
	ready := make(chan error, 1)
	go kernel.OnThread(func() error {
		// A mount namespace can only be entered by a thread that shares its
		// working directory and root with no other (setns(2)).
		err := unix.Unshare(unix.CLONE_FS)
		for _, ns := range spaces {
			if err == nil {
				if err = unix.Setns(ns.fd, ns.flag); err != nil {
					err = fmt.Errorf("enter the container's %s namespace: %w", ns.name, err)
				}
			}
		}
		ready <- err
		for fn := range n.work {
			fn()
		}
		return nil
	})
	if err := <-ready; err != nil {
		n.end()
		return nil, err
	}
	return n, nil
}

func (n *inner) end() { close(n.work) }

// enter starts the inner thread of the container.
func (s *session) enter() (err error) {
	if s.r.HostProc, err = os.OpenFile("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	s.r.Inside, s.r.As, s.r.Acts, s.r.Ended, s.r.Stay, s.r.Take = s.inside, s.as, s.acts, s.endedProcess, s.stay, takeFile
	s.ask = make(chan func())
	flags := []entered{{"ipc", unix.CLONE_NEWIPC, -1}, {"uts", unix.CLONE_NEWUTS, -1}, {"mnt", unix.CLONE_NEWNS, -1}}
	if s.r.Manifest.GetNetNone() { // else the host's, where all threads are already
		flags = append(flags, entered{"net", unix.CLONE_NEWNET, -1})
	}
	for i := range flags {
		ns := &flags[i]
		if ns.fd, err = unix.Open(fmt.Sprintf("/proc/%d/ns/%s", s.root.HostPID, ns.name), unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("open the container's %s namespace: %w", ns.name, err)
		}
		defer unix.Close(ns.fd)
	}
	if s.inner, err = newInner(flags); err != nil {
		return err
	}
	return s.openParcels()
}

// within runs fn on the inner thread, and meanwhile does for it what only the
// tracing thread can.
func (s *session) within(fn func() error) error {
	done := make(chan error, 1)
	s.at = s.inner
	s.inner.work <- func() { done <- fn() }
	for {
		select {
		case err := <-done:
			return err
		case request := <-s.ask:
			request()
		}
	}
}

// on runs fn on another inner thread. It is called on an inner thread, which
// meanwhile does for the other what that one asks of it.
func (s *session) on(n *inner, fn func() error) error {
	from := s.at
	if n == from {
		return fn()
	}
	done := make(chan error, 1)
	s.at = n
	defer func() { s.at = from }()
	n.work <- func() { done <- fn() }
	for {
		select {
		case err := <-done:
			return err
		case request := <-from.work:
			request()
		}
	}
}

// inside is Restore.Inside: calls in vpid 1. Called on the inner thread.
func (s *session) inside(build, read func(*tracee.Script) error) error {
	return s.as(pidns.Init, build, read)
}

// as is Restore.As: calls in the bare child with the id v, before it is
// rebuilt. Called on the inner thread.
func (s *session) as(v pidns.VPID, build, read func(*tracee.Script) error) error {
	done := make(chan error, 1)
	s.ask <- func() { done <- s.asHere(v, build, read) }
	return <-done
}

// asHere is as for the tracing thread itself.
func (s *session) asHere(v pidns.VPID, build, read func(*tracee.Script) error) error {
	if h := s.held.byID[v]; h != nil {
		if _, err := s.revive(h.GetNumber()); err != nil {
			return err
		}
	}
	stub := s.stubs[v]
	if stub == nil {
		return fmt.Errorf("run calls in pid %d: %w", v, unix.ESRCH)
	}
	return stub.Runner(s.root.Site, fmt.Sprintf("pid %d", v))(build, read)
}

// openIn opens a file in a process that is still bare.
func (s *session) openIn(v pidns.VPID, path string, flags uint64) (fd uint64, err error) {
	var step tracee.Step
	err = s.asHere(v, func(sc *tracee.Script) error {
		step = sc.Must(unix.SYS_OPENAT, tracee.AtCwd, sc.Str(path), flags|unix.O_CLOEXEC)
		sc.Note(step, "open "+path)
		return nil
	}, func(sc *tracee.Script) error {
		fd, err = sc.Result(step)
		return err
	})
	return fd, err
}

// openFrom is openIn for a file that ckpt takes, and the process keeps not.
func (s *session) openFrom(v pidns.VPID, path string, flags uint64) (*os.File, error) {
	fd, err := s.openIn(v, path, flags)
	if err != nil {
		return nil, err
	}
	pidfd, err := unix.PidfdOpen(s.stubs[v].PID, 0)
	if err != nil {
		return nil, fmt.Errorf("open a pidfd: %w", err)
	}
	defer unix.Close(pidfd)
	ours, err := unix.PidfdGetfd(pidfd, int(fd), 0)
	if err != nil {
		return nil, fmt.Errorf("take %s from pid %d (pidfd_getfd): %w", path, v, err)
	}
	f := os.NewFile(uintptr(ours), path)
	if err := s.call(v, unix.SYS_CLOSE, fd); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// namespaces fills the new namespaces.
func (s *session) namespaces() error {
	var errs []error
	for _, k := range s.kinds.Namespaces {
		if k.Restore == nil {
			continue
		}
		if err := s.within(func() error { return k.Restore(s.r) }); err != nil {
			errs = append(errs, &failure.Error{Doing: "restore", What: k.Name, Err: err})
		}
	}
	return errors.Join(errs...)
}
