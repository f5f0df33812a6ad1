// Package memfd saves files made by memfd_create(2), open or mapped.
//
// What the kernel shows: the link is "/memfd:NAME (deleted)"; F_GET_SEALS the
// seals; the file system its huge pages; contents by pread(2).
//
// What is saved: name, size, seals, owner and permissions, huge page size and
// contents (holes stay holes) once a file; flags, position and owner
// (F_SETOWN) of each description.
//
// Shared anonymous memory that is open as a file comes back as a memfd.
//
// What is lost: see Limits.
//
// Needs: nothing beyond memfd_create(2).
package memfd

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	memfdimg "github.com/checkpoint-restore/go-criu/v7/crit/images/memfd"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
)

const (
	prefix = "/memfd:"
	suffix = " (deleted)"
	// anonymous is the link of memory by MAP_SHARED|MAP_ANONYMOUS.
	anonymous = "/dev/zero" + suffix
)

// Kind is memfd_create(2). It comes before kind/regfile, to which a memfd is
// a deleted file.
func Kind() kind.File {
	s := &saver{ids: map[inode]uint32{}}
	r := &restorer{}
	return kind.File{
		Name:    "memfd",
		Saves:   "name, contents with their holes, seals, size of huge pages, owner and permissions, times of the last reading and writing",
		Refuses: "a lease on one",
		Type:    fdinfo.FdTypes_MEMFD,
		Owns:    owns,
		Refuse:  refuse,
		Dump:    s.dump,
		Restore: r.restore,
		Limits:  "opened shared anonymous memory (/dev/zero) shows as /memfd:/dev/zero",
	}
}

// owns: the name alone would do for an ordinary file that was deleted, too.
// Shared anonymous memory, opened through /proc/PID/map_files, is the same by
// another name.
func owns(d *kind.Desc) bool {
	if d.Stat.Mode&unix.S_IFMT != unix.S_IFREG || d.Stat.Nlink != 0 || !strings.HasPrefix(d.Link, prefix) && d.Link != anonymous {
		return false
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(d.File.Fd()), &fs); err != nil {
		return false
	}
	return int64(fs.Type) == unix.TMPFS_MAGIC || int64(fs.Type) == unix.HUGETLBFS_MAGIC
}

func refuse(_ *kind.Dump, d *kind.Desc) error {
	for _, l := range d.Info.Lines {
		if strings.HasPrefix(l, "lock:") && strings.Contains(l, "LEASE") {
			return failure.WithHint(failure.Unsupportedf("a lease (F_SETLEASE) on a memfd, whose contents cannot be read without breaking it"),
				"let the program give the lease up before the dump")
		}
	}
	return nil
}

type inode struct{ dev, ino uint64 }

type saver struct{ ids map[inode]uint32 }

func (s *saver) dump(d *kind.Dump, desc *kind.Desc) (*fdinfo.FileEntry, error) {
	if err := refuse(d, desc); err != nil {
		return nil, err
	}
	k := inode{desc.Stat.Dev, desc.Stat.Ino}
	id, ok := s.ids[k]
	if !ok {
		id = d.NewID("memfd")
		if err := saveInode(d, desc, id); err != nil {
			return nil, err
		}
		s.ids[k] = id
	}
	owner, err := d.PathOwner(desc)
	if err != nil {
		return nil, err
	}
	return &fdinfo.FileEntry{Memfd: &memfdimg.MemfdFileEntry{
		Id: proto.Uint32(desc.ID), Flags: proto.Uint32(desc.StatusFlags()), Pos: proto.Uint64(uint64(desc.Info.Pos)),
		Fown: owner, InodeId: proto.Uint32(id),
	}}, nil
}

// saveInode saves the file itself. What CRIU's message has no field for goes
// with the first description of it.
func saveInode(d *kind.Dump, desc *kind.Desc, id uint32) error {
	// A description of ckpt's own: it can read, and seeking moves no other.
	f, err := desc.Reopen(unix.O_RDONLY | unix.O_NOATIME)
	if errors.Is(err, unix.EPERM) { // the file is somebody else's
		f, err = desc.Reopen(unix.O_RDONLY)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil {
		return fmt.Errorf("read its seals: %w", err)
	}
	i, err := d.Inode(&desc.Stat)
	if err != nil {
		return err
	}
	e := &memfdimg.MemfdInodeEntry{
		Name: proto.String(strings.TrimSuffix(strings.TrimPrefix(desc.Link, prefix), suffix)),
		Uid:  proto.Uint32(i.GetUid()), Gid: proto.Uint32(i.GetGid()), Size: proto.Uint64(uint64(desc.Stat.Size)),
		Shmid: proto.Uint32(d.NewID("shmem")), Seals: proto.Uint32(uint32(seals)), InodeId: proto.Uint64(uint64(id)),
	}
	huge, err := hugePage(f)
	if err != nil {
		return err
	}
	if huge != 0 {
		e.HugetlbFlag = proto.Uint32(unix.MFD_HUGETLB | uint32(bits.TrailingZeros64(huge))<<unix.MFD_HUGE_SHIFT)
	}
	if err := d.Out.Add(image.FilesExtra, "", &image.FileExtra{Id: desc.ID, Inode: i, MtimeNs: desc.Stat.Mtim.Nano(), AtimeNs: desc.Stat.Atim.Nano()}); err != nil {
		return err
	}
	if err := d.Out.Add(image.MemfdInode, "", e); err != nil {
		return err
	}
	return savePages(d.Out, f, desc.Stat.Size, e.GetShmid(), huge)
}
