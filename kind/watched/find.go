package watched

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ckpt/kind"
	"ckpt/procfs"
)

// find looks for the file by its handle, among the open files of the
// container, and, where the handle tells nothing, everywhere.
func (f *Finder) find(d *kind.Dump, w *File) (Place, error) {
	dirs, err := f.rootsOf(d, w.Dev)
	if err != nil {
		return Place{}, err
	}
	told := false
	for _, dir := range dirs {
		path, known, err := through(d, dir, w)
		if path != "" || err != nil {
			return Place{Path: path}, err
		}
		told = told || known
	}
	if p, err := open(d, w); err != nil || p != (Place{}) {
		return p, err
	}
	if told {
		return Place{}, refusef("%s is of a file that has been deleted, and that no process has open", w.What)
	}
	path, err := d.Search(d.Home, "", unix.Mkdev(w.Dev>>20, w.Dev&(1<<20-1)), w.Ino)
	if path != "" || err != nil {
		return Place{Path: path}, err
	}
	return Place{}, refusef("%s is of a file that the container does not see under any path (inode %d)", w.What, w.Ino)
}

// through looks for the file in one mount. path is "" where it is not seen
// there; known: the handle is one of a file.
func through(d *kind.Dump, dir *os.File, w *File) (path string, known bool, err error) {
	if len(w.Handle) == 0 || len(w.Handle) > mostHandle {
		return "", false, nil
	}
	if err := unix.Fchdir(int(dir.Fd())); err != nil {
		return "", false, fmt.Errorf("go to %s: %w", dir.Name(), err)
	}
	fd, err := unix.OpenByHandleAt(unix.AT_FDCWD, unix.NewFileHandle(w.Type, w.Handle), unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW)
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ESTALE), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return "", false, nil // only root may; or this file system has none that lead back
	case err != nil:
		return "", false, fmt.Errorf("find the file of %s (open_by_handle_at): %w", w.What, err)
	}
	defer unix.Close(fd)
	desc := &kind.Desc{}
	if desc.Link, err = os.Readlink(fmt.Sprintf("/proc/thread-self/fd/%d", fd)); err != nil {
		return "", false, fmt.Errorf("find the file of %s: %w", w.What, err)
	}
	if err := unix.Fstat(fd, &desc.Stat); err != nil {
		return "", false, fmt.Errorf("stat the file of %s: %w", w.What, err)
	}
	path, gone, err := d.Path(desc)
	if gone {
		path = ""
	}
	return path, true, err
}

// open looks for the file among those that the container has open.
func open(d *kind.Dump, w *File) (Place, error) {
	for _, p := range d.Procs {
		for _, fd := range p.Fds {
			if inodeOf(&fd.Desc.Stat) != (inode{w.Dev, w.Ino}) {
				continue
			}
			if d.MountsOf == nil || d.MountsOf(fd.Desc) == d.ContainerHome {
				if path, gone, err := d.Path(fd.Desc); err == nil && !gone {
					return Place{Path: path}, nil
				}
			}
			return Place{Open: fd.Desc.ID}, nil
		}
	}
	return Place{}, nil
}

// rootsOf finds the mounts of device dev in the container.
func (f *Finder) rootsOf(d *kind.Dump, dev uint32) ([]*os.File, error) {
	if dirs, ok := f.roots[dev]; ok {
		return dirs, nil
	}
	home, err := procfs.Open(int(d.Home))
	if err != nil {
		return nil, err
	}
	defer home.Close()
	mounts, err := home.MountInfo()
	if err != nil {
		return nil, err
	}
	var dirs []*os.File
	for _, m := range mounts {
		if unix.Major(m.Dev)<<20|unix.Minor(m.Dev) != dev {
			continue
		}
		dir, err := home.OpenFile("root"+m.Point, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			continue // another mount hides it, or it is of a file
		}
		if id, err := mountOf(dir); err != nil || id != m.ID {
			dir.Close()
			continue
		}
		dirs = append(dirs, dir)
	}
	if f.roots == nil {
		f.roots = map[uint32][]*os.File{}
	}
	f.roots[dev] = dirs
	return dirs, nil
}

func mountOf(f *os.File) (int, error) {
	self, err := procfs.Open(os.Getpid())
	if err != nil {
		return 0, err
	}
	defer self.Close()
	info, err := self.FDInfo(int(f.Fd()))
	if err != nil {
		return 0, err
	}
	return info.MntID, nil
}
