// Package mounts is what is mounted in a container. Its table of mounts is a
// copy of that of whoever started it, and a restore makes such a copy anew.
//
// # What the kernel shows
//
// /proc/PID/mountinfo.
//
// # What is saved
//
// Nothing. A container in which something was mounted is refused: it would
// not be there again. Of mount namespaces made inside, which begin as copies of
// the container's, ckpt-mounts-N.img has what a container tool mounts over the
// copy: a /proc, with the pid namespace it shows, a /dev/pts and a /dev/mqueue.
//
// # What is lost
//
// That something was unmounted inside.
//
// # Needs
//
// Nothing.
package mounts

import (
	"errors"
	"os"
	"slices"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/procfs"
)

// Kind compares the container's mounts with those around ckpt, and those of
// each mount namespace made inside with the container's, once each.
func Kind() kind.Process {
	done := map[uint32]bool{}
	return kind.Process{
		Name:    "mounts",
		Saves:   "in mount namespaces made inside a /proc, a /dev/pts and a /dev/mqueue",
		Refuses: "what else was mounted inside, or mounted anew with other options",
		Observe: func(d *kind.Dump, p *kind.Proc) error {
			id := p.IDs.GetMntNsId()
			if done[id] {
				return nil
			}
			done[id] = true
			if id > image.NamespaceID {
				_, err := inside(d, p.Lead().Host)
				return err
			}
			return observe(int(d.Home))
		},
		Limits: "what was unmounted inside is there again",
	}
}

// Inside is what is mounted in a mount namespace made inside.
func Inside() kind.Namespace {
	return kind.Namespace{Name: "mounts", Sort: "mnt", Dump: dump, Restore: restore}
}

func observe(init int) error {
	its, err := procfs.Mounts(init)
	if err != nil {
		return err
	}
	own, err := procfs.Mounts(os.Getpid())
	if err != nil {
		return err
	}
	return errors.Join(compare(its, own)...)
}

// compare refuses what is mounted in the container and not outside, or with
// other options.
func compare(its, own []procfs.Mount) (refused []error) {
	left := slices.Clone(own)
	for i := range its {
		m := &its[i]
		if ofContainers(m) {
			continue // its own
		}
		if at := slices.IndexFunc(left, func(o procfs.Mount) bool { return same(m, &o) && m.Options == o.Options }); at >= 0 {
			left = slices.Delete(left, at, at+1)
			continue
		}
		err := failure.Unsupportedf("%s was mounted on %s inside the container", what(m), m.Point)
		hint := "unmount it before the dump, or mount it outside, too"
		if slices.ContainsFunc(left, func(o procfs.Mount) bool { return same(m, &o) }) {
			err = failure.Unsupportedf("%s was mounted anew with other options inside the container (%s)", m.Point, m.Options)
			hint = "mount it with the old ones (mount -o remount) before the dump"
		}
		refused = append(refused, failure.WithHint(err, hint))
	}
	return refused
}

// ofContainers tells whether a container tool mounts such a one for each
// container.
func ofContainers(m *procfs.Mount) bool {
	switch m.Type {
	case "proc":
		return m.Point == "/proc"
	case "devpts":
		return m.Point == "/dev/pts"
	case "mqueue":
		return m.Point == "/dev/mqueue"
	}
	return false
}

func same(a, b *procfs.Mount) bool {
	return a.Point == b.Point && a.Dev == b.Dev && a.Root == b.Root && a.Type == b.Type
}

// what is mounted, for messages.
func what(m *procfs.Mount) string {
	if m.Root != "/" {
		return m.Root + " (" + m.Type + ")"
	}
	return m.Type
}
