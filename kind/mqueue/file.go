package mqueue

import (
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	ext_file "github.com/checkpoint-restore/go-criu/v7/crit/images/ext-file"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/regfile"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
)

// deleted is what /proc shows behind a name that is gone.
const deleted = " (deleted)"

// restores: CRIU knows no message queues. To it this is a file from elsewhere,
// which it does not bring back; the entry of a regular file in it is ours.
func restores(e *fdinfo.FileEntry) bool { return e.GetReg() != nil }

// refuse refuses a queue that is not the container's.
func (w *world) refuse(d *kind.Dump, desc *kind.Desc) error {
	w.descs = append(w.descs, desc)
	own, err := d.OwnNamespace("ipc")
	if err != nil {
		return err
	}
	if own && d.Inside != nil && w.dev == 0 {
		if err := w.mount(d); err != nil {
			return err
		}
	}
	if !own || w.dev != 0 && desc.Stat.Dev != w.dev {
		return failure.WithHint(failure.Unsupportedf("the message queue %s, which is not of the container's ipc namespace", desc.Link), "close it before the dump")
	}
	return nil
}

func (w *world) dumpFile(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	q := w.byInode(desc.Stat.Ino)
	if q == nil || desc.Stat.Dev != w.dev {
		// One on its way in a socket, which nobody else has.
		return nil, failure.WithHint(failure.Unsupportedf("the message queue %s, which has no name in the container's ipc namespace and is held by no process", desc.Link),
			"let the descriptor be received before the dump")
	}
	owner, err := d.PathOwner(desc)
	if err != nil {
		return nil, err
	}
	flags, err := unix.FcntlInt(desc.File.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return nil, fmt.Errorf("read its status flags: %w", err)
	}
	if err := d.Out.Add(image.FilesExtra, "", &image.FileExtra{Id: desc.ID, MessageQueue: q.e.Id}); err != nil {
		return nil, err
	}
	return &fdinfo.FileEntry{
		Ext: &ext_file.ExtFileEntry{Id: proto.Uint32(desc.ID), Fown: owner},
		Reg: &regfile.RegFileEntry{Id: proto.Uint32(desc.ID), Flags: proto.Uint32(uint32(flags)), Pos: proto.Uint64(uint64(desc.Info.Pos)), Fown: owner, Name: proto.String(strings.TrimSuffix(desc.Link, deleted))},
	}, nil
}

// nameOf is the name of the queue behind a descriptor: the link in /proc has
// that of the mount point before it, unless it was opened by mq_open(3).
func nameOf(desc *kind.Desc) string { return path.Base(strings.TrimSuffix(desc.Link, deleted)) }

// byName opens a queue through a mounted file system, as it was; nil: it has no
// name there.
func byName(q *os.File, reg *regfile.RegFileEntry) *os.File {
	if path.Dir(reg.GetName()) == "/" {
		return nil // mq_open(3)
	}
	fd, err := unix.Open(reg.GetName(), kind.OpenFlags(reg.GetFlags())|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	var its, ours unix.Stat_t
	if unix.Fstat(fd, &its) != nil || unix.Fstat(int(q.Fd()), &ours) != nil || its.Dev != ours.Dev || its.Ino != ours.Ino {
		_ = unix.Close(fd)
		return nil
	}
	f, err := kind.NewFile(fd, reg.GetFlags(), reg.GetName())
	if err != nil {
		return nil
	}
	return f
}

// open is a descriptor's open file description.
func (m *maker) open(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	id := r.Extras[e.GetId()].GetMessageQueue()
	q := m.files[id]
	if q == nil {
		return nil, failure.Damagedf("a descriptor of message queue %d, which the image does not hold", id)
	}
	reg := e.GetReg()
	f := m.opened[e.GetId()]
	if delete(m.opened, e.GetId()); f == nil {
		f = byName(q, reg)
	}
	if f == nil {
		var err error
		if f, err = r.Reopen(q, reg.GetFlags()); err != nil {
			return nil, err
		}
	}
	if reg.GetFlags()&unix.O_PATH != 0 {
		return f, nil
	}
	if _, err := f.Seek(int64(reg.GetPos()), io.SeekStart); err != nil {
		f.Close()
		return nil, fmt.Errorf("set the position of %s: %w", reg.GetName(), err)
	}
	if err := r.RestoreOwner(f, reg.GetFown()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
