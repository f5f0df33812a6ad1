package ghost

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	ghostfile "github.com/checkpoint-restore/go-criu/v7/crit/images/ghost-file"
	remap "github.com/checkpoint-restore/go-criu/v7/crit/images/remap-file-path"
	timeimg "github.com/checkpoint-restore/go-criu/v7/crit/images/time"
	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/kind"
)

// Restorer makes each such file once.
type Restorer struct {
	of    map[uint32]uint32   // ghost id by entry of files.img; nil: not read yet
	made  map[uint32]*os.File // by ghost id, ckpt's own description
	own   map[uint32]bool     // its description made it with O_TMPFILE and is nobody's yet
	links map[uint32]bool     // symbolic links, by ghost id
	left  map[uint32]int      // entries still to be made, by ghost id
	asked map[uint32]bool     // those that Fits was asked for, by ghost id
	need  map[uint64]uint64   // bytes of these by file system (st_dev)
}

// Open makes the description of entry regID, which was found as path, if it
// stands for such a file; else it returns nil.
func (x *Restorer) Open(r *kind.Restore, regID uint32, path string, flags uint32) (*os.File, error) {
	if err := x.read(r); err != nil {
		return nil, err
	}
	id, ok := x.of[regID]
	if !ok {
		return nil, nil
	}
	f, err := x.base(r, id, path, flags, r.Extras[regID])
	if err != nil {
		return nil, err
	}
	out, err := x.describe(r, id, f, flags)
	if x.left[id]--; x.left[id] > 0 || err != nil {
		return out, err
	}
	defer f.Close()
	if err := setInodeFlags(r, f, r.Extras[regID].GetInodeFlags()); err != nil {
		out.Close()
		return nil, err
	}
	return out, nil
}

// Holds tells whether the image itself holds the file of that entry.
func (x *Restorer) Holds(r *kind.Restore, regID uint32) (bool, error) {
	err := x.read(r)
	_, ok := x.of[regID]
	return ok, err
}

// describe makes a description of f. That of a file made with O_TMPFILE is
// the one that made it, so that F_GETFL tells the next dump, too. All of a
// symbolic link are one, which has nothing of its own but O_NOFOLLOW: opened
// anew it would lose that.
func (x *Restorer) describe(r *kind.Restore, id uint32, f *os.File, flags uint32) (*os.File, error) {
	switch {
	case flags&tmpfile != 0 && x.own[id]:
		delete(x.own, id)
	case flags&unix.O_PATH != 0 && flags&unix.O_NOFOLLOW != 0 && x.links[id]:
	default:
		return r.Reopen(f, flags)
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate %s: %w", f.Name(), err)
	}
	return kind.NewFile(fd, flags, f.Name())
}

func (x *Restorer) read(r *kind.Restore) error {
	if x.of != nil {
		return nil
	}
	x.of, x.made, x.left = map[uint32]uint32{}, map[uint32]*os.File{}, map[uint32]int{}
	x.own, x.links = map[uint32]bool{}, map[uint32]bool{}
	return image.Each(r.In, image.RemapFpath, "", func(e *remap.RemapFilePathEntry, _ func(int) ([]byte, error)) error {
		if e.GetRemapType() != remap.RemapType_GHOST {
			if _, ours := r.Entries[e.GetOrigId()]; !ours {
				return nil
			}
			return failure.Unsupportedf("%s: images whose deleted files were kept by a hard link (criu --link-remap) or are of /proc are not restored",
				r.Entries[e.GetOrigId()].GetReg().GetName())
		}
		x.of[e.GetOrigId()] = e.GetRemapId()
		x.left[e.GetRemapId()]++
		return nil
	})
}

// base makes the file; extra is what its entry lacks, may be nil.
func (x *Restorer) base(r *kind.Restore, id uint32, path string, flags uint32, extra *image.FileExtra) (*os.File, error) {
	if f := x.made[id]; f != nil {
		return f, nil
	}
	d, err := r.In.Decode(image.GhostFile, image.GhostFile.ID(uint64(id)))
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, failure.Damagedf("%s is missing", image.GhostFile.Name(image.GhostFile.ID(uint64(id))))
	}
	defer d.Close()
	var e ghostfile.GhostFileEntry
	if err := d.Next(&e); err != nil {
		return nil, fmt.Errorf("read what the deleted file was: %w", err)
	}
	path = filepath.Clean("/" + path)
	target, err := readTarget(&e, d)
	if err != nil {
		return nil, err
	}
	f := createTmp(path, e.GetMode(), flags)
	if f != nil {
		x.own[id] = true
	} else if f, err = create(r, path, id, &e, target); err != nil {
		return nil, err
	}
	if err := fill(r, f, &e, extra, d); err != nil {
		f.Close()
		return nil, err
	}
	x.made[id] = f
	x.links[id] = e.GetMode()&unix.S_IFMT == unix.S_IFLNK
	return f, nil
}

// fill writes contents, owner, permissions, attributes and times.
func fill(r *kind.Restore, f *os.File, e *ghostfile.GhostFileEntry, extra *image.FileExtra, d *image.Decoder) error {
	var err error
	switch {
	case e.GetMode()&unix.S_IFMT != unix.S_IFREG:
	case e.GetChunks():
		err = fillChunks(f, int64(e.GetSize()), d)
	default: // criu writes small ones without holes, up to the end of the file
		err = fillPart(f, d, 0, d.Rest())
	}
	if err != nil {
		return fmt.Errorf("write the contents of %s: %w", f.Name(), err)
	}
	set := kind.SetInode
	if device(e.GetMode()) || e.GetMode()&unix.S_IFMT == unix.S_IFSOCK || e.GetMode()&unix.S_IFMT == unix.S_IFLNK {
		set = func(f *os.File, i *image.Inode) error { return setPathInode(r, f, i) }
	}
	if err := set(f, &image.Inode{Mode: e.GetMode(), Uid: e.GetUid(), Gid: e.GetGid()}); err != nil {
		return err
	}
	// Those that say who may do what are no good before owner and permissions.
	if err := setAttributes(f, extra.GetAttributes()); err != nil {
		return err
	}
	if e.Atim == nil || e.Mtim == nil {
		return nil
	}
	read, written := timespec(e.Atim), timespec(e.Mtim)
	if ns := extra.GetMtimeNs(); ns != 0 { // CRIU's are in microseconds
		written = unix.NsecToTimespec(ns)
	}
	if ns := extra.GetAtimeNs(); ns != 0 {
		read = unix.NsecToTimespec(ns)
	}
	return r.SetTimes(f, read, written)
}

// setPathInode is kind.SetInode for what is held by O_PATH.
func setPathInode(r *kind.Restore, f *os.File, i *image.Inode) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	if st.Uid != i.GetUid() || st.Gid != i.GetGid() {
		if err := unix.Fchownat(int(f.Fd()), "", int(i.GetUid()), int(i.GetGid()), unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("give %s to user %d, group %d: %w", f.Name(), i.GetUid(), i.GetGid(), err)
		}
	}
	if i.GetMode()&unix.S_IFMT == unix.S_IFLNK { // has no permissions of its own
		return nil
	}
	if err := unix.Fchmodat(int(r.HostProc.Fd()), fmt.Sprintf("thread-self/fd/%d", f.Fd()), i.GetMode()&^unix.S_IFMT, 0); err != nil {
		return fmt.Errorf("set the permissions of %s: %w", f.Name(), err)
	}
	return nil
}

func timespec(t *timeimg.Timeval) unix.Timespec {
	return unix.Timespec{Sec: int64(t.GetTvSec()), Nsec: int64(t.GetTvUsec()) * 1000}
}

func fillChunks(f *os.File, size int64, d *image.Decoder) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	for {
		var c ghostfile.GhostChunkEntry
		err := d.Next(&c)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		off, n := c.GetOff(), c.GetLen()
		if off > uint64(size) || n > uint64(size)-off {
			return failure.Damagedf("%d bytes at %d in a file of %d", n, off, size)
		}
		if err := fillPart(f, d, int64(off), int64(n)); err != nil {
			return err
		}
	}
}

func fillPart(f *os.File, d *image.Decoder, off, n int64) error {
	in, err := d.Stream(n)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.NewOffsetWriter(f, off), in)
	return err
}
