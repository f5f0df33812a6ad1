// Package nsfile saves descriptors of namespaces(7), opened by /proc/PID/ns.
//
// What the kernel shows: the link, "net:[4026531840]", and the inode number,
// which is that of the namespace.
//
// What is saved: a process that is in the namespace, and the status flags.
//
// What is lost: the inode numbers, as of every namespace. One that no process
// of the container is in is refused.
//
// Needs: nothing.
package nsfile

import (
	"errors"
	"fmt"
	"os"
	"regexp"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/ns"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/pidns"
	"ckpt/procfs"
)

// sort is a sort of namespaces, by its name in /proc/PID/ns.
type sort struct {
	name string
	flag uint32 // clone(2)
	id   func(*criu_core.TaskKobjIdsEntry) uint32
}

var sorts = []sort{
	{"cgroup", unix.CLONE_NEWCGROUP, (*criu_core.TaskKobjIdsEntry).GetCgroupNsId},
	{"ipc", unix.CLONE_NEWIPC, (*criu_core.TaskKobjIdsEntry).GetIpcNsId},
	{"mnt", unix.CLONE_NEWNS, (*criu_core.TaskKobjIdsEntry).GetMntNsId},
	{"net", unix.CLONE_NEWNET, (*criu_core.TaskKobjIdsEntry).GetNetNsId},
	{"pid", unix.CLONE_NEWPID, (*criu_core.TaskKobjIdsEntry).GetPidNsId},
	{"time", unix.CLONE_NEWTIME, (*criu_core.TaskKobjIdsEntry).GetTimeNsId},
	{"user", unix.CLONE_NEWUSER, (*criu_core.TaskKobjIdsEntry).GetUserNsId},
	{"uts", unix.CLONE_NEWUTS, (*criu_core.TaskKobjIdsEntry).GetUtsNsId},
}

var link = regexp.MustCompile(`^([a-z]+):\[\d+\]$`)

// Kind is namespaces held open.
func Kind() kind.File {
	return kind.File{
		Name:    "namespace",
		Saves:   "namespaces held open",
		Refuses: "one in which no process of the container is",
		Type:    fdinfo.FdTypes_NS,
		Owns:    owns, Refuse: refuse, Dump: dump, Restore: restore,
	}
}

func owns(d *kind.Desc) bool {
	_, ok := sortOf(d)
	return ok
}

func sortOf(d *kind.Desc) (sort, bool) {
	m := link.FindStringSubmatch(d.Link)
	for _, s := range sorts {
		if m != nil && m[1] == s.name {
			return s, true
		}
	}
	return sort{}, false
}

func refuse(d *kind.Dump, desc *kind.Desc) error {
	_, _, err := find(d, desc)
	return err
}

// member is a process that is in a namespace, and the namespace's id in the
// image.
type member struct {
	vpid pidns.VPID
	id   uint32
}

// find gives the sort of a namespace and a process that is in it.
func find(d *kind.Dump, desc *kind.Desc) (sort, member, error) {
	s, _ := sortOf(desc)
	for _, p := range d.Procs {
		if p.Zombie {
			continue
		}
		if in, err := isIn(p.Lead().FS, s, desc); err != nil || in {
			return s, member{p.VPID, max(s.id(p.IDs), image.NamespaceID)}, err
		}
	}
	init, err := procfs.Open(int(d.ContainerHome))
	if err != nil {
		return s, member{}, err
	}
	defer init.Close()
	if in, err := isIn(init, s, desc); err != nil || in {
		return s, member{pidns.Init, image.NamespaceID}, err
	}
	return s, member{}, failure.WithHint(failure.Unsupportedf("a namespace (%s) that no process of the container is in is held open", desc.Link),
		"close the descriptor once setns(2) is done")
}

func isIn(p *procfs.Proc, s sort, desc *kind.Desc) (bool, error) {
	st, err := p.StatLink("ns/" + s.name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) { // it has ended meanwhile
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find who is in the namespace: %w", err)
	}
	return st.Ino == desc.Stat.Ino && st.Dev == desc.Stat.Dev, nil
}

func dump(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	s, m, err := find(d, desc)
	if err != nil {
		return nil, err
	}
	if err := d.Out.Add(image.FilesExtra, "", &image.FileExtra{Id: desc.ID, NamespaceOf: uint32(m.vpid)}); err != nil {
		return nil, err
	}
	return &fdinfo.FileEntry{Nsf: &ns.NsFileEntry{
		Id: proto.Uint32(desc.ID), NsId: proto.Uint32(m.id), NsCflag: proto.Uint32(s.flag),
		Flags: proto.Uint32(desc.StatusFlags()),
	}}, nil
}

// restore opens it by a process that is in it: all are, from their birth on.
func restore(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	for _, s := range sorts {
		if s.flag != e.GetNsf().GetNsCflag() {
			continue
		}
		v := pidns.VPID(r.Extras[e.GetId()].GetNamespaceOf())
		host, ok := r.HostPID(v)
		if !ok {
			return nil, failure.Damagedf("the namespace of pid %d, which the image does not hold", v)
		}
		flags := e.GetNsf().GetFlags()
		fd, err := unix.Openat(int(r.HostProc.Fd()), fmt.Sprintf("%d/ns/%s", host, s.name), kind.OpenFlags(flags)&^unix.O_NOFOLLOW, 0)
		if err != nil {
			return nil, fmt.Errorf("open the %s namespace of pid %d: %w", s.name, v, err)
		}
		return kind.NewFile(fd, flags, "namespace")
	}
	return nil, failure.Damagedf("a namespace of sort %#x", e.GetNsf().GetNsCflag())
}
