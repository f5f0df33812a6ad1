// Package ghost is what files of any sort have in common when nothing leads to
// them any more but descriptors and mappings: their contents travel in the image
// (ghost-file-N.img, remap-fpath.img). Those of a symbolic link are where it leads.
package ghost

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	ghostfile "github.com/checkpoint-restore/go-criu/v7/crit/images/ghost-file"
	remap "github.com/checkpoint-restore/go-criu/v7/crit/images/remap-file-path"
	timeimg "github.com/checkpoint-restore/go-criu/v7/crit/images/time"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
)

// Saver saves each such file once, however many descriptions lead to it.
type Saver struct{ ids map[inode]uint32 }

type inode struct{ dev, ino uint64 }

// Refuse tells what cannot be saved: a file that still has a name, under which
// it was not found.
func Refuse(desc *kind.Desc, path string) error {
	if deleted, err := deletedAbove(desc); deleted || err != nil {
		return err
	}
	if desc.Stat.Nlink > 0 && desc.Stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return failure.WithHint(
			failure.Unsupportedf("%s was deleted, replaced or hidden by a mount, and the open file still has a name, which was not found", path),
			"put the file back under its name with a hard link, or let the program close it")
	}
	if desc.Stat.Mode&unix.S_IFMT == unix.S_IFDIR && desc.Stat.Nlink > 0 {
		return failure.WithHint(
			failure.Unsupportedf("the directory %s is not found where it was opened: it is hidden by a mount, or its mount is gone", path),
			"unmount what hides it, or let the program leave it")
	}
	return nil
}

// deletedAbove tells of a file of an overlay's lower layer that has been deleted
// in the overlay: stat(2) goes on to count the names that it has in its layer
// (ovl_getattr()).
func deletedAbove(desc *kind.Desc) (bool, error) {
	if !strings.HasSuffix(desc.Link, " (deleted)") {
		return false, nil
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(desc.File.Fd()), &fs); err != nil {
		return false, fmt.Errorf("find its file system: %w", err)
	}
	return fs.Type == unix.OVERLAYFS_SUPER_MAGIC, nil
}

// Save writes the file behind desc, and that the entry regID of files.img
// stands for it.
func (s *Saver) Save(d *kind.Dump, desc *kind.Desc, regID uint32) error {
	k := inode{desc.Stat.Dev, desc.Stat.Ino}
	id, ok := s.ids[k]
	if !ok {
		id = d.NewID("ghost")
		if err := save(d, desc, id); err != nil {
			return err
		}
		if s.ids == nil {
			s.ids = map[inode]uint32{}
		}
		s.ids[k] = id
	}
	return d.Out.Add(image.RemapFpath, "", &remap.RemapFilePathEntry{
		OrigId: proto.Uint32(regID), RemapId: proto.Uint32(id), RemapType: remap.RemapType_GHOST.Enum(),
	})
}

func save(d *kind.Dump, desc *kind.Desc, id uint32) error {
	st := &desc.Stat
	i, err := d.Inode(st)
	if err != nil {
		return err
	}
	e := &ghostfile.GhostFileEntry{
		Uid: proto.Uint32(i.GetUid()), Gid: proto.Uint32(i.GetGid()), Mode: proto.Uint32(st.Mode),
		Dev: proto.Uint32(unix.Major(st.Dev)<<20 | unix.Minor(st.Dev)), Ino: proto.Uint64(st.Ino),
		Atim: timeval(st.Atim), Mtim: timeval(st.Mtim),
	}
	var target []byte
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Chunks, e.Size = proto.Bool(true), proto.Uint64(uint64(st.Size))
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Rdev = proto.Uint32(uint32(st.Rdev))
	case unix.S_IFLNK:
		if target, err = targetOf(desc); err != nil {
			return err
		}
		e.Chunks, e.Size = proto.Bool(true), proto.Uint64(uint64(len(target)))
		e.SymlnkTarget = proto.String(string(target)) // where CRIU looks for it
	}
	out, err := d.Out.Raw(image.GhostFile, image.GhostFile.ID(uint64(id)), e)
	if err != nil {
		return err
	}
	defer out.Close()
	switch {
	case target != nil:
		return writeChunk(out, 0, bytes.NewReader(target), int64(len(target)))
	case st.Mode&unix.S_IFMT != unix.S_IFREG, st.Size == 0:
		return nil
	}
	in, err := open(desc)
	if err != nil {
		return err
	}
	defer in.Close()
	return copyData(out, in, st.Size)
}

// open gives a description of ckpt's own: seeking in the program's would move it.
func open(desc *kind.Desc) (*os.File, error) {
	in, err := desc.Reopen(unix.O_RDONLY | unix.O_NOATIME)
	if errors.Is(err, unix.EPERM) { // the file is somebody else's
		in, err = desc.Reopen(unix.O_RDONLY)
	}
	return in, err
}

// targetOf is where a symbolic link that is held itself leads.
func targetOf(desc *kind.Desc) ([]byte, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(desc.File.Fd()), "", b)
	if err != nil {
		return nil, fmt.Errorf("read where it leads: %w", err)
	}
	return b[:n], nil
}

func timeval(t unix.Timespec) *timeimg.Timeval {
	return &timeimg.Timeval{TvSec: proto.Uint64(uint64(t.Sec)), TvUsec: proto.Uint64(uint64(t.Nsec / 1000))}
}

// copyData writes the parts of in that are not holes, each behind its entry.
func copyData(out io.Writer, in *os.File, size int64) error {
	for at := int64(0); at < size; {
		from, err := in.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // a hole up to the end
		}
		if err != nil {
			return fmt.Errorf("find data (SEEK_DATA): %w", err)
		}
		to, err := in.Seek(from, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("find a hole (SEEK_HOLE): %w", err)
		}
		to = min(to, size)
		if _, err := in.Seek(from, io.SeekStart); err != nil {
			return fmt.Errorf("read its contents: %w", err)
		}
		if err := writeChunk(out, from, in, to-from); err != nil {
			return err
		}
		at = to
	}
	return nil
}

// writeChunk writes the next n bytes of in, which stand at off in the file,
// behind their entry.
func writeChunk(out io.Writer, off int64, in io.Reader, n int64) error {
	b, err := image.AppendEntry(nil, &ghostfile.GhostChunkEntry{Off: proto.Uint64(uint64(off)), Len: proto.Uint64(uint64(n))})
	if err != nil {
		return err
	}
	if _, err := out.Write(b); err != nil {
		return fmt.Errorf("write its contents: %w", err)
	}
	if _, err := io.CopyN(out, in, n); err != nil {
		return fmt.Errorf("copy its contents: %w", err)
	}
	return nil
}
