// Package signalfd saves descriptors of signalfd(2).
//
// What the kernel shows: the mask, as sigmask in fdinfo.
//
// What is saved: the mask, status flags, owner. A signalfd holds no signal:
// it reads those pending for whoever reads it.
//
// What is lost: nothing.
//
// Needs: nothing beyond signalfd4(2).
package signalfd

import (
	"fmt"
	"os"
	"strconv"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/signalfd"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/kind"
)

const link = "anon_inode:[signalfd]"

// Kind is signalfd(2).
func Kind() kind.File {
	return kind.File{
		Name:    "signalfd",
		Saves:   "the mask, flags, owner",
		Type:    fdinfo.FdTypes_SIGNALFD,
		Owns:    func(d *kind.Desc) bool { return d.Link == link && !d.OnlyPath() },
		Refuse:  func(_ *kind.Dump, d *kind.Desc) error { _, err := mask(d); return err },
		Dump:    dump,
		Restore: restore,
	}
}

func mask(d *kind.Desc) (uint64, error) {
	s, _ := d.InfoLine("sigmask")
	m, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		return 0, fmt.Errorf("read its mask from fdinfo: %w", err)
	}
	return m, nil
}

func dump(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	m, err := mask(desc)
	if err != nil {
		return nil, err
	}
	owner, err := d.Owner(desc)
	if err != nil {
		return nil, err
	}
	return &fdinfo.FileEntry{Sgfd: &signalfd.SignalfdEntry{
		Id: proto.Uint32(desc.ID), Flags: proto.Uint32(desc.StatusFlags()), Fown: owner, Sigmask: proto.Uint64(m),
	}}, nil
}

func restore(r *kind.Restore, e *fdinfo.FileEntry) (*os.File, error) {
	s := e.GetSgfd()
	if s == nil {
		return nil, failure.Damagedf("a signalfd without its entry")
	}
	fd, err := unix.Signalfd(-1, &unix.Sigset_t{Val: [16]uint64{s.GetSigmask()}}, unix.SFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make it (signalfd4): %w", err)
	}
	f, err := kind.NewFile(fd, s.GetFlags(), link)
	if err != nil {
		return nil, err
	}
	if err := r.RestoreOwner(f, s.GetFown()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
