package kind

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"ckpt/failure"
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
// gone is true when nothing, or another file, is found there.
func (d *Dump) Path(desc *Desc) (path string, gone bool, err error) {
	path = desc.Link
	if !strings.HasPrefix(path, "/") {
		return "", false, failure.Unsupportedf("%s is no path of the container", path)
	}
	same, err := d.leadsTo(path, &desc.Stat)
	if err != nil || same {
		return path, !same, err
	}
	return strings.TrimSuffix(path, deleted), true, nil
}

func (d *Dump) leadsTo(path string, want *unix.Stat_t) (bool, error) {
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", d.InitHost), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("open the container's root: %w", err)
	}
	defer root.Close()
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(int(root.Fd()), path, &how)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.ELOOP):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look up %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, fmt.Errorf("stat %s: %w", path, err)
	}
	return st.Dev == want.Dev && st.Ino == want.Ino && st.Mode&unix.S_IFMT == want.Mode&unix.S_IFMT, nil
}
