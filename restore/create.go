package restore

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/pidns"
	"ckpt/tracee"
)

// create makes the namespaces and vpid 1, a bare child as yet.
func (s *session) create() error {
	mono, boot, err := s.kinds.Clocks(s.in)
	if err != nil {
		return &failure.Error{Doing: "restore", What: "clocks", Err: err}
	}
	s.root, err = container.Create(container.Spec{
		OwnNet: s.r.Manifest.GetNetNone(), NoInit: s.r.Manifest.GetNoInit(), Monotonic: mono, Boottime: boot,
	})
	if err != nil {
		return &failure.Error{Doing: "restore", Err: err}
	}
	s.stubs[pidns.Init] = s.root.Thread
	return nil
}

// inner is an OS thread inside the container's mount, ipc, uts and network
// namespaces, where kinds make the objects. The thread that traces cannot be
// it: there /proc is the container's, and host pids mean nothing.
type inner struct {
	work chan func()
	ask  chan func() // what only the tracing thread can do
}

// enter starts the inner thread.
func (s *session) enter() (err error) {
	if s.r.HostProc, err = os.OpenFile("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	s.r.Inside, s.r.As = s.inside, s.as
	spaces := []struct {
		name string
		flag int
	}{{"ipc", unix.CLONE_NEWIPC}, {"uts", unix.CLONE_NEWUTS}, {"net", unix.CLONE_NEWNET}, {"mnt", unix.CLONE_NEWNS}}
	var fds []int
	for _, ns := range spaces {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", s.root.HostPID, ns.name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open the container's %s namespace: %w", ns.name, err)
		}
		defer unix.Close(fd)
		fds = append(fds, fd)
	}
	s.inner = &inner{work: make(chan func()), ask: make(chan func())}
	ready := make(chan error, 1)
	go kernel.OnThread(func() error {
		// A mount namespace can only be entered by a thread that shares its
		// working directory and root with no other (setns(2)).
		err := unix.Unshare(unix.CLONE_FS)
		for i, ns := range spaces {
			if ns.name == "net" && !s.r.Manifest.GetNetNone() {
				continue // the host's, where this thread is already
			}
			if err == nil {
				if err = unix.Setns(fds[i], ns.flag); err != nil {
					err = fmt.Errorf("enter the container's %s namespace: %w", ns.name, err)
				}
			}
		}
		ready <- err
		for fn := range s.inner.work {
			fn()
		}
		return nil
	})
	return <-ready
}

func (n *inner) end() { close(n.work) }

// within runs fn on the inner thread, and meanwhile does for it what only the
// tracing thread can.
func (s *session) within(fn func() error) error {
	done := make(chan error, 1)
	s.inner.work <- func() { done <- fn() }
	for {
		select {
		case err := <-done:
			return err
		case request := <-s.inner.ask:
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
	s.inner.ask <- func() { done <- s.asHere(v, build, read) }
	return <-done
}

// asHere is as for the tracing thread itself.
func (s *session) asHere(v pidns.VPID, build, read func(*tracee.Script) error) error {
	stub := s.stubs[v]
	if stub == nil {
		return fmt.Errorf("run calls in pid %d: %w", v, unix.ESRCH)
	}
	sc := tracee.NewScript(s.root.Site.Base)
	if err := build(sc); err != nil {
		return err
	}
	if sc.Size() > s.root.Site.Size {
		return fmt.Errorf("run calls in pid %d: %d bytes of calls do not fit into %d", v, sc.Size(), s.root.Site.Size)
	}
	if err := stub.Run(s.root.Site, sc); err != nil {
		return fmt.Errorf("run calls in pid %d: %w", v, err)
	}
	if read == nil {
		return nil
	}
	return read(sc)
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
