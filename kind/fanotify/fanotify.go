// Package fanotify saves fanotify(7) groups that are only told of events.
//
// What the kernel shows: fdinfo has the flags of the group, and a line for
// each mark: on a file, as inotify's; on a mount, by its id; on a file system,
// by its device (fs/notify/fdinfo.c).
//
// What is saved: flags, every mark; files by path, or, of a deleted one that a
// process has open, by that; mounts and file systems by a mount point; status
// flags, owner.
//
// What is lost: see Limits. Events not yet read cannot be put back: they are
// refused. So are groups that allow or deny what others do (FAN_OPEN_PERM and
// the like): whoever touches a marked file would wait for an answer of a
// program that is stopped, or not there yet, ckpt itself among them.
//
// Needs: CAP_SYS_ADMIN in the first user namespace, but for groups with
// FAN_REPORT_FID and marks on files.
package fanotify

import (
	"errors"
	"fmt"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fsnotify"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
	"ckpt/kind/watched"
)

const link = "anon_inode:[fanotify]"

// Kind is fanotify_init(2).
func Kind() kind.File {
	f := &watched.Finder{}
	return kind.File{
		Name:    "fanotify",
		Saves:   "groups that are told of events, with their marks on files, mounts and file systems",
		Refuses: "events that wait to be read; groups that are asked for permission",
		Needs:   "CAP_SYS_ADMIN, but for groups with FAN_REPORT_FID and marks on files",
		Type:    fdinfo.FdTypes_FANOTIFY,
		Owns:    func(d *kind.Desc) bool { return d.Link == link && !d.OnlyPath() },
		Refuse:  func(d *kind.Dump, desc *kind.Desc) error { return refuse(f, d, desc) },
		Dump:    func(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) { return dump(f, d, desc) },
		Move:    move,
		Restore: restore,
		Link:    addAll,
		Limits: "what happens between dump and restore is not reported, what ckpt itself does to marked mounts and file systems is; " +
			"a group with a mark on one of these loses the events that wait when it is saved",
	}
}

// look reads a group's marks and finds what they are on, and refuses what
// cannot be carried.
func look(f *watched.Finder, d *kind.Dump, desc *kind.Desc) (*group, error) {
	defer f.Close()
	g, err := parse(desc.Info.Lines)
	if err != nil {
		return nil, err
	}
	var files []watched.File
	var of []*mark
	for i := range g.marks {
		m := &g.marks[i]
		if m.mask&permission != 0 {
			return nil, failure.WithHint(failure.Unsupportedf("a fanotify group that is asked for permission: others, ckpt among them, would wait for its answers"),
				"stop the watching program before the dump")
		}
		if m.sort == onFile {
			m.file.What = fmt.Sprintf("fanotify: mark %d", i+1)
			files, of = append(files, m.file), append(of, m)
		}
	}
	// Those of a mark on all of a mount or file system are lost instead, with a
	// warning: there is always one, if only of ckpt's own doing.
	if !g.wide() {
		if err := watched.Queued(d, desc, "fanotify"); err != nil {
			return nil, err
		}
	}
	if err := g.findMounts(d); err != nil {
		return nil, err
	}
	places, err := f.Find(d, files)
	for i := range places {
		of[i].place = places[i]
	}
	return g, err
}

func dump(f *watched.Finder, d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	g, err := look(f, d, desc)
	if err != nil {
		return nil, err
	}
	owner, err := d.Owner(desc)
	if err != nil {
		return nil, err
	}
	e := &fsnotify.FanotifyFileEntry{Id: proto.Uint32(desc.ID), Flags: proto.Uint32(desc.StatusFlags()), Fown: owner,
		Faflags: proto.Uint32(g.flags), Evflags: proto.Uint32(g.eventFlags)}
	x := &image.FileExtra{Id: desc.ID}
	for i, m := range g.marks {
		e.Mark = append(e.Mark, m.entry(desc.ID))
		x.WatchedFiles = append(x.WatchedFiles, m.place.Open)
		if m.sort == onFilesystem {
			x.FilesystemMarks = append(x.FilesystemMarks, uint32(i))
		}
	}
	if len(g.marks) > 0 {
		if err := d.Out.Add(image.FilesExtra, "", x); err != nil {
			return nil, err
		}
	}
	tellLost(d, desc)
	return &fdinfo.FileEntry{Ffy: e}, nil
}

func refuse(f *watched.Finder, d *kind.Dump, desc *kind.Desc) error {
	_, err := look(f, d, desc)
	if err == nil && d.Out == nil {
		tellLost(d, desc)
	}
	return err
}

// tellLost tells of events that wait in a group where they are no obstacle.
func tellLost(d *kind.Dump, desc *kind.Desc) {
	if n, err := unix.IoctlGetInt(int(desc.File.Fd()), unix.TIOCINQ); err == nil && n > 0 {
		d.Lost(desc, "events that wait in a fanotify group are not saved")
	}
}

func restore(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	g := e.GetFfy()
	if g == nil {
		return nil, failure.Damagedf("a fanotify group without its entry")
	}
	fd, err := unix.FanotifyInit(uint(g.GetFaflags()), uint(g.GetEvflags()))
	if errors.Is(err, unix.EPERM) {
		return nil, failure.WithHint(failure.Unsupportedf("a fanotify group of this sort needs CAP_SYS_ADMIN"), "restore as root")
	}
	if err != nil {
		return nil, fmt.Errorf("make it (fanotify_init, flags %#x): %w", g.GetFaflags(), err)
	}
	unix.CloseOnExec(fd)
	f, err := kind.NewFile(fd, g.GetFlags(), link)
	if err != nil {
		return nil, err
	}
	if err := r.RestoreOwner(f, g.GetFown()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
