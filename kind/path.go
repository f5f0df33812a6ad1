package kind

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/pidns"
)

// deleted is what d_path() of the kernel adds to the name of a file that has
// been unlinked under that name.
const deleted = " (deleted)"

// Path is the name under which the container finds the file of desc. Whoever
// reads a link of /proc sees the name from the root of the file's mount
// namespace if its own root is not in it; that is the name from the root of
// the container's init, also for a process that has a root of its own. A file
// of the container's /proc shows its virtual pid.
//
// gone is true when nothing, or another file, is found there. A file that has
// other names is looked for in the directory of the one that is gone: sem_open(3)
// makes a file under a name of its own, links it to the real one, and goes on
// with what it has opened by the first.
func (d *Dump) Path(desc *Desc) (name string, gone bool, err error) {
	name = desc.Link
	if !strings.HasPrefix(name, "/") {
		return "", false, failure.Unsupportedf("%s is no path of the container", name)
	}
	same, err := d.leadsTo(d.rootOf(desc), name, &desc.Stat)
	if err != nil || same {
		return name, !same, err
	}
	name = strings.TrimSuffix(name, deleted)
	if desc.Stat.Nlink == 0 || desc.Stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return name, true, nil
	}
	other, err := d.otherName(d.rootOf(desc), name, func(st *unix.Stat_t) bool { return st.Dev == desc.Stat.Dev && st.Ino == desc.Stat.Ino })
	if err != nil || other == "" {
		return name, true, err
	}
	return other, false, nil
}

// OtherName looks in the directory of path for a name of a regular file; "":
// there is none.
func (d *Dump) OtherName(name string, is func(*unix.Stat_t) bool) (string, error) {
	return d.otherName(d.Home, name, is)
}

func (d *Dump) otherName(root pidns.HostPID, name string, is func(*unix.Stat_t) bool) (string, error) {
	fd, err := d.open(root, path.Dir(name), unix.O_RDONLY|unix.O_DIRECTORY)
	if absent(err) || errors.Is(err, unix.EACCES) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look for another name of %s: %w", name, err)
	}
	dir := os.NewFile(uintptr(fd), path.Dir(name))
	defer dir.Close()
	all, err := dir.ReadDir(-1)
	if err != nil {
		return "", fmt.Errorf("look for another name of %s: %w", name, err)
	}
	for _, e := range all {
		var st unix.Stat_t
		if e.Type().IsRegular() && unix.Fstatat(fd, e.Name(), &st, unix.AT_SYMLINK_NOFOLLOW) == nil && is(&st) {
			return path.Join(path.Dir(name), e.Name()), nil
		}
	}
	return "", nil
}

// rootOf is a process that finds the file of desc under its name.
func (d *Dump) rootOf(desc *Desc) pidns.HostPID {
	if d.MountsOf == nil || desc.Info == nil {
		return d.Home
	}
	return d.MountsOf(desc)
}

// open opens a name as a process finds it.
func (d *Dump) open(by pidns.HostPID, name string, flags uint64) (int, error) {
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", by), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the container's root: %w", err)
	}
	defer root.Close()
	how := unix.OpenHow{Flags: flags | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	return unix.Openat2(int(root.Fd()), name, &how)
}

// absent: no file is found under a name.
func absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENAMETOOLONG) || errors.Is(err, unix.ELOOP)
}

func (d *Dump) leadsTo(by pidns.HostPID, name string, want *unix.Stat_t) (bool, error) {
	fd, err := d.open(by, name, unix.O_PATH)
	if absent(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up %s: %w", name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, fmt.Errorf("stat %s: %w", name, err)
	}
	return st.Dev == want.Dev && st.Ino == want.Ino && st.Mode&unix.S_IFMT == want.Mode&unix.S_IFMT, nil
}
