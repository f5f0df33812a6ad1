package image

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/failure"
)

// target is where an image is written to: a directory, or a stream.
type target interface {
	// create makes a file, to be written and read.
	create(name string) (*os.File, error)
	// ended says that nothing more is written to a file that create has made. To
	// say it twice does no harm.
	ended(f *os.File) error
	// put makes a whole file.
	put(name string, b []byte) error
	// reopen opens a file that has ended, for reading.
	reopen(name string) (*stored, error)
	mkdir(name string) error
	link(to, name string) error
	// pathOfParent is the way to an image's directory from that of this one.
	pathOfParent(*Reader) (string, error)
	// where is the file or directory that is written to, as the user knows it.
	where() string
	// finish makes the image durable, and gives it its place: before, there is
	// none. names are all files, the manifest last, of size bytes together.
	finish(names []string, size uint64, progress *Progress) error
	// retract takes that back, so that abort finds it, where it can be.
	retract() error
	// abort leaves nothing, unless finish has succeeded. close comes after either.
	abort() error
	close()
}

// folder is a directory that is written as DIR.partial.
type folder struct {
	*place
	dir    *os.File // DIR.partial, locked as long as it is open
	levels []string // directories in it
}

func (f *folder) where() string { return f.path }

func (f *folder) create(name string) (*os.File, error) {
	fd, err := unix.Openat(int(f.dir.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, writeError(name, f.path, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (f *folder) ended(file *os.File) error {
	if err := file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return writeError(file.Name(), f.path, err)
	}
	return nil
}

func (f *folder) put(name string, b []byte) error {
	file, err := f.create(name)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(b); err != nil {
		return writeError(name, f.path, err)
	}
	return f.ended(file)
}

func (f *folder) reopen(name string) (*stored, error) {
	fd, err := unix.Openat(int(f.dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, failure.OnDisk(fmt.Errorf("open %s: %w", name, err), f.path)
	}
	file := os.NewFile(uintptr(fd), name)
	st, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, failure.OnDisk(fmt.Errorf("stat %s: %w", name, err), f.path)
	}
	return &stored{file: file, size: st.Size()}, nil
}

func (f *folder) mkdir(name string) error {
	if err := unix.Mkdirat(int(f.dir.Fd()), name, 0o700); err != nil {
		return writeError(name, f.path, err)
	}
	f.levels = append(f.levels, name)
	return nil
}

func (f *folder) link(to, name string) error {
	if err := unix.Symlinkat(to, int(f.dir.Fd()), name); err != nil {
		return writeError(name, f.path, err)
	}
	return nil
}

func (f *folder) finish(names []string, size uint64, progress *Progress) error {
	phase := progress.Begin(PhaseDisk, size)
	if err := f.sync(names); err != nil {
		return err
	}
	if err := f.place.finish(); err != nil {
		return err
	}
	phase.Add(size)
	phase.End()
	return nil
}

// sync makes all files and their directory durable: by one syncfs(2), since
// an fsync each costs a commit of the journal each.
func (f *folder) sync(names []string) error {
	fd := int(f.dir.Fd())
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return failure.OnDisk(fmt.Errorf("statfs %s: %w", f.dir.Name(), err), f.path)
	}
	switch uint32(st.Type) {
	case unix.FUSE_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.V9FS_MAGIC:
		// syncfs(2) does not reach the server there.
		for _, name := range append(f.levels, names...) {
			if err := f.syncOne(name); err != nil {
				return err
			}
		}
	default:
		if err := unix.Syncfs(fd); err != nil {
			return writeError("the image to disk", f.path, err)
		}
	}
	if err := unix.Fsync(fd); err != nil && !errors.Is(err, unix.EINVAL) {
		return writeError(f.dir.Name(), f.path, err)
	}
	return nil
}

func (f *folder) syncOne(name string) error {
	s, err := f.reopen(name)
	if err != nil {
		return err
	}
	err = s.file.Sync()
	_ = s.Close()
	if err != nil {
		return writeError(name, f.path, err)
	}
	return nil
}

func (f *folder) abort() error {
	_, err := f.dir.Seek(0, 0)
	if err == nil {
		err = removeImage(f.dir)
	}
	if err == nil {
		err = unix.Unlinkat(int(f.parent.Fd()), f.name+partial, unix.AT_REMOVEDIR)
	}
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return failure.WithHint(fmt.Errorf("remove %s: %w", f.dir.Name(), failure.WithoutPath(err)),
		"it is no image: remove it, or dump to that name again: rm -r "+failure.Quote(f.dir.Name()))
}

func (f *folder) close() {
	_ = f.dir.Close()
	f.place.close()
}
