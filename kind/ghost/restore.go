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
	of   map[uint32]uint32   // ghost id by entry of files.img; nil: not read yet
	made map[uint32]*os.File // by ghost id, ckpt's own description
	own  map[uint32]bool     // its description made it with O_TMPFILE and is nobody's yet
	left map[uint32]int      // entries still to be made, by ghost id
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
	if x.left[id]--; x.left[id] <= 0 {
		f.Close()
	}
	return out, err
}

// Holds tells whether the image itself holds the file of that entry.
func (x *Restorer) Holds(r *kind.Restore, regID uint32) (bool, error) {
	err := x.read(r)
	_, ok := x.of[regID]
	return ok, err
}

// describe makes a description of f. That of a file made with O_TMPFILE is
// the one that made it, so that F_GETFL tells the next dump, too.
func (x *Restorer) describe(r *kind.Restore, id uint32, f *os.File, flags uint32) (*os.File, error) {
	if flags&tmpfile != 0 && flags&unix.O_ACCMODE == unix.O_RDWR && x.own[id] {
		delete(x.own, id)
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("duplicate %s: %w", f.Name(), err)
		}
		return kind.NewFile(fd, flags, f.Name())
	}
	return r.Reopen(f, flags)
}

func (x *Restorer) read(r *kind.Restore) error {
	if x.of != nil {
		return nil
	}
	x.of, x.made, x.left, x.own = map[uint32]uint32{}, map[uint32]*os.File{}, map[uint32]int{}, map[uint32]bool{}
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
	f := createTmp(path, e.GetMode(), flags)
	if f != nil {
		x.own[id] = true
	} else if f, err = create(path, id, e.GetMode()); err != nil {
		return nil, err
	}
	if err := fill(r, f, &e, extra, d); err != nil {
		f.Close()
		return nil, err
	}
	x.made[id] = f
	return f, nil
}

// tmpfile is the bit of O_TMPFILE that F_GETFL shows beside O_DIRECTORY's.
const tmpfile = unix.O_TMPFILE &^ unix.O_DIRECTORY

// createTmp makes a file that could get a name by linkat(2), and still can;
// nil where the file system has no such files, or the old one was none.
func createTmp(path string, mode, flags uint32) *os.File {
	if flags&tmpfile == 0 || mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	fd, err := unix.Open(filepath.Dir(path), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), path)
}

// create makes an empty file that nothing leads to. Its name is the old one
// for the instant between making and unlinking, since links in /proc go on
// showing it; where that is taken it is one beside it, and in the nearest
// directory above that still exists.
func create(path string, id, mode uint32) (*os.File, error) {
	name := path
	for tries := 0; ; {
		fd, err := createAt(name, mode)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil
		case errors.Is(err, unix.EEXIST) && tries < 100:
			tries++
			name = filepath.Join(filepath.Dir(name), fmt.Sprintf(".ckpt-ghost-%d-%d-%d", os.Getpid(), id, tries))
		case (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)) && filepath.Dir(name) != "/":
			name = filepath.Join(filepath.Dir(filepath.Dir(name)), filepath.Base(name))
		case mode&unix.S_IFMT == unix.S_IFREG && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS)):
			return createMemfd(path)
		default:
			return nil, failure.WithHint(fmt.Errorf("make the deleted file %s again: %w", path, err),
				"let ckpt write into "+filepath.Dir(name)+", if only for an instant")
		}
	}
}

// createMemfd makes a file where no directory can be written to, such as that
// of a library for an ordinary user. Only its link in /proc shows the difference.
func createMemfd(path string) (*os.File, error) {
	name := filepath.Base(path)
	name = name[:min(len(name), 249)] // memfd_create(2)
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before 6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("make the deleted file %s again (memfd_create): %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func createAt(name string, mode uint32) (fd int, err error) {
	const always = unix.O_NOFOLLOW | unix.O_CLOEXEC
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		fd, err = unix.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|always, 0o600)
		if err != nil {
			return 0, err
		}
		return fd, removeOr(fd, unix.Unlink(name))
	case unix.S_IFIFO:
		if err := unix.Mkfifo(name, 0o600); err != nil {
			return 0, err
		}
		fd, err = unix.Open(name, unix.O_RDWR|unix.O_NONBLOCK|always, 0)
		return fd, errors.Join(err, removeOr(fd, unix.Unlink(name)))
	case unix.S_IFDIR:
		if err := unix.Mkdir(name, 0o700); err != nil {
			return 0, err
		}
		fd, err = unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|always, 0)
		return fd, errors.Join(err, removeOr(fd, unix.Rmdir(name)))
	}
	return 0, failure.Damagedf("a deleted file of mode %#o", mode)
}

// removeOr closes fd when the file could not be unlinked again.
func removeOr(fd int, err error) error {
	if err != nil && fd >= 0 {
		unix.Close(fd)
	}
	return err
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
	if err := kind.SetInode(f, &image.Inode{Mode: e.GetMode(), Uid: e.GetUid(), Gid: e.GetGid()}); err != nil {
		return err
	}
	// Those that say who may do what are no good before owner and permissions.
	if err := setAttributes(f, extra.GetAttributes()); err != nil {
		return err
	}
	if e.Atim == nil || e.Mtim == nil {
		return nil
	}
	written := timespec(e.Mtim)
	if ns := extra.GetMtimeNs(); ns != 0 { // CRIU's has microseconds
		written = unix.NsecToTimespec(ns)
	}
	return r.SetTimes(f, timespec(e.Atim), written)
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
