package container

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/procfs"
	"ckpt/tracee"
)

// joined are the namespaces of a container as descriptors.
type joined struct {
	files []*os.File // 0: pidfd of a thread of vpid 1; 1: its time_for_children, if there is one; 2: see timeOwner
	flags int
	// timeFirst: the time namespace is entered before the others.
	timeFirst bool
}

// Join starts a bare child (package tracee) in all namespaces of the container
// whose vpid 1 has the host pid init, but for its pid namespace: it takes no
// id there, and nobody inside sees it. Where init is ckpt itself it stays where
// it is. If ckpt dies, what it has forked dies, and then it ends itself. The
// caller must be locked to its OS thread, and kills it.
//
// It has carried as descriptor CarriedFD, unless that is nil.
func Join(init int, carried *os.File) (*tracee.Thread, tracee.Site, error) {
	nss, err := namespacesOf(init)
	if err != nil {
		return nil, tracee.Site{}, err
	}
	defer nss.close()
	files := nss.files
	if carried != nil {
		files = append(slices.Clone(files), carried)
	}
	t, site, err := tracee.StartStub(tracee.StubOptions{Files: files})
	if err != nil {
		return nil, tracee.Site{}, err
	}
	err = nss.join(t, site)
	if err == nil && carried != nil {
		if _, err = t.Syscall(site, unix.SYS_DUP3, uint64(3+len(nss.files)), CarriedFD, unix.O_CLOEXEC); err != nil {
			err = fmt.Errorf("keep %s: %w", carried.Name(), err)
		}
	}
	if err != nil {
		return nil, tracee.Site{}, errors.Join(err, t.Kill())
	}
	return t, site, nil
}

// CarriedFD is behind those that Join itself needs.
const CarriedFD = 16

// namespaces opens what a new process has to join.
func (c *Container) namespaces() (*joined, error) {
	fd, err := c.initFD()
	if err != nil {
		return nil, err
	}
	defer fd.Close() // holds its number
	return namespacesOf(c.Init)
}

func namespacesOf(init int) (*joined, error) {
	j := &joined{}
	p, err := procfs.Open(init)
	if err == nil {
		defer p.Close()
		err = j.open(p, init)
	}
	if err != nil {
		j.close()
		return nil, fmt.Errorf("open the namespaces: %w", err)
	}
	return j, nil
}

// open opens the namespaces of p, the process init. They are those of a
// thread: a leader that has exited has none.
func (j *joined) open(p *procfs.Proc, init int) error {
	tid, err := p.Living()
	if err != nil {
		return err
	}
	flags := 0
	if tid != init {
		flags = unix.PIDFD_THREAD // 6.9
		th, err := p.Thread(tid)
		if err != nil {
			return err
		}
		defer th.Close()
		p = th
	}
	fd, err := unix.PidfdOpen(tid, flags)
	if flags != 0 && errors.Is(err, unix.EINVAL) {
		return failure.Unsupportedf("the main thread of vpid 1 has ended: its namespaces are out of reach before Linux 6.9 (PIDFD_THREAD)")
	}
	if err != nil {
		return fmt.Errorf("open a pidfd of vpid 1: %w", err)
	}
	j.files = append(j.files, os.NewFile(uintptr(fd), "pidfd"))
	self, err := procfs.Open(os.Getpid())
	if err != nil {
		return err
	}
	defer self.Close()
	// To join one's own user namespace is an error (setns(2)), and to join
	// another one that is the host's takes rights that a user has not.
	for _, ns := range []struct {
		name string
		flag int
	}{{"user", unix.CLONE_NEWUSER}, {"mnt", unix.CLONE_NEWNS}, {"pid", unix.CLONE_NEWPID}, {"ipc", unix.CLONE_NEWIPC},
		{"uts", unix.CLONE_NEWUTS}, {"net", unix.CLONE_NEWNET}, {"cgroup", unix.CLONE_NEWCGROUP}} {
		ours, err := self.Link("ns/" + ns.name)
		if err != nil {
			return err
		}
		theirs, err := p.Link("ns/" + ns.name)
		if err != nil {
			return err
		}
		if ours != theirs {
			j.flags |= ns.flag
		}
	}
	const times = "ns/time_for_children"
	ours, err := self.Link(times)
	if errors.Is(err, unix.ENOENT) {
		return nil // no time namespaces
	}
	if err != nil {
		return err
	}
	if theirs, err := p.Link(times); err != nil || ours == theirs {
		return err
	}
	f, err := p.OpenLink(times, unix.O_RDONLY)
	if err != nil {
		return err
	}
	j.files = append(j.files, f)
	return j.timeOwner(self, p, f)
}

// timeOwner looks to whom the time namespace belongs. If not to the user
// namespace of p, nobody in that may enter it: it is entered before, and before
// that the user namespace it belongs to, unless ckpt is in that.
func (j *joined) timeOwner(self, p *procfs.Proc, times *os.File) error {
	owner, err := kernel.NamespaceOwner(times)
	if err != nil {
		return err
	}
	link, err := kernel.NamespaceLink("user", owner)
	var ours, its string
	if err == nil {
		ours, err = self.Link("ns/user")
	}
	if err == nil {
		its, err = p.Link("ns/user")
	}
	j.timeFirst = link != its
	if err != nil || !j.timeFirst || link == ours {
		owner.Close()
		return err
	}
	j.files = append(j.files, owner)
	return nil
}

func (j *joined) close() {
	for _, f := range j.files {
		f.Close()
	}
}

// join moves a stub, which has one thread, into the namespaces. All in one
// call, since entering the user namespace gives the right to enter the
// others. The pid and time namespaces are those of its children.
func (j *joined) join(t *tracee.Thread, site tracee.Site) error {
	s := tracee.NewScript(site.Base)
	if len(j.files) > 2 {
		s.Must(unix.SYS_SETNS, 5, unix.CLONE_NEWUSER)
	}
	if j.timeFirst {
		s.Must(unix.SYS_SETNS, 4, unix.CLONE_NEWTIME)
	}
	if j.flags != 0 {
		s.Must(unix.SYS_SETNS, 3, uint64(j.flags))
	}
	if len(j.files) > 1 && !j.timeFirst {
		s.Must(unix.SYS_SETNS, 4, unix.CLONE_NEWTIME)
	}
	err := t.Run(site, s)
	if err == nil {
		err = t.Outlive(site) // what it forks is born into the pid namespace
	}
	if err != nil {
		return fmt.Errorf("join the namespaces: %w", err)
	}
	return nil
}
