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
	"ckpt/procfs"
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
// other names is looked for under these (Search), beside the one that is gone at
// first: sem_open(3) makes a file under a name of its own, links it to the real
// one, and goes on with what it has opened by the first. Not so a directory,
// which has one name, or a socket, to which only the one leads by which it was bound.
func (d *Dump) Path(desc *Desc) (name string, gone bool, err error) {
	name = desc.Link
	if !strings.HasPrefix(name, "/") {
		return "", false, failure.Unsupportedf("%s is no path of the container", name)
	}
	by := d.rootOf(desc)
	same, err := d.leadsTo(by, name, &desc.Stat)
	if err != nil || same {
		return name, !same, err
	}
	name = strings.TrimSuffix(name, deleted)
	switch mode := desc.Stat.Mode & unix.S_IFMT; {
	case desc.Stat.Nlink == 0, mode == unix.S_IFDIR, mode == unix.S_IFSOCK:
		return name, true, nil
	}
	mount := 0
	if desc.Info != nil {
		mount = desc.Info.MntID
	}
	other, err := d.OtherName(by, path.Dir(name), desc.Stat.Dev, desc.Stat.Ino, mount)
	if err != nil {
		return "", false, fmt.Errorf("look for another name of %s: %w", name, err)
	}
	if other == "" {
		return name, true, nil
	}
	return other, false, nil
}

// OtherName is Search for a file that has lost its name in the directory from.
// mount is the id of the mount that it was opened through; 0: not known.
func (d *Dump) OtherName(by pidns.HostPID, from string, dev, ino uint64, mount int) (string, error) {
	mounts, err := procfs.Mounts(int(by))
	if err != nil {
		return "", err
	}
	var devs []uint64
	for i := range mounts {
		if mounts[i].ID == mount {
			devs = append(devs, mounts[i].Dev)
		}
	}
	return d.Search(by, from, dev, ino, devs...)
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
