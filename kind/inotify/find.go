package inotify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fh"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"ckpt/failure"
	"ckpt/kernel"
	"ckpt/kind"
	"ckpt/procfs"
)

// watch is one file watched.
type watch struct {
	wd     int
	ino    uint64
	dev    uint32 // as the kernel encodes it: major<<20 | minor
	mask   uint32
	typ    int32 // of the handle
	handle []byte
	path   string
}

// handleEntry: CRIU keeps a handle in words of 8 bytes, 16 of them
// (FH_ENTRY_SIZES__min_entries).
func (w *watch) handleEntry() *fh.FhEntry {
	b := append(make([]byte, 0, 128), w.handle...)
	b = b[:128]
	e := &fh.FhEntry{Bytes: proto.Uint32(uint32(len(w.handle))), Type: proto.Uint32(uint32(w.typ)), Path: proto.String(w.path)}
	for ; len(b) > 0; b = b[8:] {
		e.Handle = append(e.Handle, binary.NativeEndian.Uint64(b))
	}
	return e
}

// finder opens files by handle: through any directory of the same file system.
type finder struct {
	mounts []procfs.Mount
	dirs   map[uint32][]*os.File // roots of mounts, by device
}

func (f *finder) close() {
	for _, dirs := range f.dirs {
		for _, d := range dirs {
			d.Close()
		}
	}
	f.dirs, f.mounts = nil, nil
}

// findAll sets the path of each watch. It runs on a thread with a working
// directory of its own, which open_by_handle_at(2) takes as the mount: any
// other descriptor for it would have to be opened for reading, an event for
// who watches the directory.
func (f *finder) findAll(d *kind.Dump, ws []watch) error {
	if len(ws) == 0 {
		return nil
	}
	return kernel.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("get a working directory (unshare): %w", err)
		}
		var refused []error
		for i := range ws {
			var err error
			if ws[i].path, err = f.find(d, &ws[i]); err != nil {
				refused = append(refused, err)
			}
		}
		return errors.Join(refused...)
	})
}

// find is the path of the file that w watches, through the first mount in
// which it can be seen.
func (f *finder) find(d *kind.Dump, w *watch) (string, error) {
	if len(w.handle) == 0 || len(w.handle) > 128 {
		return "", refusef("watch %d is of a file that the kernel has no handle for (inode %d)", w.wd, w.ino)
	}
	dirs, err := f.roots(d, w.dev)
	if err != nil {
		return "", err
	}
	for _, dir := range dirs {
		path, err := through(d, dir, w)
		if path != "" || err != nil {
			return path, err
		}
	}
	return "", refusef("watch %d is of a file that the container does not see under any path, deleted perhaps", w.wd)
}

func refusef(format string, args ...any) error {
	return failure.WithHint(failure.Unsupportedf("inotify: "+format, args...), "remove the watch (inotify_rm_watch) before the dump")
}

// through looks for the file in one mount; "": it is not seen there.
func through(d *kind.Dump, dir *os.File, w *watch) (string, error) {
	if err := unix.Fchdir(int(dir.Fd())); err != nil {
		return "", fmt.Errorf("go to %s: %w", dir.Name(), err)
	}
	fd, err := unix.OpenByHandleAt(unix.AT_FDCWD, unix.NewFileHandle(w.typ, w.handle), unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW)
	switch {
	case errors.Is(err, unix.EPERM):
		return "", failure.WithHint(failure.Unsupportedf("inotify: which file watch %d is of, only root can find out (open_by_handle_at)", w.wd), "dump as root")
	case errors.Is(err, unix.ESTALE):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("find the file of watch %d (open_by_handle_at): %w", w.wd, err)
	}
	defer unix.Close(fd)
	desc := &kind.Desc{}
	if desc.Link, err = os.Readlink(fmt.Sprintf("/proc/thread-self/fd/%d", fd)); err != nil {
		return "", fmt.Errorf("find the file of watch %d: %w", w.wd, err)
	}
	if err := unix.Fstat(fd, &desc.Stat); err != nil {
		return "", fmt.Errorf("stat the file of watch %d: %w", w.wd, err)
	}
	path, gone, err := d.Path(desc)
	if err != nil || gone {
		return "", err
	}
	return path, nil
}

// roots finds the mounts of device dev in the container.
func (f *finder) roots(d *kind.Dump, dev uint32) ([]*os.File, error) {
	if dirs, ok := f.dirs[dev]; ok {
		return dirs, nil
	}
	init, err := procfs.Open(int(d.Home))
	if err != nil {
		return nil, err
	}
	defer init.Close()
	self, err := procfs.Open(os.Getpid())
	if err != nil {
		return nil, err
	}
	defer self.Close()
	if f.mounts == nil {
		f.dirs = map[uint32][]*os.File{}
		if f.mounts, err = init.MountInfo(); err != nil {
			return nil, err
		}
	}
	f.dirs[dev] = nil
	for _, m := range f.mounts {
		if unix.Major(m.Dev)<<20|unix.Minor(m.Dev) != dev {
			continue
		}
		dir, err := init.OpenFile("root"+m.Point, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			continue // another mount hides it, or it is of a file
		}
		if info, err := self.FDInfo(int(dir.Fd())); err != nil || info.MntID != m.ID {
			dir.Close()
			continue
		}
		f.dirs[dev] = append(f.dirs[dev], dir)
	}
	return f.dirs[dev], nil
}
