// Package cgroup is the control groups of a process (cgroups(7)).
//
// # What the kernel shows
//
// /proc/PID/cgroup has a path in each hierarchy, as the reader's cgroup
// namespace shows it.
//
// # What is saved
//
// Nothing. A restored container is in the control groups of whoever restores
// it, as a started one is in those of whoever starts it. A process that is in
// another group than its parent, or the command in another than ckpt's init, has
// gone there inside, or was put there: it is refused.
//
// # What is lost
//
// See Limits. Who comes by `ckpt exec` is in the groups of whoever called that,
// and so are those of his children that outlive him, and are init's then: of
// these it is told that they will be where all others are.
//
// # Needs
//
// Nothing; without CONFIG_CGROUPS there is nothing to look for.
package cgroup

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
)

// Kind looks at the control groups of every process.
func Kind() kind.Process {
	s := saver{}
	return kind.Process{
		Name:    "control groups",
		Refuses: "a process in other control groups than its parent",
		Observe: s.observe,
		Limits:  "a restored container is in the control groups of whoever restores it; that the first process of one without an init (--no-init, dump --pid), or a thread alone, has gone to another is not noticed",
	}
}

// saver holds the groups that are known, by host pid.
type saver map[pidns.HostPID][]procfs.Cgroup

func (s saver) observe(d *kind.Dump, p *kind.Proc) error {
	if p.Zombie {
		return nil
	}
	own, err := s.of(p.Host, p.Lead().FS)
	if err != nil {
		return err
	}
	parent, err := s.parent(d, p)
	if err != nil || parent == nil {
		return err
	}
	mine, others, ok := differ(own, parent)
	if !ok {
		return nil
	}
	if p.Parent == nil && p.VPID != d.Main {
		d.Log.Warn("a restore puts it into the control group of all others", "vpid", p.VPID, "comm", p.Comm, "group", mine, "others", others)
		return nil
	}
	return failure.WithHint(failure.Unsupportedf("it is in control group %s, its parent in %s; that is not carried yet", mine, others),
		"move it to its parent's group before the dump (cgroup.procs), and back after the restore")
}

// parent are the groups of the parent of p; nil if that is neither the
// container's init nor saved with it.
func (s saver) parent(d *kind.Dump, p *kind.Proc) ([]procfs.Cgroup, error) {
	switch {
	case p.Parent != nil && p.Parent.Zombie:
		return nil, nil
	case p.Parent != nil:
		return s.of(p.Parent.Host, p.Parent.Lead().FS)
	case d.Adopted || p.VPID == pidns.Init || p.Status.PPid != int(d.ContainerHome):
		return nil, nil
	}
	fs, err := procfs.Open(int(d.ContainerHome))
	if err != nil {
		return nil, fmt.Errorf("look at the container's init: %w", err)
	}
	defer fs.Close()
	return s.of(d.ContainerHome, fs)
}

func (s saver) of(pid pidns.HostPID, fs *procfs.Proc) ([]procfs.Cgroup, error) {
	if c, ok := s[pid]; ok {
		return c, nil
	}
	c, err := fs.Cgroups()
	if errors.Is(err, unix.ENOENT) {
		err = nil
	}
	s[pid] = c
	return c, err
}

// differ finds the first hierarchy in which two processes are in different
// groups, and names these.
func differ(a, b []procfs.Cgroup) (mine, others string, ok bool) {
	for _, g := range a {
		n := slices.IndexFunc(b, func(o procfs.Cgroup) bool { return o.ID == g.ID })
		if n < 0 || b[n].Path == g.Path {
			continue
		}
		if g.Controllers == "" {
			return g.Path, b[n].Path, true
		}
		return g.Path + " (" + g.Controllers + ")", b[n].Path, true
	}
	return "", "", false
}
