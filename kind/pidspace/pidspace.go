// Package pidspace is what belongs to pid namespaces below the container's,
// which themselves come with the tree of processes: the pid that was handed
// out last in each; and the namespace that a process's children are born in
// where that is another than its own, as after unshare(2) with CLONE_NEWPID or
// setns(2): unshare(1) --fork waits in this state.
//
// # What the kernel shows
//
// The link /proc/PID/task/TID/ns/pid_for_children of each thread, beside that
// of ns/pid (namespaces(7)). It cannot be read (ENOENT) while the namespace has
// no process yet (pidns_for_children_get() in kernel/pid_namespace.c).
//
// # What is saved
//
// In ckpt-task-VPID.img the id of the namespace's first process, or that it is
// yet to be born; of each first process its namespace's ns_last_pid and
// kernel.pid_max, which the driver asks for. The driver sets the latter, when
// all are born.
//
// # What is lost
//
// Both numbers, where the first process of a namespace sees no /proc: new pids
// begin at 2 again then. Refused is a namespace whose first process has ended:
// nothing can be born in it any more; and a process that has other threads
// beside one whose children are born elsewhere: since Linux 3.12 unshare(2)
// takes CLONE_NEWPID from one of several, but lets it make no more.
//
// # Needs
//
// setns(2) takes CAP_SYS_ADMIN, which a process under construction has. It has
// one thread then: none can be made after (clone(2), EINVAL).
package pidspace

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/pidns"
)

// Kind is the pid namespace of a process's children.
func Kind() kind.Process {
	r := &restorer{}
	return kind.Process{
		Name:    "pid namespaces",
		Saves:   "pid namespaces made inside, with a number a level, and for whom of the processes children are born in one",
		Refuses: "one for the children of a thread that is not alone in its process; one whose first process has ended",
		Observe: observe, Restore: r.restore,
	}
}

func observe(d *kind.Dump, p *kind.Proc) error {
	for _, t := range p.Threads {
		if t.Status.Zombie() {
			continue
		}
		elsewhere, unborn, err := children(t)
		switch {
		case err != nil:
			return err
		case elsewhere == "" && !unborn:
			continue
		case len(p.Threads) > 1:
			return failure.WithHint(failure.Unsupportedf("the children of thread %d are to be born in another pid namespace (unshare(2)), and it is not alone in its process; that is not carried yet", t.VTID),
				"let the program make a process of it")
		case unborn:
			p.Extra.ChildrenUnborn = true
			return nil
		}
		space, err := d.PIDSpace(elsewhere)
		if err != nil {
			return err
		}
		if space == 0 {
			return failure.WithHint(failure.Unsupportedf("its children are to be born in a pid namespace whose first process has ended, or is not the container's"),
				"it cannot fork any more: end it")
		}
		p.Extra.ChildrenSpace = uint32(space)
	}
	return nil
}

// children is the pid namespace in which those of a thread are born, "" if it
// is its own or yet to begin.
func children(t *kind.Task) (elsewhere string, unborn bool, err error) {
	link, linkErr := t.FS.Link("ns/pid_for_children")
	own, err := t.FS.Link("ns/pid") // fails if t has ended, while only checking
	switch {
	case err != nil:
		return "", false, err
	case errors.Is(linkErr, unix.ENOENT):
		return "", true, nil
	case linkErr != nil || link == own:
		return "", false, linkErr
	}
	return link, false, nil
}

// restorer keeps what processes are to take until they have.
type restorer struct{ keep []*os.File }

func (x *restorer) restore(r *kind.Restore, t *kind.Target) error {
	if err := x.lastPID(r, t); err != nil {
		return err
	}
	if t.Extra.GetChildrenUnborn() {
		t.Main.Note(t.Main.Must(unix.SYS_UNSHARE, unix.CLONE_NEWPID), "make a pid namespace for its children")
		return nil
	}
	space := pidns.VPID(t.Extra.GetChildrenSpace())
	if space == 0 {
		return nil
	}
	host, ok := r.HostPID(space)
	if !ok {
		return failure.Damagedf("its children are born in the pid namespace of pid %d, which the image does not hold", space)
	}
	f, err := x.open(r, fmt.Sprintf("%d/ns/pid", host), unix.O_RDONLY)
	if err != nil {
		return fmt.Errorf("open the pid namespace of pid %d: %w", space, err)
	}
	at := t.Fetch(t.Main, f)
	t.Main.Note(t.Main.Must(unix.SYS_SETNS, at, unix.CLONE_NEWPID), "let its children be born in another pid namespace")
	t.Drop(t.Main, at)
	return nil
}

// lastPID sets ns_last_pid, which is that of the namespace of whoever writes,
// whoever has opened the file (pid_ns_ctl_handler() in kernel/pid_namespace.c).
// Births under a chosen pid do not move it.
func (x *restorer) lastPID(r *kind.Restore, t *kind.Target) error {
	last := t.Extra.GetSpaceLastPid()
	if last == 0 {
		return nil
	}
	f, err := x.open(r, "sys/kernel/ns_last_pid", unix.O_WRONLY)
	if err != nil {
		return fmt.Errorf("open ns_last_pid: %w", err)
	}
	at := t.Fetch(t.Main, f)
	text := strconv.Itoa(int(last))
	t.Main.Note(t.Main.Must(unix.SYS_WRITE, at, t.Main.Str(text), uint64(len(text))), "set ns_last_pid")
	t.Drop(t.Main, at)
	return nil
}

// open opens a file of the host's /proc.
func (x *restorer) open(r *kind.Restore, path string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(r.HostProc.Fd()), path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	x.keep = append(x.keep, f)
	return f, nil
}
