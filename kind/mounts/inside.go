package mounts

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
	"ckpt/tracee"
)

// A mount namespace made inside begins as a copy of the container's. What a
// container tool mounts over that copy, a /proc, a /dev/pts and a /dev/mqueue,
// is mounted again.

// extra is what a namespace made inside has beyond the container's mounts.
func extra(its, containers []procfs.Mount) (more []procfs.Mount, refused []error) {
	left := slices.Clone(containers)
	for i := range its {
		m := &its[i]
		if at := slices.IndexFunc(left, func(o procfs.Mount) bool { return same(m, &o) && m.Options == o.Options }); at >= 0 {
			left = slices.Delete(left, at, at+1)
			continue
		}
		_, err := flags(m.Options)
		if ofContainers(m) && m.Root == "/" && m.Shared == 0 && err == nil {
			more = append(more, *m)
			continue
		}
		refused = append(refused, failure.WithHint(
			failure.Unsupportedf("%s was mounted on %s in a mount namespace made inside the container; that is not carried yet", what(m), m.Point),
			"start that program without mounts of its own"))
	}
	return more, refused
}

// flags are the options of a mount as mount(2) takes them.
func flags(options string) (uint64, error) {
	all := map[string]uint64{"rw": 0, "ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
		"relatime": unix.MS_RELATIME, "noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME}
	var out uint64
	for o := range strings.SplitSeq(options, ",") {
		f, ok := all[o]
		if !ok {
			return 0, failure.Damagedf("%q is no option of a mount that is known", o)
		}
		out |= f
	}
	return out, nil
}

// inside is extra of the namespace that a task is in.
func inside(d *kind.Dump, task pidns.HostPID) ([]procfs.Mount, error) {
	its, err := procfs.Mounts(int(task))
	if err != nil {
		return nil, err
	}
	containers, err := procfs.Mounts(int(d.ContainerHome))
	if err != nil {
		return nil, err
	}
	more, refused := extra(its, containers)
	return more, errors.Join(refused...)
}

// dump writes what is to be mounted again.
func dump(d *kind.Dump) error {
	if d.Namespace == 0 {
		return nil
	}
	more, err := inside(d, d.Home)
	if err != nil {
		return err
	}
	for _, m := range more {
		e := &image.Mount{Type: m.Type, Point: m.Point, Options: m.Options, Super: m.Super, Source: m.Source}
		if m.Type == "proc" {
			if e.Space, err = shows(d); err != nil {
				return err
			}
		}
		if err := d.Out.Add(image.MountsExtra, d.NamespaceFile(), e); err != nil {
			return err
		}
	}
	return nil
}

// shows tells which pid namespace the /proc on top shows: that of its pid 1.
func shows(d *kind.Dump) (uint32, error) {
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/root/proc/1/ns/pid", d.Home))
	if err != nil {
		return 0, fmt.Errorf("find the pid namespace that its /proc shows: %w", err)
	}
	if space, err := d.PIDSpace(link); err != nil || space != 0 {
		return uint32(space), err
	}
	containers, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", d.ContainerHome))
	if err != nil || containers == link {
		return uint32(pidns.Init), err
	}
	return 0, failure.WithHint(failure.Unsupportedf("the /proc in a mount namespace made inside shows a pid namespace that has ended, or is not the container's"),
		"end the programs in it")
}

// restore mounts what was mounted beyond the container's mounts. A /proc shows
// the pid namespace of whoever mounts it.
func restore(r *kind.Restore) error {
	if r.Namespace == 0 {
		return nil
	}
	id := r.NamespaceFile((*criu_core.TaskKobjIdsEntry).GetMntNsId)
	if !r.In.Has(image.MountsExtra, id) {
		return nil
	}
	return image.Each(r.In, image.MountsExtra, id, func(m *image.Mount, _ func(int) ([]byte, error)) error {
		f, err := flags(m.GetOptions())
		if err != nil {
			return err
		}
		by := mounter(r, pidns.VPID(m.GetSpace()))
		if by == nil {
			return failure.Damagedf("no process in the mount namespace %s could mount %s", id, m.GetPoint())
		}
		return r.As(by.VPID, func(s *tracee.Script) error {
			data := uint64(0)
			if m.GetType() == "devpts" {
				data = s.Str(instanceOptions(m.GetSuper()))
			}
			step := s.Must(unix.SYS_MOUNT, s.Str(m.GetSource()), s.Str(m.GetPoint()), s.Str(m.GetType()), f, data)
			s.Note(step, "mount "+m.GetPoint())
			return nil
		}, nil)
	})
}

// mounter is a process of the namespace; one of a pid namespace, if that is
// not 0.
func mounter(r *kind.Restore, space pidns.VPID) *kind.Target {
	var by *kind.Target
	for _, t := range r.Targets {
		if t.IDs.GetMntNsId() != r.Namespace || t.Zombie || space != 0 && t.Space != space {
			continue
		}
		// The one in the outermost user namespace has rights, if any has.
		if by == nil || t.IDs.GetUserNsId() < by.IDs.GetUserNsId() {
			by = t
		}
	}
	return by
}

// instanceOptions leaves out what mountinfo shows of every file system.
func instanceOptions(super string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(super, ","), func(o string) bool { return o == "rw" || o == "ro" }), ",")
}
